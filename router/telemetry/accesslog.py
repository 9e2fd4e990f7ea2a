"""The access log: one JSON line per exchange, encoded where it ended, written elsewhere.

A worker appends lines to a bounded ring and hands them over on a timer; control writes them from
a thread of its own, so that a stuck pipe or disk stops neither. What does not fit is dropped and
counted, never waited for. Prompts and answers are never part of a line.
"""

import queue
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import msgspec

from router.telemetry.record import ExchangeRecord

RING_BYTES = 4 * 1024 * 1024
_STOP = b""
_REOPEN = b"\0"


class AccessRing:
    """Lines waiting to be handed over.

    Args:
        limit: bytes kept at most; a line beyond it is dropped.
    """

    def __init__(self, limit: int = RING_BYTES) -> None:
        self._limit = limit
        self._lines: list[bytes] = []
        self._bytes = 0
        self.dropped = 0

    def append(self, record: ExchangeRecord) -> None:
        line = encode_line(record)
        if self._bytes + len(line) > self._limit:
            self.dropped += 1
            return
        self._lines.append(line)
        self._bytes += len(line)

    def take(self) -> bytes:
        """All lines, and forget them."""
        data = b"".join(self._lines)
        self._lines.clear()
        self._bytes = 0
        return data


_encoder = msgspec.json.Encoder()
_DIGITS = 6  # microseconds


def encode_line(record: ExchangeRecord) -> bytes:
    """One line with its newline. Durations in seconds, time of arrival in UTC."""
    started = datetime.fromtimestamp(record.started_at, UTC)
    fields: dict[str, object] = {
        "time": started.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    }
    fields |= {
        name: round(value, _DIGITS) if isinstance(value, float) else value
        for name, value in msgspec.structs.asdict(record).items()
        if name != "started_at"
    }
    return _encoder.encode(fields) + b"\n"


class AccessWriter:
    """Writes lines to a file from a thread.

    Args:
        path: file to append to; None: ``stream``.
        stream: binary stream used where there is no path; not closed.
        limit: batches waiting at most.

    Raises:
        OSError: if the file cannot be opened.
    """

    def __init__(
        self, path: Path | None = None, stream: IO[bytes] | None = None, limit: int = 256
    ) -> None:
        self._path = path
        self._stream = stream if path is None else path.open("ab")
        self._queue: queue.Queue[bytes] = queue.Queue(limit)
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, lines: bytes) -> None:
        """Queue whole lines; drops and counts them if the writer is that far behind."""
        try:
            self._queue.put_nowait(lines)
        except queue.Full:
            self.dropped += lines.count(b"\n")

    def reopen(self) -> None:
        """Open the path anew, after it was rotated."""
        try:
            self._queue.put_nowait(_REOPEN)
        except queue.Full:
            return

    def close(self, timeout: float = 2.0) -> None:
        """Write what is queued and stop; gives up after ``timeout`` seconds."""
        try:
            self._queue.put(_STOP, timeout=timeout)
        except queue.Full:
            return
        self._thread.join(timeout)

    def _run(self) -> None:
        while (lines := self._queue.get()) != _STOP:
            try:
                self._write(lines)
            except (OSError, ValueError):
                self.dropped += lines.count(b"\n")
        if self._path is not None and self._stream is not None:
            self._stream.close()

    def _write(self, lines: bytes) -> None:
        if lines == _REOPEN:
            if self._path is not None:
                previous, self._stream = self._stream, self._path.open("ab")
                if previous is not None:
                    previous.close()
            return
        if self._stream is not None:
            self._stream.write(lines)
            self._stream.flush()

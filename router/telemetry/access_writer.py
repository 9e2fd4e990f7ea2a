"""Where control writes the access log: from a thread of its own, so that a stuck pipe or disk stops
neither it nor the workers."""

import queue
import threading
from pathlib import Path
from typing import IO

from router.telemetry.accesslog import Line, readable
from router.telemetry.logs import logger

_NEWLINE = 0x0A
_STOP = b""
_REOPEN = b"\0"


class AccessWriter:
    """Writes records to a file from a thread.

    What cannot be written is dropped and counted; control's log says when that begins and ends.

    Args:
        path: file to append to; None: ``stream``.
        stream: binary stream used where there is no path; not closed.
        limit: batches waiting at most.
        line: writes a record; as JSON by default.

    Raises:
        OSError: if the file cannot be opened.
    """

    def __init__(
        self,
        path: Path | None = None,
        stream: IO[bytes] | None = None,
        limit: int = 256,
        line: Line | None = None,
    ) -> None:
        self._line = line
        self._path = path
        # Without a buffer: what a full disk refuses is not to come back when there is room again.
        self._stream = stream if path is None else path.open("ab", buffering=0)
        self._torn = False
        self._fault: str | None = None
        self._log = logger("access_log")
        self._queue: queue.Queue[bytes] = queue.Queue(limit)
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, lines: bytes) -> None:
        """Queue what a ring handed over; drops and counts them if the writer is that far behind."""
        try:
            self._queue.put_nowait(lines)
        except queue.Full:
            self.dropped += lines.count(b"\n")

    def reopen(self) -> None:
        """Open the path anew, after it was rotated; the old file stays if that fails."""
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
            if lines == _REOPEN:
                self._reopen()
                continue
            try:
                self._write(lines)
            except (OSError, ValueError) as error:  # a full disk, a closed pipe
                self.dropped += lines.count(b"\n")
                self._tell(getattr(error, "strerror", None) or str(error))
            else:
                self._tell(None)
        if self._path is not None and self._stream is not None:
            self._stream.close()

    def _reopen(self) -> None:
        if self._path is None:
            return
        try:
            previous, self._stream = self._stream, self._path.open("ab", buffering=0)
        except OSError as error:
            self._log.error("cannot reopen", path=str(self._path), error=error.strerror)
            return
        self._torn = False
        if previous is not None:
            previous.close()

    def _write(self, lines: bytes) -> None:
        if self._stream is None:
            return
        text = readable(lines, self._line)
        left = memoryview(b"\n" + text if self._torn else text)
        while left:
            written = self._stream.write(left)
            self._torn = left[written - 1] != _NEWLINE
            left = left[written:]
        self._stream.flush()

    def _tell(self, fault: str | None) -> None:
        """Say so, once, when lines begin to be lost or are written again."""
        if (fault is None) == (self._fault is None):
            return
        self._fault = fault
        path = "-" if self._path is None else str(self._path)
        if fault is not None:
            self._log.error("cannot write, lines are lost", path=path, error=fault)
        else:
            self._log.warning("lines are written again", path=path, lost=self.dropped)

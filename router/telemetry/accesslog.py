"""The access log: one line per exchange, encoded as JSON where it ended, written elsewhere.

A worker appends records to a bounded ring, which encodes them a batch at a time, and hands them
over on a timer; control makes them fit to read and writes them (``access_writer``). What does not
fit is dropped and counted, never waited for. Prompts and answers are never part of a line.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from router.telemetry.record import ExchangeRecord

RING_BYTES = 4 * 1024 * 1024
BATCH = 64
"""Records encoded together, a third cheaper than one by one; the limit may be exceeded by them."""


class AccessRing:
    """Records waiting to be handed over, one JSON line each.

    Args:
        limit: bytes kept at most; a record beyond it is dropped.
    """

    def __init__(self, limit: int = RING_BYTES) -> None:
        self._limit = limit
        self._lines = bytearray()
        self._batch: list[ExchangeRecord] = []
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Records that there was no room for."""
        self._flush()
        return self._dropped

    def append(self, record: ExchangeRecord) -> None:
        batch = self._batch
        batch.append(record)
        if len(batch) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        room = self._limit - len(self._lines)
        lines = _encode_lines(batch)
        if len(lines) <= room:
            self._lines += lines
            return
        for record in batch:
            line = _encode(record) + b"\n"
            if len(line) <= room:
                self._lines += line
                room -= len(line)
            else:
                self._dropped += 1

    def take(self) -> bytes:
        """All records, each line ended, and forget them."""
        self._flush()
        lines, self._lines = self._lines, bytearray()
        return bytes(lines)


_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_DIGITS = 6  # microseconds
_OPTIONAL = ("fields", "prompt_bytes", "prefix")


Line = Callable[[dict[str, Any]], bytes]
"""Writes a record as one line with its end."""


def readable(records: bytes, line: Line | None = None) -> bytes:
    """A ring's lines as they are logged.

    Args:
        line: writes a record; as JSON by default.
    """
    write = line or json_line
    return b"".join(write(_decode(record)) for record in records.splitlines())


def json_line(record: dict[str, Any]) -> bytes:
    """Arrival as UTC ``time``, durations to the microsecond."""
    for name in _OPTIONAL:
        if record.get(name) is None:
            record.pop(name, None)
    started = datetime.fromtimestamp(record.pop("started_at"), UTC)
    time = started.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for name, value in record.items():
        if isinstance(value, float):
            record[name] = round(value, _DIGITS)
    return _encode({"time": time} | record) + b"\n"

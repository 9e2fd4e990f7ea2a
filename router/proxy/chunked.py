"""The chunked coding, strictly: sizes of at most 16 hexadecimal digits, CRLF everywhere.

Used where the payload itself is wanted: for request bodies, and for responses to HTTP/1.0
clients. Extensions and trailers are accepted within limits and dropped.
"""

import re
from typing import Final

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t -~\x80-\xff]*)?")
_TRAILER_LINE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*")

MAX_LINE: Final = 4096
"""Bytes of one size line with its extensions, and of one trailer line."""

MAX_TRAILERS: Final = 16 * 1024
LAST_CHUNK: Final = b"0\r\n\r\n"

_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


class ChunkError(ValueError):
    """The bytes are not a chunked body."""


class ChunkedDecoder:
    """Feed it bytes, take the payload.

    Attributes:
        done: the last chunk and the trailers have been read.
        rest: what followed the body in the last feed.
        wire_bytes: bytes of coding and payload read so far.
    """

    __slots__ = ("_left", "_line", "_state", "_trailers", "done", "rest")

    def __init__(self) -> None:
        self._state = _SIZE
        self._left = 0
        self._line = b""
        self._trailers = 0
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Pieces of payload, none of them empty.

        Raises:
            ChunkError: if ``data`` breaks the coding.
        """
        pieces: list[bytes] = []
        position, end = 0, len(data)
        while position < end:
            if self._state == _DATA:
                piece = data[position : position + self._left]
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _DATA_END
                continue
            line, position = self._read_line(data, position)
            if line is None:
                break
            self._take_line(line)
            if self.done:
                self.rest = data[position:]
                break
        return pieces

    def _read_line(self, data: bytes, position: int) -> tuple[bytes | None, int]:
        """The next whole line without its CRLF, or None until it is complete."""
        found = data.find(b"\n", position)
        if found < 0:
            self._line += data[position:]
            # A size line must not wait for its end: "0" * 10**9 is refused at once.
            if len(self._line) > MAX_LINE or (self._state == _DATA_END and len(self._line) > 1):
                raise ChunkError("line too long")
            return None, len(data)
        line = self._line + data[position:found]
        self._line = b""
        if line[-1:] != b"\r" or len(line) > MAX_LINE:
            raise ChunkError("line does not end in CRLF or is too long")
        return line[:-1], found + 1

    def _take_line(self, line: bytes) -> None:
        if self._state == _DATA_END:
            if line:
                raise ChunkError("chunk data does not end in CRLF")
            self._state = _SIZE
        elif self._state == _SIZE:
            matched = _SIZE_LINE.fullmatch(line)
            if matched is None:
                raise ChunkError("malformed chunk size")
            self._left = int(matched[1], 16)
            self._state = _DATA if self._left else _TRAILERS
        elif line:
            self._trailers += len(line)
            if self._trailers > MAX_TRAILERS or _TRAILER_LINE.fullmatch(line) is None:
                raise ChunkError("malformed or too many trailers")
        else:
            self._state = _DONE
            self.done = True


def chunk(payload: bytes) -> bytes:
    """One chunk with its framing."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)

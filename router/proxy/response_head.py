"""An engine's response head, read from lines that llhttp has already accepted."""

import enum

from router.proxy.headers import NEVER_LISTED, OURS, names


class _Kind(enum.IntEnum):
    PASS = 0
    DROP = 1
    LENGTH = 2
    CODING = 3
    CONNECTION = 4
    TYPE = 5


_KINDS = {
    b"content-length": _Kind.LENGTH,
    b"transfer-encoding": _Kind.CODING,
    b"connection": _Kind.CONNECTION,
    b"content-type": _Kind.TYPE,
    b"keep-alive": _Kind.DROP,
    b"proxy-connection": _Kind.DROP,
    b"upgrade": _Kind.DROP,
    b"trailer": _Kind.DROP,
    b"te": _Kind.DROP,
    b"x-request-id": _Kind.DROP,
}
_PASS, _LENGTH, _TYPE, _CODING = _Kind.PASS, _Kind.LENGTH, _Kind.TYPE, _Kind.CODING

_CACHED_LINES = 1024
_CACHED_LENGTH = 256
# Engines repeat their lines too; see ``headers``.
_lines: dict[bytes, tuple[_Kind, bytes]] = {}


class ResponseHead:
    """What is to be known of a response to pass it on.

    Attributes:
        lines: the status line and the raw lines that are passed on, without CRLF; no framing
            among them.
        length: Content-Length, None if there was none.
        content_type: lower case.
        event_stream: the body is text/event-stream.
    """

    __slots__ = ("chunked", "content_type", "event_stream", "length", "lines", "status")

    def __init__(self, status: int, raw: bytes) -> None:
        """Raises ValueError if the head is not fit to be passed on."""
        self.status = status
        self.length: int | None = None
        self.chunked = False
        self.content_type = b""
        self.event_stream = False
        lines = raw.split(b"\r\n")
        first = lines[0]
        self.lines = kept = [first if first[7] == 0x31 else b"HTTP/1.1" + first[8:]]
        listed: list[bytes] | None = None
        for line in lines[1:-2]:
            kind, value = _lines.get(line) or _read_line(line)
            if kind is _PASS:
                kept.append(line)
            elif kind is _LENGTH:
                self.length = int(value)
            elif kind is _TYPE:
                self.content_type = value
                self.event_stream = value.startswith(b"text/event-stream")
                kept.append(line)
            elif kind is _CODING:
                if self.chunked or value != b"chunked":
                    raise ValueError("unsupported transfer coding")
                self.chunked = True
            elif kind is _Kind.CONNECTION:
                listed = (listed or []) + names(value)
        if listed is not None:
            self._drop_listed(listed)

    def _drop_listed(self, listed: list[bytes]) -> None:
        gone = set(listed) - NEVER_LISTED
        kept = (line for line in self.lines[1:] if line.partition(b":")[0].lower() not in gone)
        self.lines = [self.lines[0], *kept]

    def __repr__(self) -> str:
        framing = "chunked" if self.chunked else self.length
        return f"<ResponseHead {self.status} {framing} {self.content_type.decode('latin-1')}>"


def _read_line(line: bytes) -> tuple[_Kind, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or line[:1] in (b" ", b"\t"):
        raise ValueError("malformed header line")
    name = name.lower()
    kind = _Kind.DROP if name.startswith(OURS) else _KINDS.get(name, _PASS)
    value = value.strip(b" \t").lower()
    if len(line) <= _CACHED_LENGTH:
        if len(_lines) >= _CACHED_LINES:
            _lines.clear()
        _lines[line] = (kind, value)
    return kind, value

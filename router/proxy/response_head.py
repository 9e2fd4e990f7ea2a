"""An engine's response head, checked by llhttp and read line by line.

Engines repeat their heads: within a second two of them differ in their Content-Length at most, and
in the request's id where the engine says it again. A head that has been checked once is found
again by its very bytes but that id, or by its bytes without those digits, which are checked each
time; so what is accepted does not depend on what was seen before. The caches are emptied when they
are full.
"""

import enum
from typing import Final

import httptools

from router.proxy.headers import NEVER_LISTED, OURS, names
from router.proxy.repeats import DIGITS, digits_between
from router.proxy.retry_after import seconds_after


class _Kind(enum.IntEnum):
    PASS = 0
    DROP = 1
    LENGTH = 2
    CODING = 3
    CONNECTION = 4
    TYPE = 5
    RETRY = 6


_KINDS: Final = {
    b"content-length": _Kind.LENGTH,
    b"transfer-encoding": _Kind.CODING,
    b"connection": _Kind.CONNECTION,
    b"content-type": _Kind.TYPE,
    b"retry-after": _Kind.RETRY,
    b"keep-alive": _Kind.DROP,
    b"proxy-connection": _Kind.DROP,
    b"upgrade": _Kind.DROP,
    b"trailer": _Kind.DROP,
    b"te": _Kind.DROP,
    b"x-request-id": _Kind.DROP,
}
_PASS: Final = _Kind.PASS
_LENGTH: Final = _Kind.LENGTH
_TYPE: Final = _Kind.TYPE
_CODING: Final = _Kind.CODING

_CACHED_LINES: Final = 1024
_CACHED_LENGTH: Final = 256
# Engines repeat their lines too; see ``headers``.
_lines: Final[dict[bytes, tuple[_Kind, bytes]]] = {}

_CACHED_HEADS: Final = 256
_CACHED_HEAD_LENGTH: Final = 2048
_heads: Final[dict[bytes, "ResponseHead"]] = {}
# By what comes before and after the digits of Content-Length.
_without_digits: Final[dict[tuple[bytes, bytes], "ResponseShape"]] = {}

# Where the id that was sent with a request is told back.
_ECHO: Final = b"\r\nx-request-id: "
_NO_ECHO: Final = 0
_BEFORE: Final = 1
_AFTER: Final = 2

_JSON: Final = b"application/json"
_ID: Final = b"x-request-id: "


class ResponseShape:
    """What a response head says but for the body's length; heads that differ in that share one.

    Attributes:
        start: the status line and the raw lines that are passed on, each with its CRLF; no
            framing among them.
        content_type: lower case.
        dated: it has a Date.
        keep_alive: the engine's connection can be used again after it.
        retry_after: seconds after which it says to come again; None where it does not say.
        event_stream: the body is text/event-stream.
        tells_usage: the body may end with a ``usage`` object.
        empty: it has no body, whatever was asked for.
        before, after: the engine's head around the digits of its length; empty where another is
            not to be recognised by them.
        behind_id: where the head tells the request's id, in ``before`` or ``after`` as ``echo``
            says, that part ends in front of the id and this follows it.
    """

    __slots__ = (
        "after",
        "before",
        "behind_id",
        "chunked",
        "content_type",
        "dated",
        "echo",
        "empty",
        "event_stream",
        "keep_alive",
        "retry_after",
        "start",
        "status",
        "tells_usage",
    )

    def __init__(
        self,
        status: int,
        start: bytes,
        chunked: bool,
        content_type: bytes,
        keep_alive: bool,
        retry_after: float | None,
    ) -> None:
        self.status = status
        self.start = start
        self.chunked = chunked
        self.content_type = content_type
        self.keep_alive = keep_alive
        self.retry_after = retry_after
        self.dated = b"\r\ndate:" in start.lower()
        self.event_stream = content_type.startswith(b"text/event-stream")
        self.tells_usage = self.event_stream or content_type.startswith(_JSON)
        self.empty = status in {204, 304}
        self.before = self.after = self.behind_id = b""
        self.echo = _NO_ECHO


class ResponseHead:
    """What is to be known of a response to pass it on. Shared between responses: never changed.

    Args:
        digits: of ``length``, if they are at hand.

    Attributes:
        shape: what it shares with other heads; some of it is here too.
        length: Content-Length, None if there was none.
        ready: ``start``, the framing and the beginning of the request id's line, as a client of
            HTTP/1.1 gets them; empty if that depends on more than the head.
    """

    __slots__ = (
        "chunked",
        "empty",
        "event_stream",
        "keep_alive",
        "length",
        "ready",
        "shape",
        "status",
        "tells_usage",
    )

    def __init__(self, shape: ResponseShape, length: int | None, digits: bytes = b"") -> None:
        self.shape = shape
        self.status = shape.status
        self.length = length
        self.chunked = shape.chunked
        self.keep_alive = shape.keep_alive
        self.event_stream = shape.event_stream
        self.tells_usage = shape.tells_usage
        self.empty = shape.empty
        if shape.empty:
            self.ready = b""
        elif length is not None:
            digits = digits or b"%d" % length
            self.ready = b"%bcontent-length: %b\r\n%b" % (shape.start, digits, _ID)
        elif shape.chunked:
            self.ready = shape.start + b"transfer-encoding: chunked\r\n" + _ID
        else:
            self.ready = b""

    @property
    def content_type(self) -> bytes:
        """Lower case."""
        return self.shape.content_type

    @property
    def retry_after(self) -> float | None:
        """Seconds after which it says to come again; None where it does not say."""
        return self.shape.retry_after

    def __repr__(self) -> str:
        framing = "chunked" if self.chunked else self.length
        return f"<ResponseHead {self.status} {framing} {self.content_type.decode('latin-1')}>"


def again(data: bytes, shape: ResponseShape, request_id: bytes) -> tuple[ResponseHead | None, int]:
    """The head that ``data`` begins with and where it ends, if it is like the last one.

    Args:
        shape: of the last head on the connection.
        request_id: as it was sent with the request.
    """
    before, after = shape.before, shape.after
    if shape.echo == _AFTER:
        after = b"%b%b%b" % (after, request_id, shape.behind_id)
    elif shape.echo == _BEFORE:
        before = b"%b%b%b" % (before, request_id, shape.behind_id)
    stop, length = digits_between(data, before, after)
    if stop == 0:
        return None, 0
    digits = data[len(before) : stop]
    if digits[0] == 0x30:
        digits = b""  # a zero in front is legal; the client gets the number without it
    return ResponseHead(shape, length, digits), stop + len(after)


def read_head(raw: bytes, request_id: bytes) -> ResponseHead:
    """The head whose bytes are ``raw``, with the empty line that ends it.

    Args:
        request_id: as it was sent with the request.

    Raises:
        ValueError: if it is no head of an HTTP/1 response that can be passed on.
    """
    id_at = 0
    if (echo := raw.find(_ECHO)) > 0:
        # The line is dropped whatever it says, so its value may as well be cut out: without this
        # no head of an engine that repeats the id would be found again.
        start = echo + len(_ECHO)
        end = start + len(request_id)
        if raw[start : end + 2] == request_id + b"\r\n":
            raw = raw[:start] + raw[end:]
            id_at = start
    head = _heads.get(raw)
    if head is not None:
        return head
    place = raw.find(b"ength: ") + 7
    digits, _, rest = raw[min(place, len(raw)) :].partition(b"\r\n")
    key = (raw[:place], rest)
    shape = _without_digits.get(key)
    if shape is not None and digits.isdigit() and len(digits) <= DIGITS:
        return ResponseHead(shape, int(digits))
    head = _check(raw)
    # What Retry-After says may be a date, and then means something else each time.
    if len(raw) <= _CACHED_HEAD_LENGTH and head.retry_after is None:
        if len(_heads) >= _CACHED_HEADS:
            _heads.clear()
        _heads[raw] = head
        if key[0][-18:].lower() == b"\r\ncontent-length: " and head.length is not None:
            if len(_without_digits) >= _CACHED_HEADS:
                _without_digits.clear()
            _without_digits[key] = shape = head.shape
            _remember_around(shape, raw, place, place + len(digits), id_at)
    return head


def _remember_around(shape: ResponseShape, raw: bytes, start: int, stop: int, id_at: int) -> None:
    """Recognise the next head like this one. ``id_at``: where the request's id was cut out, or 0;
    ``start`` and ``stop``: of the length's digits."""
    shape.before, shape.after = raw[:start], raw[stop:]
    if id_at > start:
        shape.echo = _AFTER
        shape.after, shape.behind_id = raw[stop:id_at], raw[id_at:]
    elif id_at:
        shape.echo = _BEFORE
        shape.before, shape.behind_id = raw[:id_at], raw[id_at:start]


class _Checker:
    """Notes whether llhttp took a head for a whole one, and what it says of the connection."""

    __slots__ = ("keep_alive", "parser")

    def __init__(self) -> None:
        self.keep_alive: bool | None = None
        self.parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        assert self.parser is not None
        self.keep_alive = self.parser.should_keep_alive()


def _check(raw: bytes) -> ResponseHead:
    if not raw.startswith(b"HTTP/1."):
        raise ValueError("not HTTP/1")
    checker = _Checker()
    parser, failure = checker.parser, None
    assert parser is not None
    try:
        parser.feed_data(raw)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        failure = error
    checker.parser = None  # it holds our method: a cycle
    if failure is not None or checker.keep_alive is None:
        raise ValueError("not a response head") from failure
    status = parser.get_status_code()
    if status == 101:
        raise ValueError("another protocol")
    return _read_lines(status, raw, checker.keep_alive)


def _read_lines(status: int, raw: bytes, keep_alive: bool) -> ResponseHead:
    length: int | None = None
    chunked = False
    retry_after: float | None = None
    content_type = b""
    lines = raw.split(b"\r\n")
    first = lines[0]
    kept = [first if first[7] == 0x31 else b"HTTP/1.1" + first[8:]]
    listed: list[bytes] = []
    for line in lines[1:-2]:
        kind, value = _lines.get(line) or _read_line(line)
        if kind is _PASS:
            kept.append(line)
        elif kind is _LENGTH:
            length = int(value)
        elif kind is _TYPE:
            content_type = value
            kept.append(line)
        elif kind is _Kind.RETRY:
            retry_after = seconds_after(value)
            kept.append(line)
        elif kind is _CODING:
            if chunked or value != b"chunked":
                raise ValueError("unsupported transfer coding")
            chunked = True
        elif kind is _Kind.CONNECTION:
            listed += names(value)
    gone = set(listed) - NEVER_LISTED
    if gone:
        kept[1:] = [line for line in kept[1:] if line.partition(b":")[0].lower() not in gone]
    kept.append(b"")
    start = b"\r\n".join(kept)
    shape = ResponseShape(status, start, chunked, content_type, keep_alive, retry_after)
    return ResponseHead(shape, length)


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

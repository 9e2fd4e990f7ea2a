"""Heads: what a client's must look like, and what becomes of both on their way through.

Each line of a request head has to match a regular expression that admits exactly what RFC 9112
asks of a sender: CRLF line ends, no folding, no space before a colon, no control bytes. What
framing is ambiguous about (both lengths, lists, repeated fields) is refused by name. So there is
nothing in a head that the router and an engine could read differently.

Hop-by-hop fields end here on both sides; other lines are passed on as they came, in order.
"""

import enum
import re
from typing import Final

from router.core import errors
from router.proxy.bad_head import diagnose
from router.proxy.paths import Body

_FIELD_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):([\t -~\x80-\xff]*+)")
_REQUEST_LINE: Final = re.compile(rb"([A-Z]++) ([!-~]++) HTTP/1\.([01])")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]+)(.*)", re.IGNORECASE)
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}")
OURS: Final = (b"x-warmpath-", b"x-gateway-")

METHODS: Final = frozenset(
    (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT")
)


class _Kind(enum.IntEnum):
    """What a field is to us."""

    PASS = 0  # its line is passed on untouched
    HOST = 1
    LENGTH = 2
    CONNECTION = 3
    CODING = 4
    EXPECT = 5
    HOP = 6
    OURS = 7
    FORWARDED_FOR = 8
    FORWARDED_PROTO = 9
    REQUEST_ID = 10
    TRACEPARENT = 11


_KINDS: Final = {
    b"host": _Kind.HOST,
    b"content-length": _Kind.LENGTH,
    b"transfer-encoding": _Kind.CODING,
    b"connection": _Kind.CONNECTION,
    b"expect": _Kind.EXPECT,
    b"keep-alive": _Kind.HOP,
    b"proxy-connection": _Kind.HOP,
    b"te": _Kind.HOP,
    b"trailer": _Kind.HOP,
    b"upgrade": _Kind.HOP,
    b"http2-settings": _Kind.HOP,
    b"x-forwarded-for": _Kind.FORWARDED_FOR,
    b"x-forwarded-proto": _Kind.FORWARDED_PROTO,
    b"x-request-id": _Kind.REQUEST_ID,
    b"traceparent": _Kind.TRACEPARENT,
}
_PASS: Final = _Kind.PASS
_HOST_KIND: Final = _Kind.HOST
_LENGTH_KIND: Final = _Kind.LENGTH
_OURS_KIND: Final = _Kind.OURS
_CONNECTION_KIND: Final = _Kind.CONNECTION
# A field that frames or addresses the message stays whatever Connection says of it.
NEVER_LISTED: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"content-type"))

_CACHED_LINES: Final = 4096
_CACHED_LENGTH: Final = 256
# Clients send the same lines again and again (what HPACK was made for): a line that has been
# checked and taken apart once is found here. Emptied when full.
_lines: Final[dict[bytes, tuple[_Kind, tuple[bytes, bytes]]]] = {}
_request_lines: Final[dict[bytes, tuple[bytes, bytes, bool]]] = {}


class HeadShape:
    """What a request head says, apart from the values that each request has for itself.

    It is filled line by line, then finished; heads that differ in their length alone share one.

    Attributes:
        target: origin-form, with the query, as sent.
        before, after: the head around the digits of its length, empty where others that differ
            in those alone are not to be taken for it.
        path: the target without its query.
        question: value of x-warmpath-explain; empty if there is none.
        fields: (lower-case name, value) in order, without ``x-warmpath-*`` and ``x-gateway-*``.
        lines: raw lines that are passed on, without CRLF; no framing among them.
        length: Content-Length of the head that was read, None if there was none.
        length_at: where it is in ``fields``, if other heads are to share this shape.
        kind: what the request's body is, once somebody has looked.
        request_id: the client's, empty if it gave none.
        traceparent: the first of the client's, empty if it gave none; its line is in ``lines``.
        front: the engine's head up to the client's address in X-Forwarded-For.
        middle: from there to the request id.
    """

    __slots__ = (
        "after",
        "authority",
        "before",
        "chunked",
        "expect",
        "fields",
        "forwarded_for",
        "forwarded_proto",
        "front",
        "host",
        "http11",
        "keep_alive",
        "kind",
        "length",
        "length_at",
        "lines",
        "listed",
        "method",
        "middle",
        "path",
        "question",
        "request_id",
        "target",
        "traceparent",
        "verb",
    )

    def __init__(self, method: bytes, target: bytes, http11: bool) -> None:
        self.method = method
        self.verb = method.decode("ascii")
        self.target = target
        self.http11 = http11
        self.keep_alive = http11
        self.path = ""
        self.fields: tuple[tuple[bytes, bytes], ...] = ()
        self.lines: list[bytes] = []
        self.authority: bytes | None = None
        self.host = ""
        self.length: int | None = None
        self.length_at = 0
        self.kind: Body | None = None
        self.chunked = False
        self.expect = False
        self.request_id = self.question = self.traceparent = b""
        self.forwarded_for = b""
        self.forwarded_proto = False
        self.listed: list[bytes] | None = None
        self.front = self.middle = b""
        self.before = self.after = b""

    # --- one field at a time ----------------------------------------------------------------

    def connection(self, value: bytes) -> None:
        options = names(value)
        if b"close" in options:
            self.keep_alive = False
        elif b"keep-alive" in options and not self.http11:
            self.keep_alive = True
        if len(options) > 1 or options[0] not in (b"close", b"keep-alive"):
            self.listed = (self.listed or []) + options

    def seldom(self, kind: _Kind, value: bytes, line: bytes) -> None:
        if kind is _Kind.FORWARDED_FOR:
            self.forwarded_for += value + b", "
        elif kind is _Kind.FORWARDED_PROTO:
            self.forwarded_proto = True
            self.lines.append(line)
        elif kind is _Kind.TRACEPARENT:
            self.traceparent = self.traceparent or value
            self.lines.append(line)
        elif kind is _Kind.REQUEST_ID:
            if not self.request_id and _REQUEST_ID.fullmatch(value):
                self.request_id = value
        elif kind is _Kind.CODING:
            if self.chunked or value.lower() != b"chunked":
                raise errors.NotImplementedByRouter(
                    "the only transfer coding supported is a single `chunked`",
                    param="transfer-encoding",
                )
            self.chunked = True
        elif kind is _Kind.EXPECT:
            if value.lower() != b"100-continue":
                raise errors.ExpectationFailed(
                    "the only expectation supported is 100-continue", param="expect"
                )
            self.expect = self.http11

    # --- the whole ----------------------------------------------------------------------------

    def finish(self) -> None:
        if self.chunked and self.length is not None:
            raise errors.BadRequest("both Content-Length and Transfer-Encoding", param="framing")
        if self.chunked and not self.http11:
            raise errors.BadRequest("Transfer-Encoding in an HTTP/1.0 request", param="framing")
        self._resolve_target()
        if self.authority is None:
            if self.http11:
                raise errors.BadRequest("no Host header", param="host")
            self.authority = b""
        self.host = self.authority.decode("latin-1")
        if self.listed:
            self._drop_listed(self.listed)
        self.front = b"%b %b HTTP/1.1\r\n%bx-forwarded-for: %b" % (
            self.method,
            self.target,
            b"".join([line + b"\r\n" for line in self.lines]),
            self.forwarded_for,
        )
        proto = b"" if self.forwarded_proto else b"x-forwarded-proto: http\r\n"
        self.middle = b"\r\n%bx-request-id: " % proto

    def _resolve_target(self) -> None:
        target = self.target
        if target[0] != 0x2F:
            absolute = _ABSOLUTE.fullmatch(target)
            if absolute is not None and _HOST.fullmatch(absolute[1]):
                host, rest = absolute.groups()
                self.target = target = rest if rest.startswith(b"/") else b"/" + rest
                # RFC 9112 3.2.2: the target's authority wins over the Host field.
                self.authority = host
                self.lines = [line for line in self.lines if line[:5].lower() != b"host:"]
                self.lines.insert(0, b"host: " + host)
            elif target != b"*" or self.method != b"OPTIONS":
                raise errors.BadRequest("malformed request target", param="target")
        if b"#" in target:
            raise errors.BadRequest("a request target must not have a fragment", param="target")
        self.path = target.partition(b"?")[0].decode("ascii")

    def _drop_listed(self, listed: list[bytes]) -> None:
        gone = set(listed) - NEVER_LISTED
        self.lines = [line for line in self.lines if line.partition(b":")[0].lower() not in gone]

    def __repr__(self) -> str:
        return f"<HeadShape {self.verb} {self.path} {len(self.fields)} fields>"


class RequestHead:
    """A client's request head, checked.

    Attributes:
        shape: what it shares with other heads.
        front, middle: as the shape's, unless credentials were exchanged.
        path: the target without its query.
        fields: (lower-case name, value) in order, without ``x-warmpath-*`` and ``x-gateway-*``.
        length: Content-Length, None if there was none.
        keep_alive: whether the client means to use the connection again.
        host: the authority as text.
        verb: the method as text.
    """

    __slots__ = (
        "chunked",
        "expect",
        "fields",
        "front",
        "host",
        "http11",
        "keep_alive",
        "length",
        "method",
        "middle",
        "path",
        "request_id",
        "shape",
        "verb",
    )

    def __init__(
        self,
        shape: HeadShape,
        length: int | None,
        fields: tuple[tuple[bytes, bytes], ...],
        request_id: bytes,
    ) -> None:
        self.shape = shape
        self.method = shape.method
        self.verb = shape.verb
        self.path = shape.path
        self.http11 = shape.http11
        self.keep_alive = shape.keep_alive
        self.host = shape.host
        self.chunked = shape.chunked
        self.expect = shape.expect
        self.front = shape.front
        self.middle = shape.middle
        self.length = length
        self.fields = fields
        self.request_id = request_id

    @property
    def target(self) -> bytes:
        """Origin-form, with the query, as sent."""
        return self.shape.target

    @property
    def content_type(self) -> bytes:
        """As sent, for a boundary's case matters; empty if there is none."""
        for name, value in self.fields:
            if name == b"content-type":
                return value
        return b""

    def upstream(self, peer: bytes, body_length: int | None, chunked: bool) -> bytes:
        """The head to send to an engine.

        Args:
            peer: the client's address, appended to X-Forwarded-For.
            body_length: sent as Content-Length if the request has a body.
            chunked: the body is sent chunked, its length being unknown yet.
        """
        if chunked:
            framing = b"transfer-encoding: chunked\r\n"
        elif body_length is None:
            framing = b""
        else:
            framing = b"content-length: %d\r\n" % body_length
        return b"%b%b%b%b\r\n%b\r\n" % (self.front, peer, self.middle, self.request_id, framing)

    def __repr__(self) -> str:
        return f"<RequestHead {self.method.decode()} {self.path} {self.request_id.decode()}>"


def names(value: bytes) -> list[bytes]:
    """The lower-case members of a list field."""
    return [name.strip() for name in value.lower().split(b",")]


def parse_shape(raw: bytes, max_headers: int) -> HeadShape:
    """Check and take apart a request head; see ``known_heads``, which asks less often."""
    lines = raw.split(b"\r\n")
    if len(lines) - 3 > max_headers:
        raise errors.HeadTooLarge(f"more than {max_headers} header lines", param="headers")
    method, target, http11 = _request_lines.get(lines[0]) or _read_request_line(lines[0], raw)
    shape = HeadShape(method, target, http11)
    fields: list[tuple[bytes, bytes]] = []
    kept, seen = shape.lines, _lines
    for line in lines[1:-2]:
        kind, field = seen.get(line) or _read_line(line, raw)
        if kind is _PASS:
            kept.append(line)
        elif kind is _LENGTH_KIND:
            if shape.length is not None:
                raise errors.BadRequest("more than one Content-Length", param="content-length")
            shape.length = int(field[1])
        elif kind is _HOST_KIND:
            if shape.authority is not None:
                raise errors.BadRequest("more than one Host header", param="host")
            shape.authority = field[1]
            kept.append(line)
        elif kind is _CONNECTION_KIND:
            shape.connection(field[1])
        elif kind is _OURS_KIND:
            if field[0] == b"x-warmpath-explain":
                shape.question = field[1]
            continue
        else:
            shape.seldom(kind, field[1], line)
        fields.append(field)
    shape.fields = tuple(fields)
    shape.finish()
    return shape


def _read_request_line(line: bytes, raw: bytes) -> tuple[bytes, bytes, bool]:
    matched = _REQUEST_LINE.fullmatch(line)
    if matched is None:
        raise diagnose(raw)
    method, target, minor = matched.groups()
    if method not in METHODS:
        raise errors.BadRequest(f"unknown method {method[:20].decode()}", param="method")
    if method == b"CONNECT":
        raise errors.NotImplementedByRouter("CONNECT is not supported", param="method")
    if len(line) <= _CACHED_LENGTH:
        if len(_request_lines) >= _CACHED_LINES:
            _request_lines.clear()
        _request_lines[line] = (method, target, minor == b"1")
    return method, target, minor == b"1"


def _read_line(line: bytes, raw: bytes) -> tuple[_Kind, tuple[bytes, bytes]]:
    """A header line that has not been seen of late."""
    matched = _FIELD_LINE.fullmatch(line)
    if matched is None:
        raise diagnose(raw)
    name, value = matched[1].lower(), matched[2].strip(b" \t")
    kind = _Kind.OURS if name.startswith(OURS) else _KINDS.get(name, _PASS)
    if kind is _LENGTH_KIND and _LENGTH.fullmatch(value) is None:
        raise errors.BadRequest("malformed Content-Length", param="content-length")
    if kind is _HOST_KIND and _HOST.fullmatch(value) is None:
        raise errors.BadRequest("malformed Host header", param="host")
    if len(line) <= _CACHED_LENGTH:
        if len(_lines) >= _CACHED_LINES:
            _lines.clear()
        _lines[line] = (kind, (name, value))
    return kind, (name, value)

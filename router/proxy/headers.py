"""Heads: what a client's must look like, and what becomes of both on their way through.

A request head has to match one regular expression that admits exactly what RFC 9112 asks of a
sender: CRLF line ends, no folding, no space before a colon, no control bytes. What framing is
ambiguous about (both lengths, lists, repeated fields) is refused by name. So there is nothing in
a head that the router and an engine could read differently.

Hop-by-hop fields end here on both sides; other lines are passed on as they came, in order.
"""

import random
import re
from typing import ClassVar

from router.core import errors

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_REQUEST_HEAD = re.compile(
    rb"([A-Z]++) ([!-~]++) HTTP/1\.([01])\r\n(?:" + _TOKEN + rb":[\t -~\x80-\xff]*+\r\n)*+\r\n"
)
_VERSION = re.compile(rb"[^ ]+ [^ ]+ HTTP/(\d)\.(\d)\r\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)(.*)", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}")
_OURS = (b"x-warmpath-", b"x-gateway-")

METHODS = frozenset(
    (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT")
)

# What a field is to us; absent means that its line is passed on untouched.
_HOST_FIELD, _CONTENT_LENGTH, _TRANSFER_ENCODING, _CONNECTION, _EXPECT = 1, 2, 3, 4, 5
_HOP, _FORWARDED_FOR, _FORWARDED_PROTO, _ID, _CONTENT_TYPE, _CONTENT_ENCODING = 6, 7, 8, 9, 10, 11
_REQUEST_FIELDS = {
    b"host": _HOST_FIELD,
    b"content-length": _CONTENT_LENGTH,
    b"transfer-encoding": _TRANSFER_ENCODING,
    b"connection": _CONNECTION,
    b"expect": _EXPECT,
    b"keep-alive": _HOP,
    b"proxy-connection": _HOP,
    b"te": _HOP,
    b"trailer": _HOP,
    b"upgrade": _HOP,
    b"http2-settings": _HOP,
    b"x-forwarded-for": _FORWARDED_FOR,
    b"x-forwarded-proto": _FORWARDED_PROTO,
    b"x-request-id": _ID,
    b"content-type": _CONTENT_TYPE,
    b"content-encoding": _CONTENT_ENCODING,
}
_COMMON_CONNECTION = frozenset((b"keep-alive", b"close", b"Keep-Alive", b"Close", b""))
# A field that frames or addresses the message stays whatever Connection says of it.
_NEVER_LISTED = frozenset((b"host", b"content-length", b"transfer-encoding", b"content-type"))


class RequestHead:
    """A client's request head, checked.

    Attributes:
        target: origin-form, with the query, as sent.
        path: the target without its query.
        fields: (lower-case name, value) in order, without ``x-warmpath-*`` and ``x-gateway-*``.
        lines: raw lines that are passed on, without CRLF; no framing among them.
        length: Content-Length, None if there was none.
        keep_alive: whether the client means to use the connection again.
    """

    __slots__ = (
        "_forwarded_for",
        "_listed",
        "authority",
        "chunked",
        "content_encoding",
        "content_type",
        "expect",
        "fields",
        "http11",
        "keep_alive",
        "length",
        "lines",
        "method",
        "path",
        "request_id",
        "target",
    )

    def __init__(self, method: bytes, target: bytes, http11: bool) -> None:
        self.method = method
        self.target = target
        self.http11 = http11
        self.keep_alive = http11
        self.path = ""
        self.fields: list[tuple[bytes, bytes]] = []
        self.lines: list[bytes] = []
        self.authority: bytes | None = None
        self.length: int | None = None
        self.chunked = False
        self.expect = False
        self.request_id = b""
        self.content_type = b""
        self.content_encoding = b""
        self._forwarded_for = b""
        self._listed: list[bytes] | None = None

    # --- one field at a time ----------------------------------------------------------------

    def _known(self, kind: int, name: bytes, value: bytes, line: bytes) -> None:
        if kind == _HOST_FIELD:
            if self.authority is not None:
                raise errors.BadRequest("more than one Host header", param="host")
            if _HOST.fullmatch(value) is None:
                raise errors.BadRequest("malformed Host header", param="host")
            self.authority = value
            self.lines.append(line)
        elif kind == _CONTENT_TYPE:
            self.content_type = value
            self.lines.append(line)
        elif kind == _CONTENT_LENGTH:
            if self.length is not None:
                raise errors.BadRequest("more than one Content-Length", param="content-length")
            if _LENGTH.fullmatch(value) is None:
                raise errors.BadRequest("malformed Content-Length", param="content-length")
            self.length = int(value)
        elif kind == _CONNECTION:
            if value not in _COMMON_CONNECTION or self._listed is not None:
                self._listed = (self._listed or []) + _names(value)
            if value:
                self._connection(_names(value))
        elif kind == _FORWARDED_FOR:
            self._forwarded_for += value + b", "
        else:
            self._seldom(kind, name, value, line)

    def _connection(self, options: list[bytes]) -> None:
        if b"close" in options:
            self.keep_alive = False
        elif b"keep-alive" in options and not self.http11:
            self.keep_alive = True

    def _seldom(self, kind: int, name: bytes, value: bytes, line: bytes) -> None:
        if kind == _ID:
            if not self.request_id and _REQUEST_ID.fullmatch(value):
                self.request_id = value
        elif kind == _TRANSFER_ENCODING:
            if self.chunked or value.lower() != b"chunked":
                raise errors.NotImplementedByRouter(
                    "the only transfer coding supported is a single `chunked`",
                    param="transfer-encoding",
                )
            self.chunked = True
        elif kind == _EXPECT:
            if value.lower() != b"100-continue":
                raise errors.ExpectationFailed(
                    "the only expectation supported is 100-continue", param="expect"
                )
            self.expect = self.http11
        elif kind in (_FORWARDED_PROTO, _CONTENT_ENCODING):
            if kind == _CONTENT_ENCODING:
                self.content_encoding = value.lower()
            self.lines.append(line)

    # --- the whole ----------------------------------------------------------------------------

    def _finish(self) -> None:
        if self.chunked and self.length is not None:
            raise errors.BadRequest("both Content-Length and Transfer-Encoding", param="framing")
        if self.chunked and not self.http11:
            raise errors.BadRequest("Transfer-Encoding in an HTTP/1.0 request", param="framing")
        self._resolve_target()
        if self.authority is None:
            if self.http11:
                raise errors.BadRequest("no Host header", param="host")
            self.authority = b""
        if not self.request_id:
            self.request_id = new_request_id()
        if self._listed:
            self._drop_listed(self._listed)

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
        gone = set(listed) - _NEVER_LISTED
        self.lines = [line for line in self.lines if line.partition(b":")[0].lower() not in gone]

    def upstream(self, peer: bytes, body_length: int | None, chunked: bool) -> bytes:
        """The head to send to an engine.

        Args:
            peer: the client's address, appended to X-Forwarded-For.
            body_length: sent as Content-Length if the request has a body.
            chunked: the body is sent chunked, its length being unknown yet.
        """
        lines = self.lines
        proto = b"" if _has(self.fields, b"x-forwarded-proto") else b"x-forwarded-proto: http\r\n"
        if chunked:
            framing = b"transfer-encoding: chunked\r\n"
        elif body_length is None:
            framing = b""
        else:
            framing = b"content-length: %d\r\n" % body_length
        return (
            b"%b %b HTTP/1.1\r\n%b\r\nx-forwarded-for: %b%b\r\n%bx-request-id: %b\r\n%b\r\n"
            if lines
            else b"%b %b HTTP/1.1%b\r\nx-forwarded-for: %b%b\r\n%bx-request-id: %b\r\n%b\r\n"
        ) % (
            self.method,
            self.target,
            b"\r\n".join(lines),
            self._forwarded_for,
            peer,
            proto,
            self.request_id,
            framing,
        )

    def __repr__(self) -> str:
        return f"<RequestHead {self.method.decode()} {self.path} {self.request_id.decode()}>"


def _has(fields: list[tuple[bytes, bytes]], wanted: bytes) -> bool:
    return any(name == wanted for name, _ in fields)


def _names(value: bytes) -> list[bytes]:
    return [name.strip() for name in value.lower().split(b",")]


def new_request_id() -> bytes:
    """A random UUID (version 4), without asking the kernel for each one."""
    bits = random.getrandbits(128)
    return b"%08x-%04x-4%03x-%04x-%012x" % (
        bits >> 96,
        bits >> 80 & 0xFFFF,
        bits >> 64 & 0xFFF,
        bits >> 48 & 0x3FFF | 0x8000,
        bits & 0xFFFFFFFFFFFF,
    )


def parse_request(raw: bytes, max_headers: int) -> RequestHead:
    """Check and take apart a request head.

    Args:
        raw: from the method to the empty line, inclusive.
        max_headers: header lines allowed.

    Raises:
        RouterError: what to answer; the connection cannot be used afterwards.
    """
    matched = _REQUEST_HEAD.fullmatch(raw)
    if matched is None:
        raise _diagnose(raw)
    method, target, minor = matched.groups()
    if method not in METHODS:
        raise errors.BadRequest(f"unknown method {method[:20].decode()}", param="method")
    lines = raw.split(b"\r\n")
    if len(lines) - 3 > max_headers:
        raise errors.HeadTooLarge(f"more than {max_headers} header lines", param="headers")
    head = RequestHead(method, target, minor == b"1")
    fields, kept = head.fields, head.lines
    known = _REQUEST_FIELDS
    for line in lines[1:-2]:
        name, _, value = line.partition(b":")
        name = name.lower()
        value = value.strip(b" \t")
        kind = known.get(name)
        if kind is not None:
            head._known(kind, name, value, line)
        elif name[0] == 0x78 and name.startswith(_OURS):
            continue
        else:
            kept.append(line)
        fields.append((name, value))
    if method == b"CONNECT":
        raise errors.NotImplementedByRouter("CONNECT is not supported", param="method")
    head._finish()
    return head


def _diagnose(raw: bytes) -> errors.RouterError:
    """Why a head does not match the grammar."""
    version = _VERSION.match(raw)
    if version is not None and version.groups() not in ((b"1", b"0"), (b"1", b"1")):
        return errors.VersionNotSupported("only HTTP/1.0 and HTTP/1.1 are supported")
    line = raw.partition(b"\r\n")[0]
    if not re.fullmatch(rb"[A-Z]+ [!-~]+ HTTP/1\.[01]", line):
        return errors.BadRequest("malformed request line", param="request-line")
    if re.search(rb"(?<!\r)\n|\r(?!\n)", raw):
        return errors.BadRequest("a line of the head does not end in CRLF", param="headers")
    if re.search(rb"\r\n[ \t]", raw):
        return errors.BadRequest("folded header lines are not accepted", param="headers")
    return errors.BadRequest("malformed header line", param="headers")


def refuse_early(partial: bytes) -> errors.RouterError | None:
    """Whether an incomplete head can already not become a good one."""
    if not 0x41 <= partial[0] <= 0x5A:
        return errors.BadRequest("malformed request line", param="request-line")
    if re.search(rb"(?<!\r)\n", partial):
        return errors.BadRequest("a line of the head does not end in CRLF", param="headers")
    return None


class ResponseHead:
    """An engine's response head, read from lines that the parser has already accepted.

    Attributes:
        lines: raw lines that are passed on, without CRLF; no framing among them.
        length: Content-Length, None if there was none.
        event_stream: the body is text/event-stream.
    """

    __slots__ = ("chunked", "content_type", "event_stream", "length", "lines", "status")

    _DROPPED: ClassVar[frozenset[bytes]] = frozenset(
        (b"keep-alive", b"proxy-connection", b"upgrade", b"trailer", b"te", b"x-request-id")
    )

    def __init__(self, status: int, raw: bytes) -> None:
        """Raises ValueError if the head is not fit to be passed on."""
        self.status = status
        self.length: int | None = None
        self.chunked = False
        self.content_type = b""
        self.event_stream = False
        lines = raw.split(b"\r\n")
        self.lines = kept = [b"HTTP/1.1" + lines[0][8:]]
        listed: list[bytes] | None = None
        for line in lines[1:-2]:
            name, colon, value = line.partition(b":")
            name = name.lower()
            if name == b"content-length":
                self.length = int(value)
            elif name == b"transfer-encoding":
                self._coding(value.strip().lower())
            elif name == b"connection":
                listed = (listed or []) + _names(value)
            elif name == b"content-type":
                self.content_type = value.strip().lower()
                self.event_stream = self.content_type.startswith(b"text/event-stream")
                kept.append(line)
            elif name in self._DROPPED or name.startswith(_OURS):
                continue
            elif not colon or line[0] in b" \t":
                raise ValueError("malformed header line")
            else:
                kept.append(line)
        if listed is not None:
            self._drop_listed(listed)

    def _coding(self, coding: bytes) -> None:
        if self.chunked or coding != b"chunked":
            raise ValueError("unsupported transfer coding")
        self.chunked = True

    def _drop_listed(self, listed: list[bytes]) -> None:
        gone = set(listed) - _NEVER_LISTED
        kept = (line for line in self.lines[1:] if line.partition(b":")[0].lower() not in gone)
        self.lines = [self.lines[0], *kept]

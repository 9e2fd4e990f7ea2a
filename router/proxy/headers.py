"""Heads: what a client's must look like, and what becomes of both on their way through.

Each line of a request head has to match a regular expression that admits exactly what RFC 9112
asks of a sender: CRLF line ends, no folding, no space before a colon, no control bytes. What
framing is ambiguous about (both lengths, lists, repeated fields) is refused by name. So there is
nothing in a head that the router and an engine could read differently.

Hop-by-hop fields end here on both sides; other lines are passed on as they came, in order.
"""

import enum
import random
import re

from router.core import errors

_FIELD_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):([\t -~\x80-\xff]*+)")
_REQUEST_LINE = re.compile(rb"([A-Z]++) ([!-~]++) HTTP/1\.([01])")
_VERSION = re.compile(rb"[^ ]+ [^ ]+ HTTP/(\d)\.(\d)\r\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)(.*)", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}")
OURS = (b"x-warmpath-", b"x-gateway-")

METHODS = frozenset(
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


_KINDS = {
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
}
_PASS, _HOST_KIND, _LENGTH_KIND, _OURS_KIND = _Kind.PASS, _Kind.HOST, _Kind.LENGTH, _Kind.OURS
_CONNECTION_KIND = _Kind.CONNECTION
# A field that frames or addresses the message stays whatever Connection says of it.
NEVER_LISTED = frozenset((b"host", b"content-length", b"transfer-encoding", b"content-type"))

_CACHED_LINES = 4096
_CACHED_LENGTH = 256
# Clients send the same lines again and again (what HPACK was made for): a line that has been
# checked and taken apart once is found here. Emptied when full.
_lines: dict[bytes, tuple[_Kind, tuple[bytes, bytes]]] = {}
_request_lines: dict[bytes, tuple[bytes, bytes, bool]] = {}

_CACHED_HEADS = 1024
_CACHED_HEAD_LENGTH = 2048
# And whole heads: of a client's requests often nothing differs but the digits of Content-Length.
# They are cut out of the key and checked each time; heads with an id of their own stay out.
_heads: dict[bytes | tuple[bytes, bytes], "RequestHead"] = {}
_OF_ITS_OWN = frozenset((b"x-request-id", b"traceparent", b"tracestate", b"idempotency-key"))


class RequestHead:
    """A client's request head, checked.

    Attributes:
        target: origin-form, with the query, as sent.
        path: the target without its query.
        fields: (lower-case name, value) in order, without ``x-warmpath-*`` and ``x-gateway-*``.
        lines: raw lines that are passed on, without CRLF; no framing among them.
        length: Content-Length, None if there was none.
        keep_alive: whether the client means to use the connection again.
        host: the authority as text.
        verb: the method as text.
    """

    __slots__ = (
        "_forwarded_for",
        "_forwarded_proto",
        "_front",
        "_listed",
        "_middle",
        "authority",
        "chunked",
        "expect",
        "fields",
        "host",
        "http11",
        "keep_alive",
        "length",
        "lines",
        "method",
        "path",
        "request_id",
        "target",
        "verb",
    )

    def __init__(self, method: bytes, target: bytes, http11: bool) -> None:
        self.method = method
        self.target = target
        self.http11 = http11
        self.keep_alive = http11
        self.path = ""
        self.fields: tuple[tuple[bytes, bytes], ...] = ()
        self.lines: list[bytes] = []
        self.authority: bytes | None = None
        self.length: int | None = None
        self.chunked = False
        self.expect = False
        self.request_id = b""
        self._forwarded_for = b""
        self._forwarded_proto = False
        self._listed: list[bytes] | None = None
        self.host = ""
        self.verb = method.decode("ascii")
        self._front = self._middle = b""

    def again(self, digits: bytes) -> "RequestHead":
        """The head of another request that differs in its length alone, empty if it has none."""
        new = RequestHead.__new__(RequestHead)
        new.method = self.method
        new.verb = self.verb
        new.target = self.target
        new.path = self.path
        new.http11 = self.http11
        new.keep_alive = self.keep_alive
        new.fields = fields = self.fields
        new.length = None
        if digits:
            new.length = int(digits)
            if new.length != self.length:
                at = fields.index((b"content-length", b"%d" % (self.length or 0)))
                new.fields = (*fields[:at], (b"content-length", digits), *fields[at + 1 :])
        new.authority = self.authority
        new.host = self.host
        new.chunked = self.chunked
        new.expect = self.expect
        new.request_id = new_request_id()
        new._front = self._front
        new._middle = self._middle
        return new

    @property
    def content_type(self) -> bytes:
        """As sent, for a boundary's case matters; empty if there is none."""
        for name, value in self.fields:
            if name == b"content-type":
                return value
        return b""

    # --- one field at a time ----------------------------------------------------------------

    def _connection(self, value: bytes) -> None:
        options = names(value)
        if b"close" in options:
            self.keep_alive = False
        elif b"keep-alive" in options and not self.http11:
            self.keep_alive = True
        if len(options) > 1 or options[0] not in (b"close", b"keep-alive"):
            self._listed = (self._listed or []) + options

    def _seldom(self, kind: _Kind, value: bytes, line: bytes) -> None:
        if kind is _Kind.FORWARDED_FOR:
            self._forwarded_for += value + b", "
        elif kind is _Kind.FORWARDED_PROTO:
            self._forwarded_proto = True
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
        self.host = self.authority.decode("latin-1")
        if not self.request_id:
            self.request_id = new_request_id()
        if self._listed:
            self._drop_listed(self._listed)
        self._front = b"%b %b HTTP/1.1\r\n%bx-forwarded-for: %b" % (
            self.method,
            self.target,
            b"".join([line + b"\r\n" for line in self.lines]),
            self._forwarded_for,
        )
        proto = b"" if self._forwarded_proto else b"x-forwarded-proto: http\r\n"
        self._middle = b"\r\n%bx-request-id: " % proto

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
        return b"%b%b%b%b\r\n%b\r\n" % (
            self._front,
            peer,
            self._middle,
            self.request_id,
            framing,
        )

    def __repr__(self) -> str:
        return f"<RequestHead {self.method.decode()} {self.path} {self.request_id.decode()}>"


def names(value: bytes) -> list[bytes]:
    """The lower-case members of a list field."""
    return [name.strip() for name in value.lower().split(b",")]


class _RequestIds:
    """Random UUIDs (version 4): random bits in front, a count from a random start behind.

    Formatting 128 fresh bits costs 1 us, an increment a tenth of that. The count gets a new random
    front long before it could come round.
    """

    __slots__ = ("_count", "_front", "_left")

    def __init__(self) -> None:
        self._front = b""
        self._count = self._left = 0

    def next(self) -> bytes:
        if not self._left:
            bits = random.getrandbits(80)
            self._front = b"%08x-%04x-4%03x-%04x-%%012x" % (
                bits >> 48,
                bits >> 32 & 0xFFFF,
                bits >> 16 & 0xFFF,
                bits & 0x3FFF | 0x8000,
            )
            self._count = random.getrandbits(47)
            self._left = 1 << 20
        self._left -= 1
        self._count += 1
        return self._front % self._count


new_request_id = _RequestIds().next


def parse_request(raw: bytes, max_headers: int) -> RequestHead:
    """Check and take apart a request head.

    Args:
        raw: from the method to the empty line, inclusive.
        max_headers: header lines allowed.

    Raises:
        RouterError: what to answer; the connection cannot be used afterwards.
    """
    key, digits = _cut_length(raw)
    known = _heads.get(key)
    if known is not None and len(known.fields) <= max_headers:
        return known.again(digits)
    head = _parse(raw, max_headers)
    if (
        len(raw) <= _CACHED_HEAD_LENGTH
        and (head.length is None or b"%d" % head.length == digits)
        and _OF_ITS_OWN.isdisjoint(name for name, _ in head.fields)
    ):
        if len(_heads) >= _CACHED_HEADS:
            _heads.clear()
        _heads[key] = head
    return head


def _cut_length(raw: bytes) -> tuple[bytes | tuple[bytes, bytes], bytes]:
    """The head around the digits of its Content-Length, and those.

    The whole head and nothing where there is no such line in its usual spelling. The two kinds of
    key never equal each other: an empty Content-Length must not pass for one cut out.
    """
    found = raw.find(b"ength: ")
    if found > 0 and raw[found - 11 : found] in (b"\r\nContent-L", b"\r\ncontent-l"):
        start = found + 7
        end = raw.find(b"\r", start)
        digits = raw[start:end]
        if digits.isdigit() and len(digits) <= 18:
            return (raw[:start], raw[end:]), digits
    return raw, b""


def _parse(raw: bytes, max_headers: int) -> RequestHead:
    lines = raw.split(b"\r\n")
    if len(lines) - 3 > max_headers:
        raise errors.HeadTooLarge(f"more than {max_headers} header lines", param="headers")
    method, target, http11 = _request_lines.get(lines[0]) or _read_request_line(lines[0], raw)
    head = RequestHead(method, target, http11)
    fields: list[tuple[bytes, bytes]] = []
    kept, seen = head.lines, _lines
    for line in lines[1:-2]:
        kind, field = seen.get(line) or _read_line(line, raw)
        if kind is _PASS:
            kept.append(line)
        elif kind is _LENGTH_KIND:
            if head.length is not None:
                raise errors.BadRequest("more than one Content-Length", param="content-length")
            head.length = int(field[1])
        elif kind is _HOST_KIND:
            if head.authority is not None:
                raise errors.BadRequest("more than one Host header", param="host")
            head.authority = field[1]
            kept.append(line)
        elif kind is _CONNECTION_KIND:
            head._connection(field[1])
        elif kind is _OURS_KIND:
            continue
        else:
            head._seldom(kind, field[1], line)
        fields.append(field)
    head.fields = tuple(fields)
    head._finish()
    return head


def _read_request_line(line: bytes, raw: bytes) -> tuple[bytes, bytes, bool]:
    matched = _REQUEST_LINE.fullmatch(line)
    if matched is None:
        raise _diagnose(raw)
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
        raise _diagnose(raw)
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

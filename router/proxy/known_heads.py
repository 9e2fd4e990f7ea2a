"""Request heads that were seen before, found again without parsing them.

Of a client's requests often nothing differs but the digits of Content-Length. They are cut out of
the key and read each time; heads with an id of their own stay out. So what is accepted does not
depend on what was seen before. The tables are emptied when they are full.
"""

from typing import Final

from router.proxy.headers import HeadShape, RequestHead, parse_shape
from router.proxy.repeats import digits_at, digits_between
from router.proxy.request_id import new_request_id

_CACHED_HEADS: Final = 1024
_CACHED_HEAD_LENGTH: Final = 2048
# Two tables, for a head with an empty Content-Length must not pass for one whose digits were cut.
_shapes: Final[dict[bytes, HeadShape]] = {}
_cut_shapes: Final[dict[bytes, HeadShape]] = {}
_OF_ITS_OWN: Final = frozenset((b"x-request-id", b"traceparent", b"tracestate", b"idempotency-key"))


def parse_request(raw: bytes, max_headers: int) -> RequestHead:
    """Check and take apart a request head.

    Args:
        raw: from the method to the empty line, inclusive.
        max_headers: header lines allowed.

    Raises:
        RouterError: what to answer; the connection cannot be used afterwards.
    """
    start = raw.find(b"ength: ") + 7
    stop, length = _length_at(raw, start)
    cut = stop > start
    known, key = (_cut_shapes, raw[:start] + raw[stop:]) if cut else (_shapes, raw)
    shape = known.get(key)
    if shape is None or len(shape.fields) > max_headers:
        shape = parse_shape(raw, max_headers)
        _remember(known, key, shape, raw, start, stop)
        return RequestHead(shape, shape.length, shape.fields, shape.request_id or new_request_id())
    if not cut:
        return RequestHead(shape, None, shape.fields, new_request_id())
    return _of_length(shape, length, raw[start:stop])


def again(
    data: bytes, shape: HeadShape, max_head: int, max_headers: int
) -> tuple[RequestHead | None, int]:
    """The head that ``data`` begins with and where it ends, if it is like the last one.

    Args:
        shape: of the last head on the connection.
        max_head: bytes allowed.
    """
    stop, length = digits_between(data, shape.before, shape.after)
    end = stop + len(shape.after)
    if stop == 0 or end > max_head or len(shape.fields) > max_headers:
        return None, 0
    return _of_length(shape, length, data[len(shape.before) : stop]), end


def _of_length(shape: HeadShape, length: int, digits: bytes) -> RequestHead:
    fields = shape.fields
    if length != shape.length:
        at = shape.length_at
        fields = (*fields[:at], (b"content-length", digits), *fields[at + 1 :])
    return RequestHead(shape, length, fields, new_request_id())


def _length_at(raw: bytes, start: int) -> tuple[int, int]:
    """Where the digits of a Content-Length in its usual spelling end, and their value.

    ``start`` itself where there is none.
    """
    if start < 20 or raw[start - 18 : start - 7] not in (b"\r\nContent-L", b"\r\ncontent-l"):
        return start, 0
    stop, value = digits_at(raw, start)
    return (stop, value) if raw[stop] == 0x0D else (start, 0)


def _remember(
    known: dict[bytes, HeadShape], key: bytes, shape: HeadShape, raw: bytes, start: int, stop: int
) -> None:
    """Find the next head like this one without parsing it, if it may differ in its length alone."""
    digits = raw[start:stop] if stop > start else b""
    if len(key) > _CACHED_HEAD_LENGTH or (
        shape.length is not None and b"%d" % shape.length != digits
    ):
        return
    names = [name for name, _ in shape.fields]
    if not _OF_ITS_OWN.isdisjoint(names):
        return
    if digits:
        shape.length_at = names.index(b"content-length")
        shape.before, shape.after = raw[:start], raw[stop:]
    if len(known) >= _CACHED_HEADS:
        known.clear()
    known[key] = shape

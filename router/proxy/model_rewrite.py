"""Another model's name in a request's body, with no other byte touched.

Where the bytes ``"model"`` stand in a body once, and no key is spelled with escapes, a look at
both ends says whether they are the key (see ``scan``); that is nearly every body. Otherwise the top
level is walked from end to end. Every value under that key is replaced, for parsers differ in
which of two they take. In a form it is each part called ``model``.
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from router.proxy import forms, scan

_SPACE = b" \t\r\n"
_KEY = b'"model"'
_ESCAPED = re.compile(rb"\\u006[4-5cdfCDF]")  # one of m, o, d, e, l
_COLON = re.compile(rb"[ \t\r\n]*+:[ \t\r\n]*+")
_KEY_AT = re.compile(rb'[ \t\r\n]*+("[^"\\]*+(?:\\.[^"\\]*+)*+")[ \t\r\n]*+:[ \t\r\n]*+', re.DOTALL)
_NEXT = re.compile(rb"[ \t\r\n]*+,")
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]++")
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]', re.DOTALL)

Span = tuple[int, int]


def rewrite(
    pieces: Sequence[bytes], content_type: bytes, model: str, *, whole: bool = True
) -> list[bytes] | None:
    """The body with ``model`` as its model; None if it names none.

    Args:
        pieces: the body as it was read.
        content_type: of the request, as sent.
        whole: all of the body is there; otherwise its beginning, of which only what surely is a
            top-level field is replaced.
    """
    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if content_type[:19].lower() == b"multipart/form-data":
        spans, value = list(forms.values(body, content_type, b"model")), model.encode()
    else:
        spans = _whole(body) if whole else _beginning(body)
        value = msgspec.json.encode(model)
    if not spans:
        return None
    written: list[bytes] = []
    position = 0
    for start, end in spans:
        written += (body[position:start], value)
        position = end
    written.append(body[position:])
    return written


def _whole(body: bytes) -> list[Span]:
    if body.count(_KEY) == 1 and _ESCAPED.search(body) is None:
        try:
            named = scan.both_ends(body, body).model is not None
        except msgspec.DecodeError:
            named = False
        if named:
            colon = _COLON.match(body, body.find(_KEY) + len(_KEY))
            start = -1 if colon is None else colon.end()
            if body[start : start + 1] == b'"' and (end := _string_end(body, start)) is not None:
                return [(start, end)]
    return [span for key, span in _fields(body) if _is_model(key)]


def _beginning(body: bytes) -> list[Span]:
    try:
        found = scan.front(body)
        start = found.starts.get("model")
        end = None if start is None else scan.skip_value(body, start, len(body))
    except (msgspec.DecodeError, scan.TooDense):
        return []
    return [] if start is None or end is None or found.model is None else [(start, end)]


def _is_model(key: bytes) -> bool:
    if b"\\" not in key:
        return key == _KEY
    try:
        return bool(msgspec.json.decode(key) == "model")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def _fields(body: bytes) -> Iterator[tuple[bytes, Span]]:
    """Each key of the top level, in its quotes, and where its value lies."""
    position = len(body) - len(body.lstrip(_SPACE))
    if body[position : position + 1] != b"{":
        return
    position += 1
    while (key := _KEY_AT.match(body, position)) is not None:
        start = key.end()
        end = _value_end(body, start)
        if end is None:
            return
        yield key[1], (start, end)
        following = _NEXT.match(body, end)
        if following is None:
            return
        position = following.end()


def _value_end(body: bytes, start: int) -> int | None:
    first = body[start : start + 1]
    if first == b'"':
        return _string_end(body, start)
    if first not in (b"{", b"["):
        scalar = _SCALAR.match(body, start)
        return None if scalar is None else scalar.end()
    depth = 0
    for token in _TOKEN.finditer(body, start):
        mark = body[token.start()]
        if mark in b"{[":
            depth += 1
        elif mark in b"}]":
            depth -= 1
            if depth == 0:
                return token.end()
    return None


def _string_end(body: bytes, start: int) -> int | None:
    matched = _TOKEN.match(body, start)
    return None if matched is None else matched.end()

"""A bounded look at a large JSON object: its top level from the front, and from the back.

From the front, values are skipped one by one until one does not end within ``REACH`` bytes. From
the back the same is done in reverse, which is unambiguous: inside a JSON string every quote has
an odd number of backslashes before it, and a quote that begins or ends a string has an even
number. So text inside a string can never be taken for a field, whatever it says. Of a field that
is there twice the last is used, as JSON parsers do, unless it is in the part not looked at.
"""

import re
from typing import Final

import msgspec

REACH: Final = 4096
"""Bytes looked at from either end."""

SPACE: Final = b" \t\r\n"
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_KEY_AT: Final = re.compile(rb"[ \t\r\n]*+(" + _STRING + rb")[ \t\r\n]*+:[ \t\r\n]*+", re.DOTALL)
_SPACE_AT: Final = re.compile(rb"[ \t\r\n]*+")
_SCALAR_AT: Final = re.compile(rb"[-+.0-9A-Za-z]++")
NEXT_AT: Final = re.compile(rb"[ \t\r\n]*+([,}\]])[ \t\r\n]*+")
COLON_AT: Final = re.compile(rb"[ \t\r\n]*+:[ \t\r\n]*+")
_MARK: Final = re.compile(rb'["{}\[\]]')

_WANTED: Final = frozenset(
    ("model", "stream", "max_completion_tokens", "max_tokens", "max_output_tokens", "user")
)
_KEYS: Final = {
    b'"%b"' % name.encode(): name
    for name in (*_WANTED, "messages", "system", "prompt", "input", "instructions")
}
# Where the bulk of a body is: what follows it is looked at from the back.
_BULK: Final = frozenset(("messages", "input"))

_decode: Final = msgspec.json.Decoder().decode

MAX_BRACKETS: Final = 2048
"""Brackets followed while one value is skipped; about half a millisecond."""

MAX_QUOTES: Final = 256
"""Escaped quotes passed in one string at 0.2 us each; decoding all of it is quicker than more."""


FEW_QUOTES: Final = 8
"""Escaped quotes passed in one string before it is left to msgspec."""

_pass_over: Final = msgspec.json.Decoder(msgspec.Raw).decode
_TRAILING: Final = re.compile(r"trailing characters \(byte (\d+)\)")


def _tells() -> bool:
    """Whether msgspec says where a value ended when more follows it.

    It does so in words only, which may change. To look for the end here costs a hundred times as
    much for what is full of quotes and brackets, as tools are.
    """
    try:
        _pass_over(b'["]"] ,')
    except msgspec.DecodeError as error:
        told = _TRAILING.search(str(error))
        return told is not None and told[1] == "7"  # counted from 1
    return False


_TELLS = _tells()


class OutOfReach(Exception):
    """The hash needs bytes that are not among the first ones."""


class TooDense(Exception):
    """A string has so many escaped quotes that looking is dearer than decoding."""


class Found:
    """What the ends of a body say.

    Attributes:
        fields: the decoded fields among those that routing wants.
        starts: offsets of the values met from the front that routing or its hash wants.
        whole: the front look reached the end of the object.
    """

    __slots__ = ("fields", "starts", "whole")

    def __init__(self) -> None:
        self.fields: dict[str, object] = {}
        self.starts: dict[str, int] = {}
        self.whole = False

    @property
    def model(self) -> str | None:
        model = self.fields.get("model")
        return model if isinstance(model, str) else None


def front(body: bytes, reach: int = REACH) -> Found:
    """The top level from the front, as far as values end within ``reach`` bytes.

    Raises:
        msgspec.DecodeError: if a field that routing wants is no JSON.
    """
    found = Found()
    position = len(body) - len(body.lstrip(SPACE))
    end = min(len(body), position + reach)
    if body[position : position + 1] != b"{":
        return found
    position += 1
    while (key := _KEY_AT.match(body, position, end)) is not None:
        name = _name(key[1])
        start = key.end()
        if start == end:
            break
        if name:
            found.starts[name] = start
            if name in _BULK and body[start] == 0x5B:
                break
        try:
            stop = skip_value(body, start, end)
        except TooDense:
            break
        # A number at the very edge may go on beyond it.
        if stop is None or (following := NEXT_AT.match(body, stop, end)) is None:
            break
        if name in _WANTED:
            found.fields[name] = _decode(body[start:stop])
        if following[1] != b",":
            found.whole = True
            break
        position = following.end()
    return found


def _name(key: bytes) -> str:
    """The key, out of its quotes; empty if it is none of those that matter."""
    if b"\\" in key:
        name = _decode(key)
        return name if name in _KEYS.values() else ""
    return _KEYS.get(key, "")


def both_ends(body: bytes, ending: bytes, reach: int = REACH) -> Found:
    """The top level from both ends; what the back says is later, and wins.

    Args:
        body: the first bytes, or all.
        ending: the last bytes, or all.

    Raises:
        msgspec.DecodeError: if a field that routing wants is no JSON.
    """
    found = front(body, reach)
    if not found.whole:
        found.fields.update(back(ending, reach))
    return found


def skip_value(body: bytes, start: int, end: int) -> int | None:
    """Where the value at ``start`` ends, None if not before ``end`` or not to be told.

    Raises:
        TooDense: only where msgspec does not tell.
    """
    first = body[start : start + 1]
    if first == b'"':
        return _skip_string(body, start, end)
    if first not in (b"{", b"["):
        matched = _SCALAR_AT.match(body, start, end)
        return None if matched is None else matched.end()
    return _skip_quickly(body, start, end) if _TELLS else _skip_container(body, start, end)


def _skip_quickly(body: bytes, start: int, end: int) -> int | None:
    """As ``skip_value``: msgspec passes over the value, and objects to what follows it."""
    try:
        value = _pass_over(memoryview(body)[start:end])
    except msgspec.DecodeError as error:
        told = _TRAILING.search(str(error))
        return None if told is None else strip(body, start + int(told[1]) - 1)
    except RecursionError:
        return None
    return start + len(value)


def _skip_container(body: bytes, start: int, end: int) -> int | None:
    depth, position = 0, start
    for _ in range(MAX_BRACKETS):
        matched = _MARK.search(body, position, end)
        if matched is None:
            return None
        position = matched.end()
        mark = matched[0]
        if mark == b'"':
            stop = _skip_string(body, position - 1, end)
            if stop is None:
                return None
            position = stop
            continue
        depth += 1 if mark in b"{[" else -1
        if depth == 0:
            return position
    return None


def _skip_string(body: bytes, start: int, end: int) -> int | None:
    """Where the string whose opening quote is at ``start`` ends.

    Text is mostly not quotes, and ``find`` passes over it fifty times as fast as an expression.

    Raises:
        TooDense: after ``MAX_QUOTES`` escaped quotes, where msgspec does not tell.
    """
    quote = start
    for _ in range(FEW_QUOTES if _TELLS else MAX_QUOTES):
        quote = body.find(b'"', quote + 1, end)
        if quote < 0:
            return None
        if body[quote - 1] != 0x5C:
            return quote + 1
        before = quote - 1
        while body[before - 1] == 0x5C and before - 1 > start:
            before -= 1
        if (quote - before) % 2 == 0:
            return quote + 1
    if _TELLS:
        return _skip_quickly(body, start, end)
    raise TooDense


def next_item(body: bytes, position: int) -> int | None:
    """Where the item of an array begins that follows the ``[`` or the end of an item there.

    None if there is none.
    """
    if body[position : position + 1] == b"[":
        matched = _SPACE_AT.match(body, position + 1)
        assert matched is not None
        return None if body[matched.end() : matched.end() + 1] in (b"]", b"") else matched.end()
    following = NEXT_AT.match(body, position)
    return None if following is None or following[1] != b"," else following.end()


def beginning(pieces: list[bytes], reach: int) -> bytes:
    """The first ``reach`` bytes of a body in pieces or more; joined only if need be."""
    if len(pieces[0]) >= reach:
        return pieces[0]
    size = count = 0
    while count < len(pieces) and size < reach:
        size += len(pieces[count])
        count += 1
    return b"".join(pieces[:count])


def ending(pieces: list[bytes], reach: int = REACH) -> bytes:
    """The same of the last bytes."""
    if len(pieces[-1]) >= reach:
        return pieces[-1]
    size, count = 0, len(pieces)
    while count and size < reach:
        count -= 1
        size += len(pieces[count])
    return b"".join(pieces[count:])


# --- backwards ----------------------------------------------------------------------------------


def back(body: bytes, reach: int = REACH) -> dict[str, object]:
    """The wanted fields of the top level from the back, as far as they lie in ``reach`` bytes.

    Raises:
        msgspec.DecodeError: if one of them is no JSON.
    """
    text = body[-reach:].rstrip(SPACE)
    fields: dict[str, object] = {}
    if text[-1:] == b"}":
        walk_back(text, len(text) - 1, fields)
    return fields


def walk_back(text: bytes, end: int, fields: dict[str, object], most: int = MAX_BRACKETS) -> int:
    """Pass over the fields of the top level that lie before ``end``, noting the wanted ones.

    Args:
        most: brackets and strings followed in one value.

    Returns:
        Where the first value ends that is not passed over: it begins before the text, or it is
        no field of an object.

    Raises:
        msgspec.DecodeError: if one of the wanted is no JSON.
    """
    while True:
        end = strip(text, end)
        start = _value_before(text, end, most)
        if start is None:
            return end
        colon = strip(text, start)
        if text[colon - 1 : colon] != b":":
            return end
        key_end = strip(text, colon - 1)
        key_start = _string_before(text, key_end)
        if key_start is None:
            return end
        name = _name(text[key_start:key_end])
        if name in _WANTED and name not in fields:
            fields[name] = _decode(text[start:end])
        comma = strip(text, key_start)
        if text[comma - 1 : comma] != b",":
            return end
        end = comma - 1


def strip(text: bytes, end: int) -> int:
    """``end``, or where the blanks before it begin."""
    while end > 0 and text[end - 1] in SPACE:
        end -= 1
    return end


def _string_before(text: bytes, end: int) -> int | None:
    """The start of the string that ends before ``end``, None if it is not all there."""
    if end < 2 or text[end - 1] != 0x22:
        return None
    quote = text.rfind(b'"', 0, end - 1)
    while quote >= 0:
        before = quote
        while before > 0 and text[before - 1] == 0x5C:
            before -= 1
        if before == 0:
            return None  # there may be backslashes out of sight
        if (quote - before) % 2 == 0:
            return quote
        quote = text.rfind(b'"', 0, quote)
    return None


def _value_before(text: bytes, end: int, most: int) -> int | None:
    """The start of the value that ends before ``end``, None if it is not all there."""
    last = text[end - 1 : end]
    if last == b'"':
        return _string_before(text, end)
    if last in (b"}", b"]"):
        return _container_before(text, end, most)
    start = max(text.rfind(b":", 0, end), text.rfind(b",", 0, end)) + 1
    while start < end and text[start] in SPACE:
        start += 1
    return start if 0 < start < end else None


def _container_before(text: bytes, end: int, most: int) -> int | None:
    depth, position = 0, end
    for _ in range(most):
        position = max(
            text.rfind(b'"', 0, position),
            text.rfind(b"}", 0, position),
            text.rfind(b"{", 0, position),
            text.rfind(b"]", 0, position),
            text.rfind(b"[", 0, position),
        )
        if position < 0:
            return None
        mark = text[position]
        if mark == 0x22:
            start = _string_before(text, position + 1)
            if start is None:
                return None
            position = start
        else:
            depth += 1 if mark in b"}]" else -1
            if depth == 0:
                return position
    return None

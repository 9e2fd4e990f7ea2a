"""Where the prompt lies in a body, and what its beginnings are called.

A prompt is what an engine reads, in its order: tools, then system text or instructions, then its
bulk, which are the messages, the prompt or the input. Of each the raw bytes are taken, wherever it
stands in the body. Of the bulk the quotes or brackets around it are left out, and blanks before
the last: so a conversation with one more turn begins with all of the one before. Of many prompts
in one request the first counts. Tools, system and bulk of nothing are as if they were not there.

Bodies up to ``DECODED`` are decoded, which finds all parts. Larger ones are looked at from both
ends (see ``scan``): in front of the bulk and behind it, tools and system are found by their names
within ``REACH`` bytes, and then the body is decoded with its bulk left out, to make sure that what
was found is of the top level. What else is large and behind the bulk is taken for a part of it.

To name a short prompt adds a third of what decoding 8k tokens costs to the look at its body, six
or seven times that for 128k tokens (4 and 70 us where decoding takes 10.7; ``bench.prefix``). A
body of 16 to 64 KiB, or with tools of more than 4 KiB, is cheaper to look at with names.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from router.core.prefix.blocks import BLOCK, checkpoints, seed_of
from router.proxy import scan
from router.proxy.fields import PromptFields, decode_items, decode_prompt

DECODED: Final = 128 * 1024
"""Bytes of a body; about here decoding and the look at the ends cost the same."""

REACH: Final = 64 * 1024
"""Bytes in which the bulk is looked for from the front, and tools and system behind it."""

MOST: Final = 4 << 20
"""Bytes of a prompt that are hashed: a million tokens, a quarter of a millisecond."""

SHORT: Final = 1024
"""Bytes behind the bulk that are passed over at once; what is longer is found by its name."""

MAX_MARKS: Final = 32
"""Brackets and strings in a value that is passed over, a microsecond each; tools have hundreds."""

MAX_MENTIONS: Final = 8
"""Places looked at that may be a key and turn out to lie deeper."""

MAX_SEEDS: Final = 1024
"""Seeds kept, by model."""

Aliases = Mapping[str | None, str]
"""Models by their other names."""

Piece = bytes | memoryview
Named = tuple[tuple[int, ...], int]
"""The checkpoints of a prompt, and its length in bytes."""

NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_QUOTE: Final = 0x22
_BRACKET: Final = 0x5B
_BRACE: Final = 0x7B
_NOTHING: Final = (b"", b"null", b"[]", b'""')
_KEYS: Final = {
    name: b'"%b"' % name.encode()
    for name in ("messages", "prompt", "input", "tools", "system", "instructions")
}
_BULKS: Final = ("messages", "prompt", "input")
_BEHIND: Final = {"messages": ("tools", "system"), "prompt": (), "input": ("tools", "instructions")}
_seeds: dict[str | None, int] = {}


class Bulk(msgspec.Struct, gc=False):
    """The last and mostly the longest part of a prompt.

    ``text`` has its value from ``start`` on, all of it where ``whole``. ``parts`` are what is
    hashed, ``size`` is how many bytes that is, or will be.
    """

    name: str
    text: bytes
    start: int
    whole: bool
    parts: list[Piece]
    size: int


def named(fields: PromptFields, bulk: Bulk | None, aliases: Aliases) -> Named:
    """Name the beginnings of a prompt."""
    parts: list[Piece] = [] if bulk is None else bulk.parts
    size = 0 if bulk is None else bulk.size
    if fields.tools or fields.system or fields.instructions:
        leads = [bytes(raw) for raw in (fields.tools, fields.system, fields.instructions)]
        leads = [lead for lead in leads if lead not in _NOTHING]
        parts = [*leads, *parts]
        size += sum(map(len, leads))
    if size < BLOCK:
        return (), size
    seed = _seed(aliases.get(fields.model, fields.model), fields)
    return checkpoints(parts if size <= MOST else _at_most(parts, MOST), seed), size


def _seed(model: str | None, fields: PromptFields) -> int:
    if fields.cache_salt or fields.lora_path or fields.lora_request or fields.adapter_id:
        given = [
            b"" if raw in _NOTHING else raw
            for raw in map(
                bytes,
                (fields.cache_salt, fields.lora_path, fields.lora_request, fields.adapter_id),
            )
        ]
        if any(given):
            return seed_of(model, *(raw.decode("utf-8", "replace") for raw in given))
    seed = _seeds.get(model)
    if seed is None:
        if len(_seeds) >= MAX_SEEDS:
            _seeds.clear()
        seed = _seeds[model] = seed_of(model)
    return seed


def _at_most(parts: Iterable[Piece], most: int) -> Iterator[Piece]:
    for part in parts:
        yield part[:most]
        most -= len(part)
        if most <= 0:
            return


# --- decoded ------------------------------------------------------------------------------------


def decoded_bulk(fields: PromptFields) -> Bulk | None:
    """The bulk of a body that was decoded; None if it has none.

    Raises:
        msgspec.DecodeError: what was passed over is no JSON.
    """
    name, value = "messages", bytes(fields.messages)
    if value in _NOTHING:
        name, value = "prompt", bytes(fields.prompt)
        if value in _NOTHING:
            name, value = "input", bytes(fields.input)
            if value in _NOTHING:
                return None
    inside = _inside(value)
    return Bulk(name, value, 0, True, [inside], len(inside))


def _inside(value: bytes) -> Piece:
    """Of a bulk, what is hashed."""
    if value[0] == _QUOTE:
        return memoryview(value)[1:-1]
    if value[0] != _BRACKET:
        return value
    if value[1] != _BRACE:
        first = scan.next_item(value, 0)
        if first is None:
            return b""
        if value[first] == _QUOTE or value[first] == _BRACKET:
            return memoryview(bytes(decode_items(value)[0]))[1:-1]
    end = len(value) - 1
    if value[end - 1] in scan.SPACE:
        end = scan.strip(value, end)
    return memoryview(value)[1:end]


# --- from the front -----------------------------------------------------------------------------


def front_bulk(body: bytes, length: int | None) -> tuple[PromptFields, Bulk] | None:
    """What there is of a prompt in the beginning of a body; None if there is nothing of its bulk.

    Args:
        length: of the whole body, if it is known.

    Raises:
        msgspec.DecodeError: what is in front of the bulk is no JSON.
    """
    place = _bulk_start(body)
    if place is None:
        return None
    name, start = place
    fields = decode_prompt(body[:start] + b"0}")
    begin = start + 1
    item = scan.next_item(body, start) if body[start] == _BRACKET else None
    if item is not None and (body[item] == _QUOTE or body[item] == _BRACKET):
        begin = item + 1
    inside = memoryview(body)[begin:]
    size = max(len(inside), (length or 0) - begin)
    return fields, Bulk(name, body, start, False, [inside], size)


def _bulk_start(first: bytes) -> tuple[str, int] | None:
    """The name of the bulk and where its value begins, if that can be told from the front."""
    starts = scan.front(first).starts
    for name in _BULKS:
        if name in starts:
            return name, starts[name]
    for name in _BULKS:
        key, position = _KEYS[name], 0
        for _ in range(MAX_MENTIONS):
            position = first.find(key, position + 1, REACH)
            if position < 0:
                break
            colon = scan.COLON_AT.match(first, position + len(key))
            if colon is not None and _is_object(first[: colon.end()] + b"0}"):
                return (name, colon.end()) if colon.end() < len(first) else None
    return None


def _is_object(text: bytes) -> bool:
    try:
        decode_prompt(text)
    except NOT_JSON:
        return False
    return True


# --- from both ends -----------------------------------------------------------------------------


def bulk_between(pieces: list[bytes], size: int) -> tuple[PromptFields, Bulk] | None:
    """The fields of a large body, and its bulk; None if the ends do not tell.

    Args:
        size: of all pieces.

    Raises:
        msgspec.DecodeError: what is around the bulk is no JSON, or not of the types expected.
    """
    first = scan.beginning(pieces, REACH)
    place = _bulk_start(first)
    if place is None:
        return None
    name, start = place
    closing = b'"'
    if first[start] == _BRACKET:
        item = scan.next_item(first, start)
        if item is None or first[item] == _QUOTE or first[item] == _BRACKET:
            return None
        closing = b"]"
    elif first[start] != _QUOTE:
        return None
    last = scan.ending(pieces, 2 * REACH)
    fields, stop = _around(first[:start] + b"0", last, _BEHIND[name])
    end = stop - 1
    if last[end:stop] != closing:
        return None
    if closing == b"]":
        end = scan.strip(last, end)
    end += size - len(last)
    if end <= start:
        return None
    return fields, Bulk(name, first, start, False, _cut(pieces, start + 1, end), end - start - 1)


def _around(head: bytes, last: bytes, names: tuple[str, ...]) -> tuple[PromptFields, int]:
    """The fields around the bulk, and where that ends in the last bytes.

    Args:
        head: all that is in front of the bulk, and something in its place.
        names: what may be behind it and too large to be passed over.
    """
    stop = _passed_over(last, scan.strip(last, len(last)) - 1)
    fields = decode_prompt(head + last[stop:])
    while names := tuple(name for name in names if not getattr(fields, name)):
        places = [_mentioned(last, _KEYS[name], stop) for name in names]
        found = [place for place in places if place]
        if not found:
            break
        stop = _passed_over(last, scan.strip(last, min(found)) - 1)
        fields = decode_prompt(head + last[stop:])
    return fields, stop


def _passed_over(last: bytes, end: int) -> int:
    """Where the value ends that is in front of the short fields before ``end``."""
    low = max(0, end - SHORT)
    return low + scan.walk_back(last[low:end], end - low, {}, MAX_MARKS)


def _mentioned(last: bytes, key: bytes, end: int) -> int:
    """Where a key of the top level stands whose value is before ``end``; 0 if nowhere."""
    low, place = max(0, end - REACH), end
    for _ in range(MAX_MENTIONS):
        place = last.rfind(key, low, place)
        if place < 0:
            return 0
        if scan.COLON_AT.match(last, place + len(key)) and _is_object(b"{" + last[place:]):
            return place
    return 0


def _cut(pieces: list[bytes], begin: int, end: int) -> list[Piece]:
    """A stretch of a body in pieces."""
    found: list[Piece] = []
    for piece in pieces:
        if begin < len(piece):
            found.append(memoryview(piece)[max(begin, 0) : end])
        begin -= len(piece)
        end -= len(piece)
        if end <= 0:
            break
    return found

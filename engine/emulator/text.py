"""The emulator's language: a token is four bytes of text, and every answer counts.

Fixed-size tokens make token counts, prefix hashes and the text of a following turn agree with one
another without any tokenizer: token i of an answer is the text " 000", " 001", ..., so a reader can
also see at once whether a piece is missing or out of order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from engine.emulator.kv import BYTES_PER_TOKEN

TOKENS: Final[tuple[bytes, ...]] = tuple(b" %03d" % i for i in range(1000))
_CYCLE: Final = b"".join(TOKENS)


def answer_text(count: int, start: int = 0) -> bytes:
    """Text of tokens start .. start + count - 1 of any answer."""
    begin = start % len(TOKENS) * BYTES_PER_TOKEN
    size = count * BYTES_PER_TOKEN
    repeats = (begin + size) // len(_CYCLE) + 1
    return (_CYCLE * repeats)[begin : begin + size]


def token_count(text: bytes) -> int:
    """Tokens in a prompt; an empty one still has a start token."""
    return max(1, -(-len(text) // BYTES_PER_TOKEN))


def encode(text: bytes) -> list[int]:
    """Token ids: each is the four bytes as a little-endian number; the last may be shorter."""
    return [
        int.from_bytes(text[i : i + BYTES_PER_TOKEN], "little")
        for i in range(0, len(text), BYTES_PER_TOKEN)
    ]


def decode(ids: Sequence[int]) -> bytes:
    """The inverse of `encode`; raises OverflowError for an id of more than 32 bits."""
    last = len(ids) - 1
    pieces = [n.to_bytes(BYTES_PER_TOKEN, "little") for n in ids]
    if pieces:
        pieces[last] = pieces[last].rstrip(b"\0")
    return b"".join(pieces)


def render_chat(messages: Sequence[Mapping[str, Any]], tools: object = None) -> bytes:
    """The prompt of a conversation; a longer conversation's prompt starts with a shorter one's.

    Token boundaries are kept by padding each turn's head, not its content: the text of an answer
    lands on the same four-byte grid on which it was generated.
    """
    parts: list[bytes] = []
    if tools:
        parts.append(_on_grid(b"<tools>" + msgspec.json.encode(tools) + b"\n"))
    for message in messages:
        parts.append(_turn_head(str(message["role"])))
        parts.append(_on_grid(flatten(message.get("content")).encode(), filler=b"\n"))
    parts.append(_turn_head("assistant"))
    return b"".join(parts)


def flatten(content: object) -> str:
    """Plain text of a message content: a string, a list of parts, or nothing."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part_text(part) for part in content)
    raise TypeError("expected a string or a list of content parts")


def _part_text(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise TypeError("each content part must be an object")
    text = part.get("text")
    if isinstance(text, str):
        return text
    # Images and audio stand in the prompt as their description, which is as unique as they are.
    return msgspec.json.encode(part).decode()


def _turn_head(role: str) -> bytes:
    return _on_grid(b"<|" + role.encode() + b"|>\n")


def _on_grid(text: bytes, filler: bytes = b" ") -> bytes:
    return text + filler * (-len(text) % BYTES_PER_TOKEN)

"""Token ids to text, piece by piece, without ever showing half a character or half a stop string.

Byte-level BPE (Llama 3, Qwen, GPT-2, the bundled model) decodes to bytes, and bytes decode to text
incrementally: each token's bytes are looked up once and fed to an incremental UTF-8 decoder, so a
token costs well under a microsecond and the result equals decoding everything at once, broken
UTF-8 included. Every other decoder (byte fallback, metaspace, wordpiece) is a black box: decode a
short window of ids with and without the new ones, and take the difference once it no longer ends
in a replacement character.

`TextStream` puts stop strings on top. It holds back exactly the longest suffix that could still
grow into a stop string, so a stop that spans tokens is never shown, and a match can only begin in
text that was held.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

REPLACEMENT = "\ufffd"

# A window that still ends in a replacement character after this many ids is broken text, not an
# unfinished character (UTF-8 needs at most four byte tokens), so it is shown as it is.
_MAX_HELD_IDS = 32
_MAX_CHARACTER_IDS = 4

# Ids of the prompt that give a black-box decoder its left context (for example whether a leading
# space is stripped).
_CONTEXT_IDS = 6


def _byte_alphabet() -> dict[str, int]:
    """The printable stand-ins that byte-level BPE uses for the 256 byte values, inverted."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shown = {chr(value): value for value in printable}
    hidden = (value for value in range(256) if value not in set(printable))
    shown.update({chr(256 + offset): value for offset, value in enumerate(hidden)})
    return shown


_BYTE_OF_CHAR = _byte_alphabet()


class Vocabulary:
    """Per-tokenizer facts that every request shares: the bytes of a token, and which are special.

    `tokenizer` is a `tokenizers.Tokenizer`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        state = tokenizer.decoder.__getstate__() if tokenizer.decoder is not None else b"{}"
        self.byte_level = json.loads(state).get("type") == "ByteLevel"
        added = tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(index for index, token in added.items() if token.special)
        self.size: int = tokenizer.get_vocab_size(with_added_tokens=True)
        self._bytes: dict[int, bytes] = {}

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes one token stands for; empty for an id outside the vocabulary."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._compute(token_id)
        return known

    def token_text(self, token_id: int) -> str:
        """One token decoded alone, broken UTF-8 replaced (as log-probabilities show it)."""
        return self.token_bytes(token_id).decode("utf-8", "replace")

    def _compute(self, token_id: int) -> bytes:
        token = self.tokenizer.id_to_token(token_id)
        if token is None:
            return b""
        if self.byte_level:
            try:
                return bytes([_BYTE_OF_CHAR[char] for char in token])
            except KeyError:
                return str(token).encode()
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            try:
                return bytes([int(token[3:5], 16)])
            except ValueError:
                pass
        if token_id in self.special_ids:
            return str(token).encode()
        return str(token).replace("\u2581", " ").encode()


class Decoder(Protocol):
    """Incremental ids to text."""

    def push(self, ids: Sequence[int]) -> str:
        """The text that became certain with `ids`."""

    def flush(self) -> str:
        """What was still held when the sequence ended."""


class ByteLevelDecoder:
    """Exact incremental decoding for byte-level BPE."""

    __slots__ = ("_decode", "_skip", "_vocabulary")

    def __init__(self, vocabulary: Vocabulary, *, skip_special_tokens: bool = True) -> None:
        self._vocabulary = vocabulary
        self._skip = vocabulary.special_ids if skip_special_tokens else frozenset()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def push(self, ids: Sequence[int]) -> str:
        token_bytes, skip = self._vocabulary.token_bytes, self._skip
        return self._decode(b"".join([token_bytes(i) for i in ids if i not in skip]))

    def flush(self) -> str:
        return self._decode(b"", True)


class WindowDecoder:
    """Incremental decoding through a black-box `decode`, by the difference of two windows."""

    __slots__ = ("_base", "_ids", "_read", "_skip", "_tokenizer")

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        skip_special_tokens: bool = True,
        prompt_ids: Sequence[int] = (),
    ) -> None:
        self._tokenizer = vocabulary.tokenizer
        self._skip = skip_special_tokens
        self._ids = list(prompt_ids[-_CONTEXT_IDS:])
        self._read = len(self._ids)
        self._base = self._text(self._ids)

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=self._skip))

    def push(self, ids: Sequence[int]) -> str:
        self._ids.extend(ids)
        shown = len(self._ids)
        text = self._text(self._ids)
        if text.endswith(REPLACEMENT):
            if shown - self._read <= _MAX_HELD_IDS:
                return ""
            shown, text = self._without_a_beginning(text)
        if len(text) <= len(self._base):
            return ""
        delta = text[len(self._base) :]
        del self._ids[: self._read]
        self._read = shown - self._read
        self._base = self._text(self._ids[: self._read])
        return delta

    def _without_a_beginning(self, text: str) -> tuple[int, str]:
        """How many ids make sense without the character that the last ones may have begun.

        A run of byte tokens that ends in half a character may decode to nothing but replacement
        characters, however many whole ones it holds.
        """
        for begun in range(1, _MAX_CHARACTER_IDS):
            part = self._text(self._ids[:-begun])
            if not part.endswith(REPLACEMENT):
                return len(self._ids) - begun, part
        return len(self._ids), text

    def flush(self) -> str:
        text = self._text(self._ids)[len(self._base) :]
        self._ids, self._read, self._base = [], 0, ""
        return text


def make_decoder(
    vocabulary: Vocabulary, *, skip_special_tokens: bool = True, prompt_ids: Sequence[int] = ()
) -> Decoder:
    """The exact decoder where the tokenizer is byte-level, else the windowed one."""
    if vocabulary.byte_level:
        return ByteLevelDecoder(vocabulary, skip_special_tokens=skip_special_tokens)
    return WindowDecoder(vocabulary, skip_special_tokens=skip_special_tokens, prompt_ids=prompt_ids)


class TextStream:
    """Decoded text of one sequence, cut at the first stop string.

    `stopped` is the stop string that ended it, or None. With `include_stop` the stop string itself
    is the last text shown.
    """

    __slots__ = ("_decoder", "_held", "_include_stop", "_longest", "_stop", "stopped")

    def __init__(
        self, decoder: Decoder, stop: Iterable[str] = (), *, include_stop: bool = False
    ) -> None:
        self._decoder = decoder
        self._stop = tuple(text for text in stop if text)
        self._longest = max((len(text) for text in self._stop), default=0)
        self._include_stop = include_stop
        self._held = ""
        self.stopped: str | None = None

    def __repr__(self) -> str:
        return f"TextStream(held={self._held!r}, stop={self._stop!r}, stopped={self.stopped!r})"

    def push(self, ids: Sequence[int], *, may_stop: bool = True) -> str:
        """Text that can be shown after `ids`; empty once stopped.

        With `may_stop` false (below `min_tokens`) nothing is held and nothing stops.
        """
        if self.stopped is not None:
            return ""
        text = self._decoder.push(ids)
        if not self._stop:
            return text
        return self._cut(self._held + text, may_stop=may_stop)

    def finish(self, *, may_stop: bool = True) -> str:
        """Everything still held, when the sequence ended for another reason."""
        if self.stopped is not None:
            return ""
        text = self._held + self._decoder.flush()
        if self._stop and may_stop:
            text = self._cut(text, may_stop=True)
        text, self._held = text + self._held, ""
        return text

    def _cut(self, text: str, *, may_stop: bool) -> str:
        if not may_stop:
            self._held = ""
            return text
        found = [(at + len(s), at, s) for s in self._stop if (at := text.find(s)) >= 0]
        if found:
            # The one that is complete first, so that the grouping of tokens makes no difference.
            _, at, stop = min(found)
            self.stopped, self._held = stop, ""
            return text[: at + len(stop)] if self._include_stop else text[:at]
        keep = self._unsettled(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _unsettled(self, text: str) -> int:
        """Length of the longest suffix of `text` that is a proper prefix of a stop string."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            tail = text[-length:]
            if any(len(stop) > length and stop.startswith(tail) for stop in self._stop):
                return length
        return 0

"""The served model as the HTTP side sees it: its names, tokenizer, template and limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from engine.detok import Vocabulary
from engine.server.chat import ChatTemplate, TemplateError
from engine.server.errors import ApiError, bad_field, text_too_long, unknown_model
from engine.server.protocol import Defaults, Limits

# Encoding a longer text than this takes more than about a millisecond, which every other stream
# would feel, so it goes to a thread.
_INLINE_CHARACTERS = 4096

# Characters that a tokenizer's normaliser may make one of (a letter and its accents).
_COMPOSED = 4


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Switches of the HTTP surface, named after the flags that set them."""

    api_keys: tuple[str, ...] = ()
    response_role: str = "assistant"
    prompt_tokens_details: bool = True
    request_id_headers: bool = False
    tokenizer_info: bool = False
    max_queued: int | None = None
    max_request_bytes: int = 64 * 2**20


class ServedModel:
    """Names, tokenizer, chat template and limits of the one model of this server.

    Args:
        names: what clients may call it; the first one is shown in answers.
        root: where it was loaded from.
        tokenizer: a `tokenizers.Tokenizer`; truncation and padding are switched off.
        template: None for a model that cannot chat.
        tokenizer_config: parsed `tokenizer_config.json`, for `/tokenizer_info`.
    """

    def __init__(
        self,
        *,
        names: Sequence[str],
        root: str,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        limits: Limits,
        defaults: Defaults,
        tokenizer_config: Mapping[str, Any] | None = None,
    ) -> None:
        self.names = tuple(dict.fromkeys(names))
        self.root = root
        self.tokenizer = tokenizer
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.vocabulary = Vocabulary(tokenizer)
        # Other tokenizers than byte-level ones may make one token of any length of text.
        longest = max(map(len, tokenizer.get_vocab()), default=1)
        self._most_characters = (
            limits.max_model_len * longest * _COMPOSED if self.vocabulary.byte_level else None
        )
        self.template = template
        self.limits = limits
        self.defaults = defaults
        self.tokenizer_config = dict(tokenizer_config or {})
        self.created = int(time.time())

    def __repr__(self) -> str:
        return f"ServedModel({self.name}, max_model_len={self.limits.max_model_len})"

    @property
    def name(self) -> str:
        """The name in answers and metrics."""
        return self.names[0]

    def check_name(self, name: str | None) -> None:
        """Raise `ApiError` 404 for a model that is not this one; None or "" means this one."""
        if name and name not in self.names:
            raise unknown_model(name)

    def card(self, name: str) -> dict[str, Any]:
        """The entry of `/v1/models`."""
        return {
            "id": name,
            "object": "model",
            "created": self.created,
            "owned_by": "warmpath",
            "root": self.root,
            "parent": None,
            "max_model_len": self.limits.max_model_len,
            "permission": [
                {
                    "id": f"modelperm-{name}",
                    "object": "model_permission",
                    "created": self.created,
                    "allow_create_engine": False,
                    "allow_sampling": True,
                    "allow_logprobs": True,
                    "allow_search_indices": False,
                    "allow_view": True,
                    "allow_fine_tuning": False,
                    "organization": "*",
                    "group": None,
                    "is_blocking": False,
                }
            ],
        }

    async def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of `text`."""
        if len(text) <= _INLINE_CHARACTERS:
            return list(self.tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

        def encode() -> list[int]:
            # As a batch, since the tokenizer lets other threads run during batches only.
            batch = self.tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
            return list(batch[0].ids)

        return await asyncio.to_thread(encode)

    async def decode(self, ids: list[int]) -> str:
        """The text of `ids`, special tokens included."""
        if len(ids) <= _INLINE_CHARACTERS:
            return str(self.tokenizer.decode(ids, skip_special_tokens=False))

        def decode() -> str:
            return str(self.tokenizer.decode_batch([ids], skip_special_tokens=False)[0])

        return await asyncio.to_thread(decode)

    def check_text(self, text: str, *, param: str) -> None:
        """Raise `ApiError` 400 for a text so long that encoding it would be wasted work."""
        if self._most_characters is not None and len(text) > self._most_characters:
            raise text_too_long(len(text), self.limits.max_model_len, param=param)

    def check_ids(self, ids: Sequence[int], *, param: str) -> None:
        """Raise `ApiError` 400 for an empty list or ids outside the vocabulary."""
        size = self.limits.vocab_size
        if not ids:
            raise bad_field(param, f"`{param}` must give at least one token.")
        if min(ids) < 0 or max(ids) >= size:
            raise bad_field(
                param, f"`{param}` holds a token id outside 0 to {size - 1}, the vocabulary."
            )

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool,
        continue_final_message: bool,
        kwargs: Mapping[str, Any],
    ) -> str:
        """The prompt text of a conversation. Raises `ApiError` 400."""
        if self.template is None:
            raise ApiError(
                400,
                f"The model {self.name} has no chat template; start the server with "
                "--chat-template or use /v1/completions.",
                code="no_chat_template",
            )
        if add_generation_prompt and continue_final_message:
            raise bad_field(
                "continue_final_message",
                "`continue_final_message` and `add_generation_prompt` cannot both be true.",
            )
        try:
            return self.template.render(
                messages,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                kwargs=kwargs,
            )
        except TemplateError as error:
            raise bad_field("messages", f"The messages cannot be rendered: {error}.") from error


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read `tokenizer.json`. Raises `FileNotFoundError` or `ValueError`."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"no tokenizer.json in {folder}")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        # The library raises bare Exception for a file it cannot read.
        raise ValueError(f"{path} cannot be read: {error}") from error

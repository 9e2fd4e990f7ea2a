"""Answers of the generation routes: whole JSON bodies and server-sent events.

A stream's events differ in a few values only, so everything else is encoded once per stream and an
event is the join of prepared bytes with one JSON string.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from engine.detok import Vocabulary
from engine.generation import Delta, Generation
from engine.request import TokenLogprob

encode = msgspec.json.encode

DONE = b"data: [DONE]\n\n"


def event(payload: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + encode(payload) + b"\n\n"


def usage_of(
    prompt_tokens: int, completion_tokens: int, cached_tokens: int, *, details: bool
) -> dict[str, Any]:
    """The `usage` object; `details` adds `prompt_tokens_details.cached_tokens`."""
    usage: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
    }
    if details:
        usage["prompt_tokens_details"] = {"cached_tokens": cached_tokens}
    return usage


def total_usage(generations: Sequence[Generation], *, details: bool) -> dict[str, Any]:
    """`usage` of a whole answer; a prompt counts once however many choices it has."""
    return usage_of(
        sum(generation.prompt_tokens for generation in generations),
        sum(generation.completion_tokens for generation in generations),
        sum(generation.cached_tokens for generation in generations),
        details=details,
    )


class ChatShape:
    """`/v1/chat/completions`: whole answers and chunks."""

    path_object = "chat.completion"

    def __init__(self, *, answer_id: str, model: str, created: int, role: str) -> None:
        self._base = {"id": answer_id, "created": created, "model": model}
        self._role = role
        head = encode({"id": answer_id, "object": "chat.completion.chunk", "created": created})
        self._head = b"data: " + head[:-1] + b',"model":' + encode(model) + b',"choices":['

    def opening(self, choices: int, usage: dict[str, Any] | None) -> bytes:
        """The first events: who speaks, for every choice."""
        delta = {"role": self._role, "content": ""}
        return b"".join(
            self._head
            + encode({"index": at, "delta": delta, "logprobs": None, "finish_reason": None})
            + _closing(usage)
            for at in range(choices)
        )

    def chunk(self, index: int, delta: Delta, logprobs: Any, usage: dict[str, Any] | None) -> bytes:
        """One event of one choice."""
        return b"".join(
            (
                self._head,
                b'{"index":%d,"delta":{"content":' % index,
                encode(delta.text),
                b'},"logprobs":',
                b"null" if logprobs is None else encode(logprobs),
                _finish(delta),
                b"}",
                _closing(usage),
            )
        )

    def usage_event(self, usage: dict[str, Any]) -> bytes:
        """The event after the last choice, with usage alone."""
        return self._head + _closing(usage)

    def whole(
        self,
        choices: Sequence[tuple[int, Delta, str, Any]],
        usage: dict[str, Any],
        prompt_logprobs: Any,
    ) -> bytes:
        """The unstreamed answer; `choices` are (index, delta, text, logprobs)."""
        listed = [
            {
                "index": index,
                "message": {"role": self._role, "content": text, "refusal": None, "tool_calls": []},
                "logprobs": logprobs,
                "finish_reason": delta.finish_reason,
                "stop_reason": delta.stop_reason,
            }
            for index, delta, text, logprobs in choices
        ]
        return encode(
            {
                **self._base,
                "object": "chat.completion",
                "choices": listed,
                "usage": usage,
                "prompt_logprobs": prompt_logprobs,
            }
        )


class CompletionShape:
    """`/v1/completions`: whole answers and chunks."""

    def __init__(self, *, answer_id: str, model: str, created: int) -> None:
        self._base = {
            "id": answer_id,
            "object": "text_completion",
            "created": created,
            "model": model,
        }
        self._head = b"data: " + encode(self._base)[:-1] + b',"choices":['

    def opening(self, choices: int, usage: dict[str, Any] | None) -> bytes:
        """Completions have no opening event."""
        return b""

    def chunk(self, index: int, delta: Delta, logprobs: Any, usage: dict[str, Any] | None) -> bytes:
        """One event of one choice."""
        return b"".join(
            (
                self._head,
                b'{"index":%d,"text":' % index,
                encode(delta.text),
                b',"logprobs":',
                b"null" if logprobs is None else encode(logprobs),
                _finish(delta),
                b"}",
                _closing(usage),
            )
        )

    def usage_event(self, usage: dict[str, Any]) -> bytes:
        """The event after the last choice, with usage alone."""
        return self._head + _closing(usage)

    def whole(
        self,
        choices: Sequence[tuple[int, Delta, str, Any]],
        usage: dict[str, Any],
        prompt_logprobs: Any,
    ) -> bytes:
        """The unstreamed answer; `choices` are (index, delta, text, logprobs)."""
        listed = [
            {
                "index": index,
                "text": text,
                "logprobs": logprobs,
                "finish_reason": delta.finish_reason,
                "stop_reason": delta.stop_reason,
                "prompt_logprobs": prompt_logprobs[index] if prompt_logprobs else None,
            }
            for index, delta, text, logprobs in choices
        ]
        return encode({**self._base, "choices": listed, "usage": usage})


def _closing(usage: dict[str, Any] | None) -> bytes:
    return b"]}\n\n" if usage is None else b'],"usage":' + encode(usage) + b"}\n\n"


def _finish(delta: Delta) -> bytes:
    if delta.finish_reason is None:
        return b',"finish_reason":null'
    reason, stop = encode(delta.finish_reason), encode(delta.stop_reason)
    return b',"finish_reason":' + reason + b',"stop_reason":' + stop


# ---------------------------------------------------------------- log-probabilities

# JSON has no infinity; this is what the field uses for "impossible".
_LOWEST = -9999.0


def _finite(logprob: float) -> float:
    return max(logprob, _LOWEST)


def chat_logprobs(
    vocabulary: Vocabulary, entries: Sequence[TokenLogprob], top: int
) -> dict[str, Any]:
    """OpenAI's chat form: `content`, one entry per token with its `top` alternatives."""

    def one(token_id: int, logprob: float) -> dict[str, Any]:
        return {
            "token": vocabulary.token_text(token_id),
            "logprob": _finite(logprob),
            "bytes": list(vocabulary.token_bytes(token_id)),
        }

    return {
        "content": [
            {
                **one(entry.token_id, entry.logprob),
                "top_logprobs": [one(*other) for other in entry.top[:top]],
            }
            for entry in entries
        ]
    }


class CompletionLogprobs:
    """OpenAI's completions form, four parallel lists; keeps the text offset of one choice."""

    __slots__ = ("_offset", "_top", "_vocabulary")

    def __init__(self, vocabulary: Vocabulary, top: int) -> None:
        self._vocabulary = vocabulary
        self._top = top
        self._offset = 0

    def listed(
        self, entries: Sequence[TokenLogprob | None], token_ids: Sequence[int]
    ) -> dict[str, Any]:
        """Lists for the next tokens; a None entry (the prompt's first token) has no probability."""
        text_of = self._vocabulary.token_text
        tokens: list[str] = []
        values: list[float | None] = []
        tops: list[dict[str, float] | None] = []
        offsets: list[int] = []
        for entry, token_id in zip(entries, token_ids, strict=True):
            text = text_of(token_id)
            tokens.append(text)
            offsets.append(self._offset)
            self._offset += len(text)
            values.append(None if entry is None else _finite(entry.logprob))
            tops.append(None if entry is None else self._alternatives(entry))
        return {
            "text_offset": offsets,
            "token_logprobs": values,
            "tokens": tokens,
            "top_logprobs": tops,
        }

    def _alternatives(self, entry: TokenLogprob) -> dict[str, float]:
        text_of = self._vocabulary.token_text
        found = {text_of(token_id): _finite(value) for token_id, value in entry.top[: self._top]}
        found.setdefault(text_of(entry.token_id), _finite(entry.logprob))
        return found


def prompt_logprobs(
    vocabulary: Vocabulary, entries: Sequence[TokenLogprob | None]
) -> list[dict[str, Any] | None]:
    """vLLM's `prompt_logprobs`: per position, token id to log-probability, rank and text."""
    listed: list[dict[str, Any] | None] = []
    for entry in entries:
        if entry is None:
            listed.append(None)
            continue
        ranked = {
            str(token_id): {
                "logprob": _finite(value),
                "rank": rank,
                "decoded_token": vocabulary.token_text(token_id),
            }
            for rank, (token_id, value) in enumerate(entry.top, start=1)
        }
        ranked.setdefault(
            str(entry.token_id),
            {
                "logprob": _finite(entry.logprob),
                "rank": entry.rank,
                "decoded_token": vocabulary.token_text(entry.token_id),
            },
        )
        listed.append(ranked)
    return listed

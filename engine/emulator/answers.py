"""What answers look like on the wire: OpenAI chat and text completions.

Everything that stays the same for a whole answer is rendered once; a streamed token is then three
byte strings put side by side.  The other dialects are in `dialects.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import msgspec

from engine.emulator.inputs import Work

DONE = b"data: [DONE]\n\n"
encode = msgspec.json.encode


def event(document: Any) -> bytes:
    """A nameless SSE event, as OpenAI sends them."""
    return b"data: " + encode(document) + b"\n\n"


class Answer(ABC):
    """Renders the answer to one request.

    A stream is `opening`, then for each piece of text and each choice the bytes before and after
    the text (`frame`), or a whole event (`piece`) where no two events are alike, then `closing`.
    """

    templated: ClassVar[bool] = True

    def __init__(self, work: Work, request_id: str, created: int) -> None:
        self.work = work
        self.request_id = request_id
        self.created = created
        self.cached = 0

    @abstractmethod
    def whole(self, text: bytes) -> bytes:
        """The JSON document of an answer that is not streamed; `text` is ASCII."""

    @abstractmethod
    def opening(self) -> list[bytes]:
        """SSE events before the first text."""

    def frame(self, choice: int) -> tuple[bytes, bytes]:
        """Bytes before and after the text of one event."""
        raise NotImplementedError

    def piece(self, text: bytes) -> bytes:
        """One event with text, for dialects that are not `templated`."""
        raise NotImplementedError

    @abstractmethod
    def closing(self, text: bytes) -> list[bytes]:
        """SSE events after the last text; `text` is the complete answer."""

    def usage(self) -> dict[str, Any]:
        """Token counts in OpenAI's form."""
        work = self.work
        completion = work.target * work.width
        return {
            "prompt_tokens": work.prompt_tokens,
            "total_tokens": work.prompt_tokens + completion,
            "completion_tokens": completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


class _OpenAi(Answer):
    """The frame shared by the two completion APIs."""

    whole_kind: ClassVar[str]
    chunk_kind: ClassVar[str]

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.request_id,
            "object": kind,
            "created": self.created,
            "model": self.work.model,
        }

    def _chunk(self, choice: int, payload: dict[str, Any], finish: str | None) -> dict[str, Any]:
        return {
            **self._envelope(self.chunk_kind),
            "choices": [{"index": choice, **payload, "logprobs": None, "finish_reason": finish}],
        }

    def _split(self, document: dict[str, Any]) -> tuple[bytes, bytes]:
        # The marker cannot occur elsewhere: an unescaped control character is not JSON.
        before, after = event(document).split(b"\\u0001")
        return before, after

    def _usage_event(self) -> list[bytes]:
        if not self.work.include_usage:
            return []
        return [event({**self._envelope(self.chunk_kind), "choices": [], "usage": self.usage()})]


class ChatAnswer(_OpenAi):
    """/v1/chat/completions."""

    whole_kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"

    def whole(self, text: bytes) -> bytes:
        content = text.decode()
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": content, "tool_calls": []},
                "logprobs": None,
                "finish_reason": self.work.finish,
                "stop_reason": None,
            }
            for index in range(self.work.width)
        ]
        envelope = self._envelope(self.whole_kind)
        return encode({**envelope, "choices": choices, "usage": self.usage()})

    def opening(self) -> list[bytes]:
        delta = {"delta": {"role": "assistant", "content": ""}}
        return [event(self._chunk(index, delta, None)) for index in range(self.work.width)]

    def frame(self, choice: int) -> tuple[bytes, bytes]:
        return self._split(self._chunk(choice, {"delta": {"content": "\x01"}}, None))

    def closing(self, text: bytes) -> list[bytes]:
        finish = self.work.finish
        ends = [
            event(self._chunk(index, {"delta": {}}, finish)) for index in range(self.work.width)
        ]
        return [*ends, *self._usage_event(), DONE]


class CompletionAnswer(_OpenAi):
    """/v1/completions."""

    whole_kind = "text_completion"
    chunk_kind = "text_completion"

    def whole(self, text: bytes) -> bytes:
        content = text.decode()
        choices = [
            {
                "index": index,
                "text": content,
                "logprobs": None,
                "finish_reason": self.work.finish,
                "stop_reason": None,
                "prompt_logprobs": None,
            }
            for index in range(self.work.width)
        ]
        envelope = self._envelope(self.whole_kind)
        return encode({**envelope, "choices": choices, "usage": self.usage()})

    def opening(self) -> list[bytes]:
        return []

    def frame(self, choice: int) -> tuple[bytes, bytes]:
        return self._split(self._chunk(choice, {"text": "\x01"}, None))

    def closing(self, text: bytes) -> list[bytes]:
        finish = self.work.finish
        ends = [event(self._chunk(index, {"text": ""}, finish)) for index in range(self.work.width)]
        return [*ends, *self._usage_event(), DONE]

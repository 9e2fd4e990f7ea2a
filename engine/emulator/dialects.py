"""The other dialects of generation: OpenAI responses and Anthropic messages.

Their events carry a name, and responses number every one, so each is rendered by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.emulator.answers import Answer, ChatAnswer, CompletionAnswer, encode


def named_event(document: dict[str, Any]) -> bytes:
    """An SSE event named after its `type` field."""
    return b"event: %b\ndata: %b\n\n" % (document["type"].encode(), encode(document))


class ResponseAnswer(Answer):
    """/v1/responses."""

    templated = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._number = -1

    def _event(self, kind: str, **values: Any) -> bytes:
        self._number += 1
        return named_event({"type": kind, "sequence_number": self._number, **values})

    def _part(self, text: str) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _item(self, text: str | None, status: str) -> dict[str, Any]:
        return {
            "id": f"msg_{self.request_id}",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [] if text is None else [self._part(text)],
        }

    def _document(self, text: str | None) -> dict[str, Any]:
        work = self.work
        cut = work.finish == "length"
        status = "in_progress" if text is None else "incomplete" if cut else "completed"
        usage = {
            "input_tokens": work.prompt_tokens,
            "input_tokens_details": {"cached_tokens": self.cached},
            "output_tokens": work.target,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": work.prompt_tokens + work.target,
        }
        return {
            "id": self.request_id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "model": work.model,
            "output": [] if text is None else [self._item(text, "completed")],
            "incomplete_details": {"reason": "max_output_tokens"}
            if status == "incomplete"
            else None,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "max_output_tokens": work.max_tokens,
            "error": None,
            "usage": None if text is None else usage,
        }

    def whole(self, text: bytes) -> bytes:
        return encode(self._document(text.decode()))

    def opening(self) -> list[bytes]:
        place = {"output_index": 0}
        return [
            self._event("response.created", response=self._document(None)),
            self._event("response.in_progress", response=self._document(None)),
            self._event(
                "response.output_item.added", **place, item=self._item(None, "in_progress")
            ),
            self._event("response.content_part.added", **self._place(), part=self._part("")),
        ]

    def _place(self) -> dict[str, Any]:
        return {"item_id": f"msg_{self.request_id}", "output_index": 0, "content_index": 0}

    def piece(self, text: bytes) -> bytes:
        return self._event(
            "response.output_text.delta", **self._place(), delta=text.decode(), logprobs=[]
        )

    def closing(self, text: bytes) -> list[bytes]:
        words = text.decode()
        end = "response.incomplete" if self.work.finish == "length" else "response.completed"
        return [
            self._event("response.output_text.done", **self._place(), text=words, logprobs=[]),
            self._event("response.content_part.done", **self._place(), part=self._part(words)),
            self._event(
                "response.output_item.done", output_index=0, item=self._item(words, "completed")
            ),
            self._event(end, response=self._document(words)),
        ]


class MessageAnswer(Answer):
    """/v1/messages, Anthropic's API."""

    templated = False

    def _usage(self, output: int) -> dict[str, Any]:
        return {
            "input_tokens": self.work.prompt_tokens - self.cached,
            "cache_read_input_tokens": self.cached,
            "cache_creation_input_tokens": 0,
            "output_tokens": output,
        }

    def _document(self, text: str | None) -> dict[str, Any]:
        return {
            "id": self.request_id,
            "type": "message",
            "role": "assistant",
            "model": self.work.model,
            "content": [] if text is None else [{"type": "text", "text": text}],
            "stop_reason": None if text is None else self._stop_reason(),
            "stop_sequence": None,
            "usage": self._usage(0 if text is None else self.work.target),
        }

    def _stop_reason(self) -> str:
        return "max_tokens" if self.work.finish == "length" else "end_turn"

    def whole(self, text: bytes) -> bytes:
        return encode(self._document(text.decode()))

    def opening(self) -> list[bytes]:
        block = {"type": "text", "text": ""}
        return [
            named_event({"type": "message_start", "message": self._document(None)}),
            named_event({"type": "content_block_start", "index": 0, "content_block": block}),
        ]

    def piece(self, text: bytes) -> bytes:
        delta = {"type": "text_delta", "text": text.decode()}
        return named_event({"type": "content_block_delta", "index": 0, "delta": delta})

    def closing(self, text: bytes) -> list[bytes]:
        delta = {"stop_reason": self._stop_reason(), "stop_sequence": None}
        usage = self._usage(self.work.target)
        return [
            named_event({"type": "content_block_stop", "index": 0}),
            named_event({"type": "message_delta", "delta": delta, "usage": usage}),
            named_event({"type": "message_stop"}),
        ]


ANSWERS: Final[Mapping[str, tuple[str, type[Answer]]]] = {
    "/v1/chat/completions": ("chatcmpl-", ChatAnswer),
    "/v1/completions": ("cmpl-", CompletionAnswer),
    "/v1/responses": ("resp_", ResponseAnswer),
    "/v1/messages": ("msg_", MessageAnswer),
}

"""Conversations of the demo: an ordinary client of the OpenAI API, and its notes of each turn."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec

ANSWER_LIMIT = aiohttp.ClientTimeout(total=120)
MAX_TOKENS = 80


class Turn(msgspec.Struct, kw_only=True):
    """One request as its client saw it.

    Attributes:
        number: of the turn in its conversation, from 1.
        endpoint, reason: the router's word on who answered and why.
        first_token: seconds to the first piece of the answer; to all of it if not streamed.
        prompt_tokens, cached_tokens: from the answer's usage; None without an answer.
        error: why there is no complete answer, or None.
    """

    conversation: str
    number: int
    streamed: bool
    endpoint: str = ""
    reason: str = ""
    first_token: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    text: str = ""
    error: str | None = None

    def note_usage(self, usage: dict[str, Any]) -> None:
        self.prompt_tokens = usage["prompt_tokens"]
        self.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)


class ChatFailed(Exception):
    """The answer was an error, or was cut off."""


class Conversation:
    """Turns with one history.

    Args:
        name: for people.
        questions: what will be asked, in order.
        streamed: whether answers are asked for piece by piece.
    """

    def __init__(self, name: str, questions: tuple[str, ...], *, streamed: bool) -> None:
        self.name = name
        self.streamed = streamed
        self.turns: list[Turn] = []
        self._questions = questions
        self._messages: list[dict[str, str]] = []

    @property
    def endpoint(self) -> str:
        """Who answered last."""
        return self.turns[-1].endpoint if self.turns else ""

    async def next_turn(
        self, session: aiohttp.ClientSession, url: str, model: str, *, streamed: bool | None = None
    ) -> Turn:
        """Ask the next question. An error is noted in the turn, which then leaves no history."""
        number = len(self.turns) + 1
        streamed = self.streamed if streamed is None else streamed
        turn = Turn(conversation=self.name, number=number, streamed=streamed)
        self.turns.append(turn)
        question = {"role": "user", "content": self._questions[number - 1]}
        body: dict[str, Any] = {
            "model": model,
            "messages": [*self._messages, question],
            "max_tokens": MAX_TOKENS,
            "temperature": 0,
            "stream": streamed,
        }
        if streamed:
            body["stream_options"] = {"include_usage": True}
        try:
            await _ask(session, f"{url}/v1/chat/completions", body, turn)
        except (aiohttp.ClientError, TimeoutError, ChatFailed, ValueError) as error:
            turn.error = str(error) or type(error).__name__
        else:
            self._messages += [question, {"role": "assistant", "content": turn.text}]
        return turn


async def _ask(session: aiohttp.ClientSession, url: str, body: dict[str, Any], turn: Turn) -> None:
    started = time.monotonic()
    async with session.post(url, json=body, timeout=ANSWER_LIMIT) as answer:
        turn.endpoint = answer.headers.get("x-warmpath-endpoint", "")
        turn.reason = answer.headers.get("x-warmpath-reason", "")
        if answer.status != 200:
            raise ChatFailed(f"{answer.status}: {_message(await answer.text())}")
        if not turn.streamed:
            whole = await answer.json()
            turn.first_token = time.monotonic() - started
            turn.text = whole["choices"][0]["message"]["content"]
            turn.note_usage(whole["usage"])
            return
        async for event in _events(answer):
            for choice in event["choices"]:
                if piece := choice["delta"].get("content"):
                    if turn.first_token is None:
                        turn.first_token = time.monotonic() - started
                    turn.text += piece
            if usage := event.get("usage"):
                turn.note_usage(usage)


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The events of a stream up to its ``[DONE]``; raises ChatFailed if that never comes."""
    async for line in answer.content:
        name, _, data = line.strip().partition(b":")
        if name != b"data":
            continue
        if data.strip() == b"[DONE]":
            return
        event: dict[str, Any] = json.loads(data)
        if "error" in event:
            raise ChatFailed(event["error"]["message"])
        yield event
    raise ChatFailed("the stream ended before its end")


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200]

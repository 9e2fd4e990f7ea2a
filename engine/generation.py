"""A request's choices as they grow: tokens in, text and finish reasons out.

`Generation.feed` takes one step's result for one choice, decodes it and cuts it at stop strings.
What a reader has not yet taken is merged, so a slow reader costs one `Delta` per choice however
many steps went by, and its memory is bounded by `max_tokens`. `Watch` waits for several
generations at once (one per prompt).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from engine.detok import TextStream, Vocabulary, make_decoder
from engine.request import EngineRequest, RequestOutput, TokenLogprob


class EngineDeadError(RuntimeError):
    """The core failed; nothing can be generated any more."""


def _nobody() -> None:
    """Nobody is watching yet."""


class TextOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a generation's tokens become text: the part of sampling that the core does not see."""

    stop: tuple[str, ...] = ()
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True


class Delta(msgspec.Struct, kw_only=True):
    """What one choice gained since the last look; `finish_reason` set means it is complete.

    `stop_reason` is the stop string or the stop token id that ended it, None for end of sequence.
    """

    index: int
    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprob] | None
    finish_reason: str | None
    stop_reason: str | int | None


class Choice:
    """One of the `n` sequences of a generation."""

    __slots__ = (
        "finish_reason",
        "index",
        "last_at",
        "logprobs",
        "pieces",
        "reported",
        "stop_reason",
        "stream",
        "token_ids",
        "tokens",
    )

    def __init__(self, index: int, stream: TextStream) -> None:
        self.index = index
        self.stream = stream
        self.tokens = 0
        self.last_at = 0.0
        self.pieces: list[str] = []
        self.token_ids: list[int] = []
        self.logprobs: list[TokenLogprob] | None = None
        self.finish_reason: str | None = None
        self.stop_reason: str | int | None = None
        self.reported = False

    def __repr__(self) -> str:
        return f"Choice({self.index}, tokens={self.tokens}, finish={self.finish_reason})"

    def take(self) -> Delta | None:
        """Everything not yet reported, or None when there is nothing to tell."""
        if self.reported or not (self.pieces or self.token_ids or self.finish_reason):
            return None
        self.reported = self.finish_reason is not None
        delta = Delta(
            index=self.index,
            text="".join(self.pieces),
            token_ids=self.token_ids,
            logprobs=self.logprobs,
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
        )
        self.pieces, self.token_ids, self.logprobs = [], [], None
        return delta


class Generation:
    """One request in the engine, seen from the event loop.

    `error` is set when the core refused the request (`RequestError`) or failed
    (`EngineDeadError`). `on_news` is called after anything changed.
    """

    __slots__ = (
        "cached_tokens",
        "choices",
        "error",
        "first_at",
        "on_news",
        "open",
        "options",
        "prompt_logprobs",
        "request",
        "scheduled_at",
    )

    def __init__(
        self, request: EngineRequest, options: TextOptions, vocabulary: Vocabulary
    ) -> None:
        self.request = request
        self.options = options
        self.choices = [
            Choice(
                index,
                TextStream(
                    make_decoder(
                        vocabulary,
                        skip_special_tokens=options.skip_special_tokens,
                        prompt_ids=request.prompt_token_ids,
                    ),
                    options.stop,
                    include_stop=options.include_stop_str_in_output,
                ),
            )
            for index in range(request.sampling.n)
        ]
        self.open = len(self.choices)
        self.cached_tokens = 0
        self.first_at: float | None = None
        self.scheduled_at: float | None = None
        self.prompt_logprobs: list[TokenLogprob | None] | None = None
        self.error: Exception | None = None
        self.on_news: Callable[[], None] = _nobody

    def __repr__(self) -> str:
        return f"Generation({self.request.request_id}, open={self.open}, {self.choices})"

    @property
    def done(self) -> bool:
        """No choice is running any more."""
        return self.open == 0

    @property
    def prompt_tokens(self) -> int:
        return len(self.request.prompt_token_ids)

    @property
    def completion_tokens(self) -> int:
        return sum(choice.tokens for choice in self.choices)

    def fail(self, error: Exception) -> None:
        """End every open choice with `error`."""
        self.error = error
        self.open = 0
        self.on_news()

    def close(self, reason: str) -> None:
        """End every open choice with `reason`, keeping what it produced."""
        for choice in self.choices:
            if choice.finish_reason is None:
                choice.pieces.append(choice.stream.finish())
                choice.finish_reason = reason
        self.open = 0
        self.on_news()

    def feed(self, output: RequestOutput) -> bool:
        """Take one step's result for one choice; True when a stop string has just ended it."""
        choice = self.choices[output.index]
        if choice.finish_reason is not None:
            return False
        self.cached_tokens = max(self.cached_tokens, output.num_cached_tokens)
        if output.prompt_logprobs is not None:
            self.prompt_logprobs = output.prompt_logprobs
        choice.tokens += len(output.token_ids)
        choice.token_ids += output.token_ids
        if output.logprobs is not None:
            choice.logprobs = (choice.logprobs or []) + output.logprobs
        shown: Sequence[int] = output.token_ids
        ended_by_token = output.finish_reason == "stop" and shown
        if ended_by_token and not self.options.include_stop_str_in_output:
            shown = shown[:-1]
        may_stop = choice.tokens > self.request.sampling.min_tokens
        stream = choice.stream
        text = stream.push(shown, may_stop=may_stop)
        if output.finish_reason is not None and stream.stopped is None:
            text += stream.finish(may_stop=may_stop)
        if text:
            choice.pieces.append(text)
        if stream.stopped is not None:
            choice.finish_reason, choice.stop_reason = "stop", stream.stopped
        elif output.finish_reason is not None:
            choice.finish_reason, choice.stop_reason = output.finish_reason, output.stop_reason
        if choice.finish_reason is not None:
            self.open -= 1
        return stream.stopped is not None


class Watch:
    """Waits for news of a group of generations; one reader at a time.

    Raises the first `error` of any of them from `changed` and `finished`.
    """

    def __init__(self, generations: Sequence[Generation]) -> None:
        self.generations = generations
        self._waiter: asyncio.Future[None] | None = None
        for generation in generations:
            generation.on_news = self._wake

    @property
    def done(self) -> bool:
        """Every choice of every generation is complete."""
        return all(generation.done for generation in self.generations)

    async def changed(self) -> list[tuple[int, Delta]]:
        """Wait for news and take it, as (generation, delta); empty once all is told."""
        while True:
            if news := self._take():
                return news
            if self.done:
                return []
            await self._wait()

    async def finished(self) -> list[tuple[int, Delta]]:
        """Wait until every choice is complete; one delta per choice, in order."""
        while not self.done:
            await self._wait()
        return self._take()

    def _take(self) -> list[tuple[int, Delta]]:
        news: list[tuple[int, Delta]] = []
        for at, generation in enumerate(self.generations):
            if generation.error is not None:
                raise generation.error
            for choice in generation.choices:
                if (delta := choice.take()) is not None:
                    news.append((at, delta))
        return news

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

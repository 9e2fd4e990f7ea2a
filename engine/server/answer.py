"""From a validated request to bytes on the wire: submit, watch, write; abort when nobody listens.

The head of a stream goes out together with its first token, so anything that fails before that is
an ordinary HTTP error (and a router may still try another endpoint). After it, a failure is an SSE
`error` event and no `[DONE]`. Whatever way the handler is left, a client that went away included
(aiohttp cancels the handler), unfinished generations are aborted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from engine.generation import Delta, EngineDeadError, Generation, Watch
from engine.kv_events.wire import TIP_HEADER
from engine.loop import AsyncEngine
from engine.request import RequestError, TokenLogprob
from engine.server import render
from engine.server.errors import ApiError
from engine.server.protocol import Asked

log = logging.getLogger("engine.server")

SSE_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
RETRY_AFTER = {"Retry-After": "1"}

# (choice, entries, token ids) -> the JSON value of `logprobs`
LogprobsOf = Callable[[int, Sequence[TokenLogprob | None], Sequence[int]], Any]


class Prompt(msgspec.Struct, frozen=True):
    """One prompt of a request; `echo` is the text to repeat in front of each of its choices.

    `tip` names its last full block, None where KV events are off.
    """

    generation: Generation
    echo: str = ""
    tip: str | None = None


class Answer:
    """The answer to one HTTP request: one generation per prompt, `n` choices each."""

    def __init__(
        self,
        engine: AsyncEngine,
        asked: Asked,
        prompts: Sequence[Prompt],
        shape: render.ChatShape | render.CompletionShape,
        logprobs_of: LogprobsOf,
        *,
        details: bool,
    ) -> None:
        self._engine = engine
        self._asked = asked
        self._prompts = prompts
        self._generations = [prompt.generation for prompt in prompts]
        self._shape = shape
        self._logprobs_of = logprobs_of
        self._details = details
        self._opened: set[int] = set()

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Write the answer. Raises `ApiError` for what fails before the first byte."""
        watch = Watch(self._generations)
        try:
            if self._asked.stream:
                return await self._stream(request, watch)
            return await self._whole(watch)
        finally:
            for generation in self._generations:
                self._engine.abort(generation)

    async def _whole(self, watch: Watch) -> web.Response:
        try:
            news = await watch.finished()
        except (RequestError, EngineDeadError) as error:
            raise as_api_error(error) from error
        check_news(news)
        choices = [self._choice(at, delta) for at, delta in news]
        body = self._shape.whole(choices, self._usage(), self._prompt_logprobs())
        return web.Response(body=body, content_type="application/json", headers=self._headers())

    async def _stream(self, request: web.Request, watch: Watch) -> web.StreamResponse:
        try:
            news = await watch.changed()
        except (RequestError, EngineDeadError) as error:
            raise as_api_error(error) from error
        check_news(news)
        response = web.StreamResponse(headers={**SSE_HEADERS, **self._headers()})
        try:
            await response.prepare(request)
            await self._relay(response, watch, news)
        except ConnectionError:
            # The client left between two writes; there is nobody to tell.
            log.debug("client gone mid-stream")
        return response

    def _headers(self) -> dict[str, str]:
        tips = [prompt.tip for prompt in self._prompts if prompt.tip is not None]
        return {TIP_HEADER: ", ".join(tips)} if tips else {}

    async def _relay(
        self, response: web.StreamResponse, watch: Watch, news: Sequence[tuple[int, Delta]]
    ) -> None:
        data = self._shape.opening(self._asked.sampling.n * len(self._prompts), self._running())
        try:
            while not watch.done:
                data += self._events(news)
                if data:
                    await response.write(data)
                data = b""
                news = await watch.changed()
                check_news(news)
            data += self._events(news) + self._ending()
        except ApiError as error:
            data = render.event(error.payload())
        except (RequestError, EngineDeadError) as error:
            data = render.event(as_api_error(error).payload())
        except ConnectionError:
            raise
        except Exception:
            log.exception("a stream failed")
            data = render.event(ApiError(500, "Internal error.").payload())
        await response.write_eof(data)

    def _events(self, news: Sequence[tuple[int, Delta]]) -> bytes:
        usage = self._running()
        out: list[bytes] = []
        for at, delta in news:
            index, shown, text, logprobs = self._choice(at, delta)
            if text or logprobs is not None or shown.finish_reason is not None:
                shown.text = text
                out.append(self._shape.chunk(index, shown, logprobs, usage))
        return b"".join(out)

    def _ending(self) -> bytes:
        if self._asked.include_usage:
            return self._shape.usage_event(self._usage()) + render.DONE
        return render.DONE

    def _choice(self, at: int, delta: Delta) -> tuple[int, Delta, str, Any]:
        """Index among all choices of the answer, and what this delta adds to it."""
        index = at * self._asked.sampling.n + delta.index
        text = delta.text
        entries: Sequence[TokenLogprob | None] | None = delta.logprobs
        ids: Sequence[int] = delta.token_ids
        if self._asked.echo and index not in self._opened:
            self._opened.add(index)
            generation = self._generations[at]
            text = self._prompts[at].echo + text
            if self._asked.sampling.logprobs is not None:
                entries = [*(generation.prompt_logprobs or ()), *(entries or ())]
                ids = [*generation.request.prompt_token_ids, *ids]
            if self._asked.echo_only:
                count = generation.prompt_tokens
                text, ids, entries = self._prompts[at].echo, ids[:count], (entries or ())[:count]
                delta = msgspec.structs.replace(delta, finish_reason="length", stop_reason=None)
        logprobs = self._logprobs_of(index, entries, ids) if entries else None
        return index, delta, text, logprobs

    def _usage(self) -> dict[str, Any]:
        usage = render.total_usage(self._generations, details=self._details)
        if self._asked.echo_only:
            usage |= {"completion_tokens": 0, "total_tokens": usage["prompt_tokens"]}
        return usage

    def _running(self) -> dict[str, Any] | None:
        return self._usage() if self._asked.continuous_usage else None

    def _prompt_logprobs(self) -> Any:
        if self._asked.sampling.prompt_logprobs is None or self._asked.echo:
            return None
        vocabulary = self._engine.vocabulary
        lists = [
            render.prompt_logprobs(vocabulary, generation.prompt_logprobs or ())
            for generation in self._generations
        ]
        if isinstance(self._shape, render.ChatShape):
            return lists[0]
        return [entry for entry in lists for _ in range(self._asked.sampling.n)]


def as_api_error(error: Exception) -> ApiError:
    """The HTTP form of what the engine raises."""
    if isinstance(error, RequestError):
        return ApiError(400, error.message, param=error.param, code="invalid_value")
    return ApiError(500, f"{error}.", code="engine_dead")


def check_news(news: Sequence[tuple[int, Delta]]) -> None:
    """Raise `ApiError` when a choice did not end by itself."""
    for _, delta in news:
        if delta.finish_reason == "error":
            raise ApiError(500, "The model failed while it worked on this request.", code="error")
        if delta.finish_reason == "abort":
            raise ApiError(
                503,
                "The server is shutting down and has ended this request.",
                code="aborted",
                headers=RETRY_AFTER,
            )

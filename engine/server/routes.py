"""The handlers: generation, tokens, models, and what load balancers and dashboards ask for."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from aiohttp import web

from engine.blocks import extend_chain
from engine.generation import EngineDeadError
from engine.kv_events import Publisher
from engine.kv_events.wire import prefix_tip, short_name
from engine.loop import AsyncEngine
from engine.metrics import CONTENT_TYPE
from engine.request import EngineRequest, SamplingParams, TokenLogprob
from engine.server import render
from engine.server.answer import RETRY_AFTER, Answer, Prompt, as_api_error
from engine.server.errors import ApiError, bad_field, unknown_model
from engine.server.fields import Body, decode_object, wrong_type
from engine.server.model import Policy, ServedModel
from engine.server.protocol import (
    MAX_SEQUENCES,
    Asked,
    read_chat,
    read_completion,
    read_messages,
    read_prompts,
    with_room,
)

# What OpenAI and vLLM generate when /v1/completions names no limit.
_COMPLETION_TOKENS = 16

try:
    VERSION = version("warmpath")
except PackageNotFoundError:
    VERSION = "0.0.0"


class Service:
    """Everything the handlers share. `draining` refuses new work and fails the health check.

    `publisher` is where KV events go, None where they are off.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        model: ServedModel,
        policy: Policy,
        publisher: Publisher | None = None,
    ) -> None:
        self.engine = engine
        self.model = model
        self.policy = policy
        self.publisher = publisher
        self.draining = False
        self._serial = itertools.count()

    def __repr__(self) -> str:
        return f"Service({self.model!r}, {self.engine!r}, draining={self.draining})"

    # ---------------------------------------------------------------- generation

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions"""
        self._admit()
        body = await read_body(request, self.policy)
        model = self.model
        model.check_name(body.string("model"))
        asked = read_chat(body, model.defaults, model.limits)
        ids = await self._chat_ids(body, must_fit=True)
        sampling = with_room(
            asked,
            len(ids),
            model.limits,
            param="messages",
            default=None,
            ceiling=model.defaults.max_tokens,
        )
        shape = render.ChatShape(
            answer_id=_answer_id("chatcmpl", request, asked),
            model=asked.model or model.name,
            created=int(time.time()),
            role=self.policy.response_role,
        )
        top = sampling.logprobs or 0

        def logprobs_of(_: int, entries: Sequence[TokenLogprob | None], __: Sequence[int]) -> Any:
            return render.chat_logprobs(model.vocabulary, [e for e in entries if e], top)

        prompts = self._submit(asked, [(ids, sampling, "")])
        return await self._answer(asked, prompts, shape, logprobs_of).respond(request)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/completions"""
        self._admit()
        body = await read_body(request, self.policy)
        model = self.model
        model.check_name(body.string("model"))
        asked = read_completion(body, model.defaults, model.limits)
        wanted: list[tuple[list[int], SamplingParams, str]] = []
        listed = read_prompts(body)
        if len(listed) * asked.sampling.n > MAX_SEQUENCES:
            raise bad_field(
                "n",
                f"{len(listed)} prompts with n={asked.sampling.n} make more than {MAX_SEQUENCES} "
                "choices, the limit of one request.",
            )
        for prompt in listed:
            ids, echo = await self._prompt_ids(body, prompt, echo=asked.echo)
            sampling = with_room(
                asked,
                len(ids),
                model.limits,
                param="prompt",
                default=_COMPLETION_TOKENS,
                ceiling=model.defaults.max_tokens,
            )
            wanted.append((ids, sampling, echo))
        shape = render.CompletionShape(
            answer_id=_answer_id("cmpl", request, asked),
            model=asked.model or model.name,
            created=int(time.time()),
        )
        top = asked.sampling.logprobs or 0
        writers: dict[int, render.CompletionLogprobs] = {}

        def logprobs_of(
            index: int, entries: Sequence[TokenLogprob | None], ids: Sequence[int]
        ) -> Any:
            writer = writers.setdefault(index, render.CompletionLogprobs(model.vocabulary, top))
            return writer.listed(entries, ids)

        prompts = self._submit(asked, wanted)
        return await self._answer(asked, prompts, shape, logprobs_of).respond(request)

    def _admit(self) -> None:
        """Refuse new work while draining or when the queue is full. Raises `ApiError`."""
        engine = self.engine
        if self.draining:
            engine.metrics.rejected("draining")
            raise ApiError(
                503, "The server is shutting down.", code="draining", headers=RETRY_AFTER
            )
        most = self.policy.max_queued
        if most is not None and engine.queued() >= most:
            engine.metrics.rejected("queue_full")
            raise ApiError(
                429,
                f"The queue is full: {most} requests are waiting (--max-num-queued-reqs).",
                code="queue_full",
                headers=RETRY_AFTER,
            )

    def _submit(
        self, asked: Asked, wanted: Sequence[tuple[list[int], SamplingParams, str]]
    ) -> list[Prompt]:
        # Again, since whoever came while this body was read and tokenised may have filled the
        # queue; from here on nothing waits, so that the limit holds whatever clients do.
        self._admit()
        engine = self.engine
        prompts: list[Prompt] = []
        try:
            for ids, sampling, echo in wanted:
                request = EngineRequest(
                    request_id=f"r{next(self._serial)}",
                    prompt_token_ids=ids,
                    sampling=sampling,
                    arrival=engine.clock(),
                    priority=asked.priority,
                    cache_salt=asked.cache_salt,
                )
                tip = None if self.publisher is None else self._tip(request)
                prompts.append(Prompt(engine.submit(request, asked.text), echo, tip))
        except EngineDeadError as error:
            raise as_api_error(error) from error
        return prompts

    def _tip(self, request: EngineRequest) -> str:
        """Hash the prompt's full blocks, for the engine to go on from, and name the last."""
        size = self.engine.stats.block_size
        hashes, tokens = request.block_hashes, request.prompt_token_ids
        extend_chain(hashes, tokens, len(tokens) // size, size, request.cache_salt)
        return prefix_tip(short_name(hashes[-1]) if hashes else None, len(hashes))

    def _answer(
        self,
        asked: Asked,
        prompts: Sequence[Prompt],
        shape: render.ChatShape | render.CompletionShape,
        logprobs_of: Any,
    ) -> Answer:
        details = self.policy.prompt_tokens_details
        return Answer(self.engine, asked, prompts, shape, logprobs_of, details=details)

    async def _chat_ids(self, body: Body, *, must_fit: bool) -> list[int]:
        kwargs = dict(body.mapping("chat_template_kwargs"))
        if effort := body.string("reasoning_effort"):
            kwargs.setdefault("reasoning_effort", effort)
        text = self.model.render(
            read_messages(body),
            add_generation_prompt=body.boolean("add_generation_prompt", True),
            continue_final_message=body.boolean("continue_final_message"),
            kwargs=kwargs,
        )
        special = body.boolean("add_special_tokens", False)
        if must_fit:
            self.model.check_text(text, param="messages")
        ids = await self.model.encode(text, add_special_tokens=special)
        self.model.check_ids(ids, param="messages")
        return ids

    async def _prompt_ids(
        self, body: Body, prompt: str | list[int], *, echo: bool
    ) -> tuple[list[int], str]:
        """Token ids of one prompt, and its text when it is to be repeated."""
        if isinstance(prompt, str):
            special = body.boolean("add_special_tokens", True)
            self.model.check_text(prompt, param="prompt")
            ids = await self.model.encode(prompt, add_special_tokens=special)
            text = prompt
        else:
            ids = prompt
            text = ""
        self.model.check_ids(ids, param="prompt")
        if echo and not text:
            text = await self.model.decode(ids)
        return ids, text if echo else ""

    # ---------------------------------------------------------------- tokens

    async def tokenize(self, request: web.Request) -> web.Response:
        """POST /tokenize"""
        body = await read_body(request, self.policy)
        self.model.check_name(body.string("model"))
        if "messages" in body:
            ids = await self._chat_ids(body, must_fit=False)
        else:
            prompt = body.string("prompt")
            if prompt is None:
                raise bad_field("prompt", "`prompt` or `messages` is needed.")
            special = body.boolean("add_special_tokens", True)
            ids = await self.model.encode(prompt, add_special_tokens=special)
        strings: list[str] | None = None
        if body.boolean("return_token_strs"):
            strings = [str(self.model.tokenizer.id_to_token(i)) for i in ids]
        return json_response(
            {
                "count": len(ids),
                "max_model_len": self.model.limits.max_model_len,
                "tokens": ids,
                "token_strs": strings,
            }
        )

    async def detokenize(self, request: web.Request) -> web.Response:
        """POST /detokenize"""
        body = await read_body(request, self.policy)
        self.model.check_name(body.string("model"))
        if "tokens" not in body:
            raise wrong_type("tokens", "an array of token ids", None)
        ids = list(body.token_ids("tokens", most=self.policy.max_request_bytes))
        if ids:
            self.model.check_ids(ids, param="tokens")
        return json_response({"prompt": await self.model.decode(ids)})

    async def tokenizer_info(self, request: web.Request) -> web.Response:
        """GET /tokenizer_info (with --enable-tokenizer-info-endpoint)"""
        template = self.model.template
        return json_response(
            {
                **self.model.tokenizer_config,
                "chat_template": None if template is None else template.source,
            }
        )

    # ---------------------------------------------------------------- models and state

    async def models(self, request: web.Request) -> web.Response:
        """GET /v1/models"""
        cards = [self.model.card(name) for name in self.model.names]
        return json_response({"object": "list", "data": cards})

    async def one_model(self, request: web.Request) -> web.Response:
        """GET /v1/models/{id}"""
        name = request.match_info["name"]
        if name not in self.model.names:
            raise unknown_model(name)
        return json_response(self.model.card(name))

    async def health(self, request: web.Request) -> web.Response:
        """GET /health: 200 while new requests are welcome, else 503."""
        return web.Response(status=503 if self.draining or self.engine.dead else 200)

    async def show_version(self, request: web.Request) -> web.Response:
        """GET /version"""
        return json_response({"version": VERSION})

    async def load(self, request: web.Request) -> web.Response:
        """GET /load: requests that are being worked on or wait."""
        return json_response({"server_load": self.engine.live})

    async def kv_event_sources(self, request: web.Request) -> web.Response:
        """GET /kv_event_sources: where to subscribe; empty where KV events are off."""
        name = request.transport.get_extra_info("sockname") if request.transport else None
        host = name[0] if isinstance(name, tuple) else "127.0.0.1"
        return json_response([] if self.publisher is None else self.publisher.sources(host))

    async def metrics(self, request: web.Request) -> web.Response:
        """GET /metrics"""
        gauges = self.engine.gauges()
        if self.publisher is not None:
            gauges = replace(gauges, kv_events=self.publisher.readings())
        page = self.engine.metrics.render(gauges)
        return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE})


def json_response(payload: Any) -> web.Response:
    """200 with a JSON body."""
    return web.Response(body=render.encode(payload), content_type="application/json")


async def read_body(request: web.Request, policy: Policy) -> Body:
    """The JSON object of a request. Raises `ApiError` 400, 413 or 415."""
    kind = request.headers.get("Content-Type", "application/json")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise ApiError(
            415,
            f"Content-Type must be application/json, not {kind}.",
            code="unsupported_media_type",
        )
    limit = policy.max_request_bytes
    if request.content_length is not None and request.content_length > limit:
        raise too_large(limit)
    return Body(decode_object(await request.read()))


def too_large(limit: int) -> ApiError:
    """413 naming the limit."""
    return ApiError(
        413,
        f"The body is larger than {limit} bytes (--max-request-bytes).",
        code="request_too_large",
    )


def client_id(request: web.Request) -> str:
    """The client's own id for the request (`x-request-id`), if it sent a printable one."""
    given = request.headers.get("X-Request-Id", "")
    return given[:128] if given.isascii() and given.isprintable() else ""


def _answer_id(kind: str, request: web.Request, asked: Asked) -> str:
    given = (asked.request_id or "")[:128] or client_id(request)
    return f"{kind}-{given}" if given else f"{kind}-{uuid.uuid4().hex}"

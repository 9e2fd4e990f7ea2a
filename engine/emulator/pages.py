"""Everything an emulated engine serves besides inference: health, models, metrics, its controls."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from engine.emulator.connection import Exchange
from engine.emulator.faults import Fault
from engine.emulator.inputs import ApiError, conversation, model_of, read_object, require, text_of
from engine.emulator.text import decode, encode, token_count
from engine.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from engine.emulator.service import EmulatorService

Handler = Callable[[Exchange], None]


def send(exchange: Exchange, document: Any, status: int = 200) -> None:
    """Answer with a JSON document."""
    exchange.respond(status, msgspec.json.encode(document))


class Pages:
    """Handlers by path and method."""

    def __init__(self, service: EmulatorService) -> None:
        self._service = service
        self._version = importlib.metadata.version("warmpath")

    def routes(self) -> dict[str, dict[bytes, Handler]]:
        """The table; a path that ends with a slash stands for what follows it."""
        return {
            "/health": {b"GET": self.health},
            "/ping": {b"GET": self.health, b"POST": self.health},
            "/version": {b"GET": self.version},
            "/load": {b"GET": self.load},
            "/metrics": {b"GET": self.metrics},
            "/v1/models": {b"GET": self.models},
            "/v1/models/": {b"GET": self.model},
            "/tokenize": {b"POST": self.tokenize},
            "/detokenize": {b"POST": self.detokenize},
            "/kv_event_sources": {b"GET": self.kv_event_sources},
            "/reset_prefix_cache": {b"POST": self.reset_prefix_cache},
            "/emulator/faults": {
                b"GET": self.show_faults,
                b"POST": self.add_fault,
                b"DELETE": self.clear_faults,
            },
            "/emulator/requests": {b"GET": self.requests},
        }

    def health(self, exchange: Exchange) -> None:
        """200 with no body, or 503 while draining or told to be unhealthy."""
        healthy = self._service.faults.healthy() and not self._service.draining
        exchange.respond(200 if healthy else 503, b"", b"text/plain")

    def version(self, exchange: Exchange) -> None:
        """The version of this engine."""
        send(exchange, {"version": self._version})

    def load(self, exchange: Exchange) -> None:
        """Requests in progress."""
        send(exchange, {"server_load": self._service.tally.active})

    def metrics(self, exchange: Exchange) -> None:
        """The Prometheus page."""
        gauges, publisher = self._service.gauges(), self._service.publisher
        if publisher is not None:
            gauges = replace(gauges, kv_events=publisher.readings())
        page = self._service.metrics.render(gauges)
        exchange.respond(200, page, CONTENT_TYPE.encode())

    def models(self, exchange: Exchange) -> None:
        """All served models."""
        cards = [self._card(name) for name in self._service.config.models]
        send(exchange, {"object": "list", "data": cards})

    def model(self, exchange: Exchange) -> None:
        """One served model."""
        name = unquote(exchange.path.removeprefix("/v1/models/"))
        send(exchange, self._card(model_of({"model": name or "?"}, self._service.config)))

    def _card(self, name: str) -> dict[str, Any]:
        created = self._service.created
        number = self._service.config.models.index(name)
        permission = {
            "id": f"modelperm-{number:032x}",
            "object": "model_permission",
            "created": created,
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
        return {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "vllm",
            "root": name,
            "parent": None,
            "max_model_len": self._service.config.context_length,
            "permission": [permission],
        }

    def tokenize(self, exchange: Exchange) -> None:
        """Token ids of a prompt or of a conversation."""
        document = read_object(exchange.body)
        model_of(document, self._service.config)
        if "messages" in document:
            text = conversation(document["messages"], document.get("tools"))
        else:
            text = text_of(require(document, "prompt"), "prompt")
        ids = encode(text)
        limit = self._service.config.context_length
        send(exchange, {"count": token_count(text), "max_model_len": limit, "tokens": ids})

    def detokenize(self, exchange: Exchange) -> None:
        """Text of token ids."""
        document = read_object(exchange.body)
        model_of(document, self._service.config)
        ids = require(document, "tokens")
        if not isinstance(ids, list) or not all(type(n) is int and n >= 0 for n in ids):
            raise ApiError(400, "tokens must be a list of token ids", param="tokens")
        try:
            text = decode(ids)
        except OverflowError:
            raise ApiError(400, "token ids must fit in 32 bits", param="tokens") from None
        send(exchange, {"prompt": text.decode("utf-8", "replace")})

    def kv_event_sources(self, exchange: Exchange) -> None:
        """Where KV events can be subscribed to; an empty list when they are not published."""
        publisher = self._service.publisher
        host = exchange.connection.transport.get_extra_info("sockname")[0]
        send(exchange, [] if publisher is None else publisher.sources(host))

    def reset_prefix_cache(self, exchange: Exchange) -> None:
        """Forget every cached prefix, unless a request is being worked on."""
        if not self._service.reset_prefix_cache():
            raise ApiError(409, "the prefix cache cannot be reset while requests use it")
        exchange.respond(200, b"")

    def show_faults(self, exchange: Exchange) -> None:
        """The faults in force."""
        send(exchange, {"faults": [f.to_mapping() for f in self._service.faults.active]})

    def add_fault(self, exchange: Exchange) -> None:
        """Put one more fault in force."""
        fault = self._service.add_fault(Fault.from_mapping(read_object(exchange.body)))
        send(exchange, fault.to_mapping())

    def clear_faults(self, exchange: Exchange) -> None:
        """Back to normal."""
        self._service.faults.clear()
        exchange.respond(204, b"")

    def requests(self, exchange: Exchange) -> None:
        """What was seen so far, and how far the model's time has fallen behind the clock's."""
        seen = self._service.tally.to_mapping()
        send(exchange, {**seen, "lag_seconds": self._service.lag})

"""The kinds of engine that a cluster may name, and which of their pages are looked at."""

from collections.abc import Mapping
from typing import NamedTuple


class Engine(NamedTuple):
    """``metrics`` None: it publishes no page from which its load could be read. ``tells``: the
    fields of a load report that its page fills, in one of its versions at least."""

    health: str = "/health"
    metrics: str | None = "/metrics"
    tells: frozenset[str] = frozenset()


_REQUESTS = frozenset({"running", "waiting"})

ENGINES: Mapping[str, Engine] = {
    "vllm": Engine(tells=_REQUESTS | {"kv_usage", "capacity", "adapters"}),
    "sglang": Engine(tells=_REQUESTS | {"kv_usage", "capacity"}),
    "tgi": Engine(tells=_REQUESTS),
    "llamacpp": Engine(tells=_REQUESTS | {"kv_usage"}),
    # It has no health page; its version is told as soon as it listens.
    "ollama": Engine(health="/api/version", metrics=None),
}

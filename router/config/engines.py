"""The kinds of engine that a cluster may name, and which of their pages are looked at."""

from collections.abc import Mapping
from typing import NamedTuple


class Engine(NamedTuple):
    """``metrics`` None: it publishes no page from which its load could be read."""

    health: str = "/health"
    metrics: str | None = "/metrics"


ENGINES: Mapping[str, Engine] = {
    "vllm": Engine(),
    "sglang": Engine(),
    "tgi": Engine(),
    "llamacpp": Engine(),
    # It has no health page; its version is told as soon as it listens.
    "ollama": Engine(health="/api/version", metrics=None),
}

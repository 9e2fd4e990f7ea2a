"""Publishers that are closed after the test, and plain ZeroMQ subscribers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.kv_events import KvEventsConfig, Publisher
from tests.engine.kv_events.listening import ANY_PORT, Peers


@pytest.fixture
def publish() -> Iterator[Callable[..., Publisher]]:
    """`publish(**config)` gives a running publisher with a replay socket."""
    made: list[Publisher] = []

    def make(encode: Any = None, **settings: Any) -> Publisher:
        settings = {"endpoint": ANY_PORT, "replay_endpoint": ANY_PORT, **settings}
        config = KvEventsConfig(enable_kv_cache_events=True, **settings)
        made.append(Publisher(config) if encode is None else Publisher(config, encode))
        return made[-1]

    yield make
    for publisher in made:
        publisher.close()


@pytest.fixture
def peers() -> Iterator[Peers]:
    made = Peers()
    yield made
    made.close()

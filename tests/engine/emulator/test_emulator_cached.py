"""What a router learns of the prefix cache without KV events: usage and metrics."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.emulator import Emulator, Timing

Launch = Callable[..., Awaitable[Emulator]]
Web = Callable[[Emulator], Any]


async def cached_tokens(client: Any, text: str, *, stream: bool) -> int:
    body: dict[str, Any] = {"prompt": text, "max_tokens": 2, "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    answer = await client.post("/v1/completions", json=body)
    assert answer.status == 200
    document = answer.json() if not stream else json.loads(answer.text.split("data: ")[-2])
    return int(document["usage"]["prompt_tokens_details"]["cached_tokens"])


async def samples(client: Any) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families((await client.get("/metrics")).text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


async def test_time_lost_for_want_of_cpu_is_told(launch: Launch, web: Web) -> None:
    emulator = await launch(timing=Timing(decode_step=0.01))
    client = web(emulator)
    assert (await client.get("/emulator/requests")).json()["lag_seconds"] == 0
    body = {"prompt": "x", "max_tokens": 50, "stream": True}
    async with client.session.post("/v1/completions", json=body) as answer:
        await answer.content.readany()
        time.sleep(0.2)  # noqa: ASYNC251 - the emulator lives in this very loop
        await answer.read()
    lag = (await client.get("/emulator/requests")).json()["lag_seconds"]
    assert lag > 0.1


@pytest.mark.parametrize("stream", [False, True])
async def test_usage_tells_the_tokens_that_were_cached(
    launch: Launch, web: Web, stream: bool
) -> None:
    client = web(await launch(timing=Timing(block_size=4)))
    assert await cached_tokens(client, "a" * 64, stream=stream) == 0
    # All four blocks are there, but the last token of a prompt is always computed.
    assert await cached_tokens(client, "a" * 64, stream=stream) == 12
    assert await cached_tokens(client, "a" * 64 + "b" * 64, stream=stream) == 16


async def test_the_page_tells_the_cache_and_who_was_served_from_which_tier(
    launch: Launch, web: Web
) -> None:
    client = web(await launch(timing=Timing(block_size=4, num_blocks=5, host_blocks=9)))
    # 16 prompt tokens and 2 of the answer fill all five blocks, so "b" pushes "a" down.
    for letter, cached in (("a", 0), ("a", 12), ("b", 0), ("a", 12)):
        assert await cached_tokens(client, letter * 64, stream=False) == cached
    page = await samples(client)
    ((labels, one),) = page["vllm:cache_config_info"]
    assert (labels["num_gpu_blocks"], labels["num_cpu_blocks"]) == ("5", "9")
    assert (labels["block_size"], one) == ("4", 1)
    totals = {name: values[0][1] for name, values in page.items()}
    assert totals["vllm:prefix_cache_queries_total"] == 64
    assert totals["vllm:prefix_cache_hits_total"] == 12
    assert totals["vllm:external_prefix_cache_queries_total"] == 64 - 12
    assert totals["vllm:external_prefix_cache_hits_total"] == 12
    by_source = {
        labels["source"]: value for labels, value in page["vllm:prompt_tokens_by_source_total"]
    }
    assert by_source == {
        "local_compute": 40,
        "local_cache_hit": 12,
        "external_kv_transfer": 12,
    }

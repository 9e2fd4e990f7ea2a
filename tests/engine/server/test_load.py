"""What a router learns from answers and metrics: load in the head, cached tokens, cache size."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.engine.server.serving import Running, serving

JSON = {"endpoint-load-metrics-format": "JSON"}


def load_of(answer: aiohttp.ClientResponse) -> dict[str, float]:
    form, _, report = answer.headers["endpoint-load-metrics"].partition(" ")
    assert form == "JSON"
    metrics = json.loads(report)["named_metrics"]
    assert isinstance(metrics, dict)
    return metrics


def asked(tokens: int, **fields: object) -> dict[str, Any]:
    body = {"prompt": [5] * tokens, "max_tokens": 8, "ignore_eos": True, "stream": True}
    return {**body, **fields}


async def test_the_head_tells_how_busy_the_engine_is(checkpoint: Path) -> None:
    """One seat, and steps when the test says so: one request runs, the others wait."""
    flags = ("--max-num-seqs", "1", "--max-num-queued-reqs", "2", "--no-enable-prefix-caching")
    async with (
        serving(checkpoint, *flags, gated=True) as server,
        aiohttp.ClientSession(server.url) as http,
    ):

        def post(tokens: int) -> Any:
            return http.post("/v1/completions", json=asked(tokens), headers=JSON)

        running = asyncio.ensure_future(post(40))
        await server.until(lambda: server.engine.live == 1)
        # Not a step yet: what has been submitted counts as waiting, prompt and all.
        gauges = server.engine.gauges()
        assert (gauges.waiting, gauges.queued_prefill_tokens) == (1, 40)
        server.core.release()
        answer = await running
        load = load_of(answer)
        assert (load["num_requests_running"], load["num_requests_waiting"]) == (1, 0)
        assert load["queued_prefill_tokens"] == 0
        assert load["kv_cache_usage_perc"] > 0
        waiting = [asyncio.ensure_future(post(tokens)) for tokens in (30, 20)]
        await server.until(lambda: server.engine.live == 3)
        async with post(10) as refused:
            assert refused.status == 429
            load = load_of(refused)
            assert (load["num_requests_running"], load["num_requests_waiting"]) == (1, 2)
            assert load["queued_prefill_tokens"] == 50
        server.core.release_all()
        for request in waiting:
            async with await request as late:
                assert late.status == 200
                await late.read()
        answer.release()
        await server.until(server.settled)
        assert server.engine.gauges().queued_prefill_tokens == 0


async def test_without_the_header_there_is_no_report(server: Running) -> None:
    async with aiohttp.ClientSession(server.url) as http:
        for headers in ({}, {"endpoint-load-metrics-format": "BIN"}):
            async with http.post("/v1/completions", json=asked(3), headers=headers) as answer:
                assert answer.status == 200
                assert "endpoint-load-metrics" not in answer.headers


@pytest.mark.parametrize("stream", [False, True])
async def test_usage_tells_the_tokens_that_were_cached(checkpoint: Path, stream: bool) -> None:
    async def cached(http: aiohttp.ClientSession) -> int:
        body = asked(13, stream=stream)
        if stream:
            body["stream_options"] = {"include_usage": True}
        async with http.post("/v1/completions", json=body) as answer:
            text = await answer.text()
        usage = json.loads(text.split("data: ")[-2] if stream else text)["usage"]
        return int(usage["prompt_tokens_details"]["cached_tokens"])

    async with (
        serving(checkpoint, "--block-size", "4", "--num-gpu-blocks-override", "50") as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        assert [await cached(http), await cached(http)] == [0, 12]
        async with http.get("/metrics") as answer:
            page = await answer.text()
        (info,) = (line for line in page.splitlines() if line.startswith("vllm:cache_config_info{"))
        assert 'block_size="4"' in info
        assert 'num_gpu_blocks="50"' in info
        assert 'vllm:prefix_cache_queries_total{engine="0",model_name="tiny"} 26.0' in page
        assert 'vllm:prefix_cache_hits_total{engine="0",model_name="tiny"} 12.0' in page

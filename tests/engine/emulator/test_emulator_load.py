"""Load in the head of an emulated engine's answers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from engine.emulator import Emulator
from engine.emulator.profiles import Timing

Launch = Callable[..., Awaitable[Emulator]]
Web = Callable[[Emulator], Any]
JSON = {"endpoint-load-metrics-format": "JSON"}


def load_of(answer: Any) -> dict[str, float]:
    form, _, report = answer.headers["endpoint-load-metrics"].partition(" ")
    assert form == "JSON"
    metrics = json.loads(report)["named_metrics"]
    assert isinstance(metrics, dict)
    return metrics


def asked(tokens: int, **fields: object) -> dict[str, object]:
    return {"prompt": "abcd" * tokens, "max_tokens": 400, "stream": True, **fields}


async def test_the_head_tells_how_busy_the_engine_is(launch: Launch, web: Web) -> None:
    """One seat: the first request runs, the others wait with all of their prompts."""
    timing = Timing(decode_step=0.05, max_num_seqs=1, num_blocks=100, max_queued=2)
    emulator = await launch(timing=timing, early_head=True)
    client = web(emulator)

    def post(tokens: int) -> Any:
        return client.session.post("/v1/completions", json=asked(tokens), headers=JSON)

    async with post(100) as first:
        # The head is written before the request is queued: nothing yet.
        assert load_of(first) == {
            "kv_cache_usage_perc": 0.0,
            "num_requests_waiting": 0,
            "num_requests_running": 0,
            "queued_prefill_tokens": 0,
        }
        await first.content.readline()
        async with post(200) as second:
            assert load_of(second)["num_requests_running"] == 1
            async with post(300) as third:
                load = load_of(third)
                assert load["num_requests_waiting"] == 1
                assert load["queued_prefill_tokens"] == 200
                # 100 tokens of prompt are seven blocks of 16, and the answer grows.
                assert 0.07 <= load["kv_cache_usage_perc"] < 0.33
                refused = await client.post("/v1/completions", json=asked(9), headers=JSON)
                assert refused.status == 429
                load = load_of(refused)
                assert load["num_requests_waiting"] == 2
                assert load["queued_prefill_tokens"] == 500


@pytest.mark.parametrize("stream", [False, True])
async def test_without_the_header_there_is_no_report(
    launch: Launch, web: Web, stream: bool
) -> None:
    client = web(await launch())
    body = asked(4, stream=stream)
    assert "endpoint-load-metrics" not in (await client.post("/v1/completions", json=body)).headers
    strange = {"endpoint-load-metrics-format": "BIN"}
    answer = await client.post("/v1/completions", json=body, headers=strange)
    assert answer.status == 200
    assert "endpoint-load-metrics" not in answer.headers


async def test_an_answer_in_one_piece_tells_the_load_when_it_is_done(
    launch: Launch, web: Web
) -> None:
    client = web(await launch())
    answer: aiohttp.ClientResponse = await client.post(
        "/v1/completions", json=asked(4, stream=False), headers=JSON
    )
    assert load_of(answer)["num_requests_running"] == 0

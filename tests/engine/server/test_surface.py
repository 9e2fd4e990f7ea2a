"""What routers, dashboards and tools ask an engine besides generation."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.metrics_catalogue import CATALOGUE, Kind
from tests.engine.server.checkpoints import MAX_LEN, SPECIALS, TEMPLATE
from tests.engine.server.serving import Running, serving


@pytest.fixture
async def http(server: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(base_url=server.url) as session:
        yield session


async def test_models_carry_vllms_fields(checkpoint: Path) -> None:
    async with (
        serving(checkpoint, "--served-model-name", "tiny", "org/other") as server,
        aiohttp.ClientSession(base_url=server.url) as http,
    ):
        listed = [model async for model in server.client.models.list()]
        assert [model.id for model in listed] == ["tiny", "org/other"]
        async with http.get("/v1/models/org/other") as response:
            card = await response.json()
        assert card["max_model_len"] == MAX_LEN
        assert card["root"] == str(checkpoint)
        assert card["parent"] is None
        assert card["permission"][0]["object"] == "model_permission"
        answer = await server.client.completions.create(
            model="org/other", prompt="hello", max_tokens=1
        )
        assert answer.model == "org/other"
        # As in vLLM, no name is the first one.
        unnamed = await server.client.completions.create(model="", prompt="hello", max_tokens=1)
        assert unnamed.model == "tiny"


async def test_text_survives_tokenize_and_detokenize(http: aiohttp.ClientSession) -> None:
    for text in ("hello world", "naïve 世界 🙂\n", "<|im_start|>user\n", ""):
        async with http.post("/tokenize", json={"prompt": text, "return_token_strs": True}) as r:
            answer = await r.json()
        assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
        assert answer["max_model_len"] == MAX_LEN
        async with http.post("/detokenize", json={"tokens": answer["tokens"]}) as r:
            assert await r.json() == {"prompt": text}


async def test_a_conversation_tokenizes_as_it_is_generated_from(
    http: aiohttp.ClientSession, server: Running
) -> None:
    messages: Any = [{"role": "user", "content": "hello"}]
    async with http.post("/tokenize", json={"messages": messages}) as response:
        tokens = (await response.json())["tokens"]
    assert server.service.model.tokenizer.decode(tokens, skip_special_tokens=False) == (
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    )
    answer = await server.client.chat.completions.create(
        model="tiny", messages=messages, max_tokens=1
    )
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(tokens)
    body = {"messages": messages, "add_generation_prompt": False}
    async with http.post("/tokenize", json=body) as response:
        assert (await response.json())["count"] < len(tokens)


async def test_headers_may_be_as_long_as_tokens_and_cookies_get(
    http: aiohttp.ClientSession,
) -> None:
    async with http.get("/health", headers={"Cookie": "c" * 60_000}) as response:
        assert response.status == 200


async def test_health_version_and_load(http: aiohttp.ClientSession) -> None:
    for path in ("/health", "/ping"):
        async with http.get(path) as response:
            assert (response.status, await response.read()) == (200, b"")
    async with http.get("/version") as response:
        assert re.match(r"\d+\.\d+", (await response.json())["version"])
    async with http.get("/load") as response:
        assert await response.json() == {"server_load": 0}


async def test_load_counts_what_is_being_worked_on(checkpoint: Path) -> None:
    async with (
        serving(checkpoint, gated=True) as server,
        aiohttp.ClientSession(base_url=server.url) as http,
    ):
        calls = [
            asyncio.create_task(server.client.completions.create(model="tiny", prompt="hello"))
            for _ in range(3)
        ]
        await server.until(lambda: server.engine.live == 3)
        async with http.get("/load") as response:
            assert await response.json() == {"server_load": 3}
        server.core.release_all()
        await asyncio.gather(*calls)


async def page(http: aiohttp.ClientSession) -> dict[str, float]:
    async with http.get("/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = await response.text()
    return {
        sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> str:
    return name + json.dumps({"engine": "0", "model_name": "tiny", **labels}, sort_keys=True)


async def test_metrics_have_vllms_names_and_count(checkpoint: Path) -> None:
    async with (
        serving(checkpoint, "--block-size", "16") as server,
        aiohttp.ClientSession(base_url=server.url) as http,
    ):
        ids = list(range(10, 60))
        for _ in range(2):
            await server.client.completions.create(
                model="tiny", prompt=ids, max_tokens=6, extra_body={"ignore_eos": True}
            )
        await server.until(server.settled)
        samples = await page(http)
        assert samples[key("vllm:prompt_tokens_total")] == 100
        assert samples[key("vllm:generation_tokens_total")] == 12
        assert samples[key("vllm:request_success_total", finished_reason="length")] == 2
        assert samples[key("vllm:prefix_cache_queries_total")] == 100
        assert samples[key("vllm:prefix_cache_hits_total")] == 48
        assert samples[key("vllm:time_to_first_token_seconds_count")] == 2
        assert samples[key("vllm:inter_token_latency_seconds_count")] == 10
        assert samples[key("vllm:request_queue_time_seconds_count")] == 2
        assert samples[key("vllm:num_requests_running")] == 0
        assert samples[key("vllm:iteration_tokens_total_sum")] == 100 - 48 + 10
        waits = [
            samples[key(f"vllm:request_{part}_time_seconds_sum")]
            for part in ("queue", "prefill", "decode")
        ]
        assert all(wait >= 0 for wait in waits)
        whole = samples[key("vllm:e2e_request_latency_seconds_sum")]
        assert sum(waits) == pytest.approx(whole, abs=1e-6)
        names = {name.partition("{")[0] for name in samples}
        for row in CATALOGUE:
            ending = {Kind.COUNTER: "_total", Kind.HISTOGRAM: "_count"}.get(row.kind, "")
            if row.buckets != "milliseconds" or "execute" in row.key:
                assert row.name + ending in names, row.name


async def test_preemptions_are_counted(checkpoint: Path) -> None:
    flags = ("--block-size", "8", "--num-gpu-blocks-override", "8")
    async with (
        serving(checkpoint, *flags) as server,
        aiohttp.ClientSession(base_url=server.url) as http,
    ):
        await server.client.completions.create(
            model="tiny",
            prompt=[[at] * 8 for at in range(10, 13)],
            max_tokens=50,
            extra_body={"ignore_eos": True},
        )
        await server.until(server.settled)
        counted = (await page(http))[key("vllm:num_preemptions_total")]
        assert counted == server.engine.stats.preemptions > 0


async def test_legacy_names_can_be_left_out(checkpoint: Path) -> None:
    async with (
        serving(checkpoint, "--no-legacy-metrics") as server,
        aiohttp.ClientSession(base_url=server.url) as http,
    ):
        samples = await page(http)
        assert key("vllm:kv_cache_usage_perc") in samples
        assert key("vllm:gpu_cache_usage_perc") not in samples


async def test_running_and_waiting_gauges(checkpoint: Path) -> None:
    async with (
        serving(checkpoint, "--max-num-seqs", "2", gated=True) as server,
        aiohttp.ClientSession(base_url=server.url) as http,
    ):
        calls = [
            asyncio.create_task(
                server.client.completions.create(
                    model="tiny", prompt="hello", max_tokens=9, extra_body={"ignore_eos": True}
                )
            )
            for _ in range(5)
        ]
        await server.until(lambda: server.engine.live == 5)
        server.core.release(2)
        await server.until(lambda: server.engine.stats.num_running == 2)
        samples = await page(http)
        assert samples[key("vllm:num_requests_running")] == 2
        assert samples[key("vllm:num_requests_waiting")] == 3
        assert samples[key("vllm:kv_cache_usage_perc")] > 0
        server.core.release_all()
        await asyncio.gather(*calls)
        await server.until(server.settled)
        assert (await page(http))[key("vllm:kv_cache_usage_perc")] == 0


@pytest.mark.parametrize("sent", ["abc-1", None])
async def test_request_ids_are_echoed_when_asked(checkpoint: Path, sent: str | None) -> None:
    headers = {"X-Request-Id": sent} if sent else {}
    async with (
        serving(checkpoint, "--enable-request-id-headers") as server,
        aiohttp.ClientSession(base_url=server.url, headers=headers) as http,
    ):
        for stream in (False, True):
            body = {"prompt": "hello", "max_tokens": 1, "stream": stream}
            async with http.post("/v1/completions", json=body) as response:
                given = response.headers["X-Request-Id"]
                text = await response.text()
            assert (given == sent) if sent else len(given) == 32
            if sent:
                assert f'"id":"cmpl-{sent}"' in text
        async with http.get("/nothing") as response:
            assert "X-Request-Id" in response.headers


async def test_no_request_id_header_unless_asked(http: aiohttp.ClientSession) -> None:
    async with http.get("/health", headers={"X-Request-Id": "a"}) as response:
        assert "X-Request-Id" not in response.headers


async def test_the_tokenizers_settings_are_shown_when_asked(checkpoint: Path) -> None:
    async with (
        serving(checkpoint, "--enable-tokenizer-info-endpoint") as server,
        aiohttp.ClientSession(base_url=server.url) as http,
        http.get("/tokenizer_info") as response,
    ):
        shown = await response.json()
        assert shown["chat_template"] == TEMPLATE
        assert shown["eos_token"] == SPECIALS[2]


async def test_the_bytes_of_a_stream(server: Running) -> None:
    """Head with the first token, one event per chunk, `[DONE]` last, connection kept."""
    body = json.dumps(
        {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
        | {"temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    )
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    port = int(server.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        writer.write((head + body).encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Type: text/event-stream" in answer
        assert b"Transfer-Encoding: chunked" in answer
        data = b""
        while size := int(await reader.readline(), 16):
            data += await reader.readexactly(size)
            assert await reader.readexactly(2) == b"\r\n"
        assert await reader.readexactly(2) == b"\r\n"
        assert data.endswith(b"\n\n")
        events = data.removesuffix(b"\n\n").split(b"\n\n")
        assert all(event.startswith(b"data: ") for event in events)
        assert events[-1] == b"data: [DONE]"
        shaped = [json.loads(event[6:]) for event in events[:-1]]
        assert shaped[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert all(event["object"] == "chat.completion.chunk" for event in shaped)
        assert shaped[-2]["choices"][0]["finish_reason"] == "length"
        assert shaped[-1]["choices"] == []
        assert shaped[-1]["usage"]["completion_tokens"] == 3
    writer.close()
    await writer.wait_closed()


async def test_a_whole_answer_has_a_length_and_keeps_the_connection(server: Running) -> None:
    port = int(server.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"prompt":"hello","max_tokens":2}'
    head = (
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    for _ in range(2):
        writer.write(head + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", answer)
        assert length is not None
        json.loads(await reader.readexactly(int(length[1])))
    writer.close()
    await writer.wait_closed()


async def test_streams_are_sent_without_delay(server: Running) -> None:
    port = int(server.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    runner: Any = server.lifecycle._runner
    await server.until(lambda: bool(runner.server.connections))
    for connection in runner.server.connections:
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    writer.close()
    await writer.wait_closed()

"""The HTTP surface as the openai SDK and other clients see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.emulator import PROFILES, Emulator

USER = {"role": "user", "content": "Tell me about the sea, please."}


@pytest.fixture
async def emulator(launch: Any) -> Emulator:
    return await launch(name="e1", models=("m", "m-lora"))


@pytest.fixture
async def sdk(emulator: Emulator) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{emulator.url}/v1", api_key="none", max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def http(emulator: Emulator, web: Any) -> Any:
    return web(emulator)


async def test_a_models_name_may_have_a_slash(launch: Any) -> None:
    emulator = await launch(models=("org/m",))
    async with openai.AsyncOpenAI(base_url=f"{emulator.url}/v1", api_key="none") as client:
        assert (await client.models.retrieve("org/m")).id == "org/m"


async def test_chat(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="m", messages=[USER], max_tokens=5)
    assert answer.choices[0].message.content == " 000 001 002 003 004"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 5


async def test_chat_stream_with_usage(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(
        model="m",
        messages=[USER],
        max_completion_tokens=3,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    texts = [c.choices[0].delta.content for c in chunks if c.choices]
    assert texts == ["", " 000", " 001", " 002", None]
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3


async def test_without_a_limit_the_length_is_drawn_from_the_seed(launch: Any) -> None:
    lengths = []
    for seed in (1, 1, 2):
        emulator = await launch(seed=seed, models=("m",))
        async with openai.AsyncOpenAI(base_url=f"{emulator.url}/v1", api_key="none") as sdk:
            answer = await sdk.chat.completions.create(model="m", messages=[USER])
        assert answer.choices[0].finish_reason == "stop"
        lengths.append(answer.usage.completion_tokens if answer.usage else 0)
    assert lengths[0] == lengths[1] != lengths[2]


async def test_later_turns_hit_the_prefix_cache(sdk: openai.AsyncOpenAI) -> None:
    system = {"role": "system", "content": "You are a helpful assistant. " * 20}
    messages: list[Any] = [system, USER]
    cached = []
    for _ in range(3):
        answer = await sdk.chat.completions.create(model="m", messages=messages, max_tokens=64)
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        cached.append(answer.usage.prompt_tokens_details.cached_tokens)
        messages += [answer.choices[0].message.model_dump(include={"role", "content"}), USER]
    assert cached[0] == 0
    assert 140 < cached[1] < cached[2]
    # The second turn found the first answer too, not only the first prompt.
    assert cached[2] - cached[1] >= 64


async def test_n_choices(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="m", messages=[USER], max_tokens=2, n=3)
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6


@pytest.mark.parametrize(
    ("prompt", "choices", "tokens"),
    [("abcdefgh", 1, 2), ([1, 2, 3], 1, 3), (["abcd", "efghij"], 2, 3), ([[1], [2, 3]], 2, 3)],
)
async def test_completions(sdk: openai.AsyncOpenAI, prompt: Any, choices: int, tokens: int) -> None:
    answer = await sdk.completions.create(model="m", prompt=prompt, max_tokens=2)
    assert [c.text for c in answer.choices] == [" 000 001"] * choices
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == tokens


async def test_completion_stream(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.completions.create(model="m", prompt="x", max_tokens=2, stream=True)
    assert [c.choices[0].text async for c in stream] == [" 000", " 001", ""]


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_embeddings(sdk: openai.AsyncOpenAI, form: Any) -> None:
    answer = await sdk.embeddings.create(model="m", input=["a", "b", "a"], encoding_format=form)
    first, second, third = (item.embedding for item in answer.data)
    if form == "float":
        assert sum(x * x for x in first) == pytest.approx(1)
    assert first == third != second


async def test_responses(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.responses.create(model="m", input="hi", max_output_tokens=3)
    assert answer.output_text == " 000 001 002"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 3


async def test_responses_stream(sdk: openai.AsyncOpenAI) -> None:
    words, kinds, numbers = "", [], []
    stream = await sdk.responses.create(
        model="m", input=[USER], instructions="Be brief.", max_output_tokens=3, stream=True
    )
    async for event in stream:
        kinds.append(event.type)
        numbers.append(event.sequence_number)
        if event.type == "response.output_text.delta":
            words += event.delta
    assert words == " 000 001 002"
    assert numbers == list(range(len(kinds)))
    assert (kinds[0], kinds[-1]) == ("response.created", "response.incomplete")


async def test_messages(http: Any) -> None:
    body = {"model": "m", "system": "Be brief.", "messages": [USER], "max_tokens": 2}
    answer = (await http.post("/v1/messages", json=body)).json()
    assert answer["content"] == [{"type": "text", "text": " 000 001"}]
    assert answer["stop_reason"] == "max_tokens"
    stream = (await http.post("/v1/messages", json={**body, "stream": True})).text
    names = [line[7:] for line in stream.split("\n") if line.startswith("event: ")]
    assert names == [
        *("message_start", "content_block_start", "content_block_delta", "content_block_delta"),
        *("content_block_stop", "message_delta", "message_stop"),
    ]


async def test_rerank_and_score(http: Any) -> None:
    body = {"query": "warm path", "documents": ["cold", "a warm path", "warm"], "top_n": 2}
    for path in ("/rerank", "/v1/rerank"):
        results = (await http.post(path, json=body)).json()["results"]
        assert [(r["index"], r["relevance_score"]) for r in results] == [(1, 1.0), (2, 0.5)]
    pair = {"text_1": "warm path", "text_2": ["warm", "path warm"]}
    data = (await http.post("/score", json=pair)).json()["data"]
    assert [item["score"] for item in data] == [0.5, 1.0]


async def test_transcription(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.audio.transcriptions.create(model="m", file=("a.wav", b"\r\n--x" * 10))
    assert answer.text == "A recording of 50 bytes."


async def test_tokenize_there_and_back(http: Any) -> None:
    text = "grüße, world"
    tokens = (await http.post("/tokenize", json={"prompt": text})).json()
    assert tokens["count"] == len(tokens["tokens"]) == 4
    back = await http.post("/detokenize", json={"tokens": tokens["tokens"]})
    assert back.json() == {"prompt": text}
    chat = (await http.post("/tokenize", json={"messages": [USER]})).json()
    answer = await http.post("/v1/chat/completions", json={"messages": [USER], "max_tokens": 1})
    assert chat["count"] == answer.json()["usage"]["prompt_tokens"]


async def test_models(sdk: openai.AsyncOpenAI, http: Any) -> None:
    cards = [card async for card in await sdk.models.list()]
    assert [card.id for card in cards] == ["m", "m-lora"]
    raw = (await http.get("/v1/models")).json()["data"][0]
    assert raw["max_model_len"] == 131_072
    assert raw["permission"][0]["object"] == "model_permission"
    assert (await sdk.models.retrieve("m-lora")).id == "m-lora"


@pytest.mark.parametrize("path", ["/health", "/ping", "/version", "/load", "/metrics"])
async def test_pages(http: Any, path: str) -> None:
    assert (await http.get(path)).status == 200
    head = await http.request("HEAD", path)
    assert (head.status, head.content) == (200, b"")


async def test_metrics_tell_what_happened(emulator: Emulator, http: Any) -> None:
    body = {"messages": [USER], "max_tokens": 7}
    usage = (await http.post("/v1/chat/completions", json=body)).json()["usage"]
    families = text_string_to_metric_families((await http.get("/metrics")).text)
    values = {
        sample.name: sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("finished_reason", "length") == "length"
    }
    assert values["vllm:generation_tokens_total"] == 7
    assert values["vllm:prompt_tokens_total"] == usage["prompt_tokens"]
    assert values["vllm:request_success_total"] == 1
    assert values["vllm:inter_token_latency_seconds_count"] == 6
    assert values["vllm:num_requests_running"] == 0
    assert values["vllm:cache_config_info"] == 1


async def test_waiting_and_running_show_in_the_gauges(launch: Any, web: Any) -> None:
    slow = replace(PROFILES["instant"], decode_step=0.02, max_num_seqs=2)
    emulator = await launch(timing=slow)
    session = web(emulator).session
    body = {"messages": [USER], "max_tokens": 50, "stream": True}
    async with (
        session.post("/v1/chat/completions", json=body) as one,
        session.post("/v1/chat/completions", json=body) as two,
    ):
        assert (one.status, two.status) == (200, 200)
        gauges = emulator.service.gauges()
        assert (gauges.running, gauges.waiting) == (2, 0)
        assert gauges.kv_usage > 0


async def until(condition: Callable[[], object]) -> None:
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("did not happen within 5 s")


ERRORS: list[tuple[str, dict[str, Any], int, str | None, str | None]] = [
    ("/v1/chat/completions", {"model": "nope"}, 404, "model", "model_not_found"),
    ("/v1/chat/completions", {}, 400, "messages", None),
    ("/v1/chat/completions", {"messages": []}, 400, "messages", None),
    ("/v1/chat/completions", {"messages": [{"content": "x"}]}, 400, "messages", None),
    ("/v1/chat/completions", {"messages": [USER], "max_tokens": 0}, 400, "max_tokens", None),
    ("/v1/chat/completions", {"messages": [USER], "max_tokens": "9"}, 400, "max_tokens", None),
    ("/v1/chat/completions", {"messages": [USER], "n": 129}, 400, "n", None),
    ("/v1/chat/completions", {"messages": [USER], "stream": "yes"}, 400, "stream", None),
    (
        "/v1/chat/completions",
        {"messages": [USER], "max_tokens": 200_000},
        400,
        "max_tokens",
        "context_length_exceeded",
    ),
    ("/v1/completions", {}, 400, "prompt", None),
    ("/v1/completions", {"prompt": [-1]}, 400, "prompt", None),
    ("/v1/completions", {"prompt": "x", "echo": True}, 400, "echo", None),
    ("/v1/embeddings", {"input": []}, 400, "input", None),
    ("/v1/embeddings", {"input": "x", "encoding_format": "z"}, 400, "encoding_format", None),
    ("/v1/responses", {"input": 5}, 400, "input", None),
    ("/v1/messages", {"messages": [USER]}, 400, "max_tokens", None),
    ("/v1/audio/transcriptions", {}, 400, None, None),
    ("/rerank", {"query": "x", "documents": "y"}, 400, "documents", None),
    ("/rerank", {"query": "x", "documents": ["y"], "top_n": "all"}, 400, "top_n", None),
    ("/rerank", {"query": "x", "documents": ["y"], "top_n": -1}, 400, "top_n", None),
    ("/score", {"text_1": ["a", "b"], "text_2": "c"}, 400, "text_1", None),
    ("/detokenize", {"tokens": ["x"]}, 400, "tokens", None),
    ("/detokenize", {"tokens": [1 << 40]}, 400, "tokens", None),
    ("/nowhere", {}, 404, None, None),
    ("/health", {}, 405, None, None),
    ("/emulator/faults", {"kind": "flood"}, 400, "kind", None),
    ("/emulator/faults", {"kind": "slow", "factor": 10**400}, 400, "factor", None),
    ("/emulator/faults", {"kind": "hang", "count": 1.5}, 400, "count", None),
]


@pytest.mark.parametrize(("path", "body", "status", "param", "code"), ERRORS)
async def test_errors_have_openai_form(
    http: Any,
    path: str,
    body: dict[str, Any],
    status: int,
    param: str | None,
    code: str | None,
) -> None:
    answer = await http.post(path, json=body)
    error = answer.json()["error"]
    assert (answer.status, error["param"], error["code"]) == (status, param, code)
    assert error["message"]
    assert error["type"]
    # The connection and the server survive it.
    assert (await http.get("/health")).status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"a":1}x'])
async def test_bodies_that_are_not_json_objects(http: Any, body: bytes) -> None:
    answer = await http.post("/v1/chat/completions", data=body)
    assert answer.status == 400
    assert "JSON" in answer.json()["error"]["message"]


async def test_api_keys(launch: Any, web: Any) -> None:
    emulator = await launch(api_keys=("k1", "k2"))
    http = web(emulator)
    for header, status in [(None, 401), ("Bearer k2", 200), ("bearer k1", 200), ("k1", 401)]:
        headers = {"authorization": header} if header else {}
        assert (await http.get("/v1/models", headers=headers)).status == status
    assert (await http.post("/v1/completions", json={"prompt": "x"})).status == 401
    assert (await http.get("/health")).status == 200


async def test_a_full_queue_is_429_with_retry_after(launch: Any, web: Any) -> None:
    timing = replace(PROFILES["instant"], decode_step=0.05, max_num_seqs=1, max_queued=1)
    emulator = await launch(timing=timing)
    http = web(emulator)
    body = {"messages": [USER], "max_tokens": 5, "stream": True}
    async with http.session.post("/v1/chat/completions", json=body) as running:
        assert running.status == 200
        emulator.add_fault("hang;count=1;path=/none")  # a fault elsewhere changes nothing
        queued = asyncio.create_task(http.post("/v1/completions", json={"prompt": "x"}))
        await until(lambda: emulator.model.waiting)
        refused = await http.post("/v1/completions", json={"prompt": "x"})
        assert refused.status == 429
        assert refused.headers["retry-after"] == "1"
    assert (await queued).status == 200
    page = emulator.service.metrics.render(emulator.service.gauges()).decode()
    assert 'reason="queue_full"} 1.0' in page


async def test_who_answered_and_which_request(http: Any) -> None:
    body = {"messages": [USER], "max_tokens": 1}
    answer = await http.post("/v1/chat/completions", json=body, headers={"x-request-id": 'a"b'})
    assert answer.headers["x-emulator-name"] == "e1"
    assert answer.headers["x-request-id"] == 'a"b'
    assert answer.json()["id"] == 'chatcmpl-a"b'


async def test_tokens_per_chunk_and_padding(launch: Any) -> None:
    emulator = await launch(tokens_per_chunk=4, chunk_size=50)
    async with openai.AsyncOpenAI(base_url=f"{emulator.url}/v1", api_key="none") as sdk:
        stream = await sdk.completions.create(
            model="emulated", prompt="x", max_tokens=6, stream=True
        )
        texts = [chunk.choices[0].text async for chunk in stream]
    assert texts == [" 000 001 002 003" + "." * 34, " 004 005" + "." * 42, ""]

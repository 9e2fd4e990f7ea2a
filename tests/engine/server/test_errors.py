"""Bad input: the status, the field and the limit, always in OpenAI's form."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.engine.server.checkpoints import MAX_LEN
from tests.engine.server.serving import Running, serving

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
USER = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def http(server: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(base_url=server.url) as session:
        yield session


async def refused(response: aiohttp.ClientResponse) -> tuple[int, dict[str, Any]]:
    assert response.content_type == "application/json"
    error = (await response.json())["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return response.status, error


# path, body beyond a valid one, param, a part of the message
FIELDS: list[tuple[str, dict[str, Any], str, str]] = [
    (CHAT, {"temperature": -1}, "temperature", "at least 0"),
    (CHAT, {"temperature": "hot"}, "temperature", "must be a number, not a string"),
    (CHAT, {"temperature": True}, "temperature", "not a boolean"),
    (CHAT, {"temperature": 10**400}, "temperature", "beyond the largest number"),
    (CHAT, {"top_p": 0}, "top_p", "above 0"),
    (CHAT, {"top_p": 1.5}, "top_p", "at most 1"),
    (CHAT, {"top_k": -2}, "top_k", "at least -1"),
    (CHAT, {"min_p": 2}, "min_p", "between 0 and 1"),
    (CHAT, {"n": 0}, "n", "at least 1"),
    (CHAT, {"n": 129}, "n", "at most 128"),
    (CHAT, {"n": 1.5}, "n", "an integer"),
    (CHAT, {"presence_penalty": 3}, "presence_penalty", "between -2 and 2"),
    (CHAT, {"repetition_penalty": 0}, "repetition_penalty", "between 0.01 and 100"),
    (CHAT, {"repetition_penalty": 1e-40}, "repetition_penalty", "between 0.01 and 100"),
    (CHAT, {"max_tokens": 0}, "max_tokens", "at least 1"),
    (CHAT, {"max_completion_tokens": 0}, "max_completion_tokens", "at least 1"),
    (CHAT, {"max_tokens": MAX_LEN}, "max_tokens", f"maximum context length is {MAX_LEN}"),
    (CHAT, {"min_tokens": 9, "max_tokens": 3}, "min_tokens", "above"),
    (CHAT, {"seed": 2**63}, "seed", "at most"),
    (CHAT, {"stop": 3}, "stop", "a string or an array of strings"),
    (CHAT, {"stop": ["a"] * 65}, "stop", "limit is 64"),
    (CHAT, {"stop": ["a", ""]}, "stop[1]", "1 to 1024 characters"),
    (CHAT, {"stop_token_ids": [True]}, "stop_token_ids[0]", "an integer"),
    (CHAT, {"stop_token_ids": "5"}, "stop_token_ids", "array of token ids"),
    (CHAT, {"stop_token_ids": [10**6]}, "stop_token_ids", "the vocabulary has ids"),
    (CHAT, {"logit_bias": {"x": 1}}, "logit_bias", "not a token id"),
    (CHAT, {"logit_bias": {"5": 101}}, "logit_bias", "between -100 and 100"),
    (CHAT, {"logit_bias": {"9" * 5000: 1}}, "logit_bias", "not a token id"),
    (CHAT, {"logit_bias": {"5": 10**400}}, "logit_bias.5", "beyond the largest number"),
    (CHAT, {"top_logprobs": 3}, "top_logprobs", "needs `logprobs`"),
    (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs", "at most 20"),
    (CHAT, {"stream_options": {"include_usage": True}}, "stream_options", "`stream`"),
    (CHAT, {"stream": "yes"}, "stream", "a boolean"),
    (CHAT, {"messages": []}, "messages", "non-empty"),
    (CHAT, {"messages": "hi"}, "messages", "non-empty array"),
    (CHAT, {"messages": [5]}, "messages[0]", "an object"),
    (CHAT, {"messages": [{"content": "x"}]}, "messages[0].role", "role"),
    (CHAT, {"messages": [{"role": "user"}]}, "messages[0].content", "missing"),
    (CHAT, {"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "a string"),
    (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0].type",
        "only text",
    ),
    (CHAT, {"tools": [{"type": "function"}]}, "tools", "Tool calls"),
    (CHAT, {"tool_choice": "required"}, "tool_choice", "Tool calls"),
    (CHAT, {"tool_choice": {"type": "function"}}, "tool_choice", "Tool calls"),
    (CHAT, {"repetition_detection": {"min_count": 3}}, "repetition_detection", "penalties"),
    (TEXT, {"vllm_xargs": {"a": 1}}, "vllm_xargs", "extensions"),
    (CHAT, {"response_format": {"type": "json_object"}}, "response_format", "text"),
    (CHAT, {"guided_json": {"type": "object"}}, "guided_json", "Structured output"),
    (CHAT, {"structured_outputs": {"regex": "a"}}, "structured_outputs", "Structured output"),
    (CHAT, {"chat_template": "x"}, "chat_template", "set by the server"),
    (CHAT, {"modalities": ["audio"]}, "modalities", "Only text"),
    (CHAT, {"use_beam_search": True}, "use_beam_search", "Beam search"),
    (CHAT, {"priority": 3}, "priority", "--scheduling-policy"),
    (CHAT, {"cache_salt": ""}, "cache_salt", "not be empty"),
    (CHAT, {"echo": True}, "echo", "/v1/completions only"),
    (CHAT, {"continue_final_message": True}, "continue_final_message", "cannot both"),
    (CHAT, {"chat_template_kwargs": []}, "chat_template_kwargs", "an object"),
    (TEXT, {"prompt": None}, "prompt", "not empty"),
    (TEXT, {"prompt": ""}, "prompt", "at least one token"),
    (TEXT, {"prompt": []}, "prompt", "not empty"),
    (TEXT, {"prompt": ["a", 5]}, "prompt", "cannot be mixed"),
    (TEXT, {"prompt": [[1], []]}, "prompt", "prompt[1]"),
    (TEXT, {"prompt": [1, 10**6]}, "prompt", "outside 0 to"),
    (TEXT, {"prompt": ["a"] * 1025}, "prompt", "limit is 1024"),
    (TEXT, {"prompt": ["a"] * 33, "n": 128}, "n", "more than 4096"),
    (TEXT, {"prompt": [5] * (MAX_LEN + 1)}, "prompt", "maximum context length"),
    (TEXT, {"min_tokens": 17}, "min_tokens", "above the limit of 16 tokens"),
    (TEXT, {"max_tokens": 0}, "max_tokens", "at least 1"),
    (TEXT, {"max_tokens": -1, "echo": True}, "max_tokens", "at least 0"),
    (TEXT, {"logprobs": 21}, "logprobs", "at most 20"),
    (TEXT, {"best_of": 3}, "best_of", "not supported"),
    (TEXT, {"suffix": "x"}, "suffix", "not supported"),
    (TEXT, {"stream": True, "prompt_logprobs": 1}, "prompt_logprobs", "cannot be streamed"),
    ("/tokenize", {"prompt": None}, "prompt", "needed"),
    ("/detokenize", {"tokens": [1, "a"]}, "tokens[1]", "an integer"),
    ("/detokenize", {"tokens": [10**9]}, "tokens", "outside 0 to"),
    ("/detokenize", {}, "tokens", "array of token ids"),
]


@pytest.mark.parametrize("stream", [False, True])
async def test_every_bad_field_is_named(
    http: aiohttp.ClientSession, server: Running, stream: bool
) -> None:
    valid = {CHAT: {"messages": USER}, TEXT: {"prompt": "hi"}}
    for path, extra, param, part in FIELDS:
        body = {**valid.get(path, {}), **({"stream": True} if stream else {}), **extra}
        if stream and param == "stream_options":
            continue
        async with http.post(path, json=body) as response:
            status, error = await refused(response)
            assert (status, error["param"]) == (400, param), (path, extra, error)
            assert part in error["message"], (extra, error)
            assert error["type"] == "invalid_request_error"
    assert server.engine.live == 0


async def test_harmless_unknown_fields_are_let_through(http: aiohttp.ClientSession) -> None:
    extras = {
        "user": "me",
        "store": False,
        "metadata": {},
        "tool_choice": "none",
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "response_format": {"type": "text"},
        "best_of": 1,
        "something_new": [1, 2],
    }
    async with http.post(CHAT, json={"messages": USER, "max_tokens": 1, **extras}) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"[1]", "must be a JSON object, not an array"),
        (b'{"a": NaN}', "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b'{"a": "\\ud800"}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
async def test_what_is_no_json_object(http: aiohttp.ClientSession, body: bytes, part: str) -> None:
    headers = {"Content-Type": "application/json"}
    async with http.post(CHAT, data=body, headers=headers) as response:
        status, error = await refused(response)
        assert (status, error["code"]) == (400, "invalid_json")
        assert part in error["message"]


async def test_wrong_model_route_method_and_type(http: aiohttp.ClientSession) -> None:
    async with http.post(CHAT, json={"model": "gpt-9", "messages": USER}) as response:
        status, error = await refused(response)
        assert (status, error["param"], error["code"]) == (404, "model", "model_not_found")
    async with http.get("/v1/models/gpt-9") as response:
        assert (await refused(response))[1]["code"] == "model_not_found"
    async with http.get("/v1/nothing") as response:
        assert (await refused(response))[0] == 404
    async with http.get(CHAT) as response:
        assert (await refused(response))[0] == 405
        assert response.headers["Allow"] == "POST"
    async with http.post(CHAT, data="{}", headers={"Content-Type": "text/plain"}) as response:
        status, error = await refused(response)
        assert status == 415
        assert "application/json" in error["message"]


async def test_a_type_that_is_no_text_is_still_refused_in_json(server: Running) -> None:
    raw = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: text/\xff\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    writer.write(raw + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 415 ")
    assert json.loads(body)["error"]["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    "raw", [b"GET / HTTP/1.1\r\nno header\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"]
)
async def test_what_is_no_http_is_no_error_in_the_log(
    server: Running, caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    caplog.set_level("INFO")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    writer.write(raw)
    assert b" 400 " in await reader.readline()
    writer.close()
    told = [record for record in caplog.records if record.name == "aiohttp.server"]
    assert [(record.levelname, record.exc_info) for record in told] == [("INFO", None)]
    assert "127.0.0.1: " in told[0].getMessage()


async def test_a_body_that_is_not_compressed_as_it_says(
    http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with http.post(TEXT, data=b'{"prompt": "hi"}', headers=headers) as response:
        status, error = await refused(response)
        assert (status, error["code"]) == (400, "invalid_body")
        assert error["message"] == (
            "The body cannot be read: Can not decode content-encoding: gzip."
        )
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_body_beyond_the_limit(checkpoint: Any) -> None:
    body = json.dumps({"messages": USER, "user": "x" * 4000}).encode()
    headers = {"Content-Type": "application/json"}

    async def pieces() -> AsyncIterator[bytes]:
        yield body[:3000]
        yield body[3000:]

    async with (
        serving(checkpoint, "--max-request-bytes", "2K") as server,
        aiohttp.ClientSession(base_url=server.url) as http,
    ):
        for data in (body, pieces()):
            async with http.post(CHAT, data=data, headers=headers) as response:
                status, error = await refused(response)
                assert status == 413
                assert "2048 bytes" in error["message"]


async def test_keys_guard_what_computes(checkpoint: Any) -> None:
    async with (
        serving(checkpoint, "--api-key", "k1", "k2") as server,
        aiohttp.ClientSession(base_url=server.url) as http,
    ):
        for path in ("/health", "/metrics", "/version", "/load", "/ping"):
            async with http.get(path) as response:
                assert response.status == 200, path
        for given in ({}, {"Authorization": "Bearer k"}, {"Authorization": "k1"}):
            for path in ("/v1/models", "/v1/models/tiny"):
                async with http.get(path, headers=given) as response:
                    status, error = await refused(response)
                    assert (status, error["code"]) == (401, "invalid_api_key")
            async with http.post("/tokenize", json={"prompt": "a"}, headers=given) as response:
                assert response.status == 401
        for header in ("Bearer k1", "Bearer k2", "bearer k1", "BEARER  k2"):
            headers = {"Authorization": header}
            async with http.get("/v1/models", headers=headers) as response:
                assert response.status == 200


async def test_a_full_queue_is_429_with_retry_after(checkpoint: Any) -> None:
    flags = ("--max-num-queued-reqs", "1", "--max-num-seqs", "1")
    async with (
        serving(checkpoint, *flags, gated=True) as server,
        aiohttp.ClientSession(base_url=server.url) as http,
    ):
        body = {"prompt": "hello", "max_tokens": 4}

        async def ask() -> int:
            async with http.post(TEXT, json=body) as response:
                await response.read()
                return response.status

        first = asyncio.create_task(ask())
        await server.until(lambda: server.engine.live == 1)
        second = asyncio.create_task(ask())
        await server.until(lambda: server.engine.queued() == 1)
        async with http.post(TEXT, json=body) as response:
            status, error = await refused(response)
            assert (status, error["code"]) == (429, "queue_full")
            assert response.headers["Retry-After"] == "1"
        server.core.release_all()
        assert [await first, await second] == [200, 200]
        async with http.get("/metrics") as response:
            page = await response.text()
        sample = 'admission_rejections_total{engine="0",model_name="tiny",reason="queue_full"} 1.0'
        assert sample in page


async def test_bodies_that_come_after_their_heads_do_not_overfill_the_queue(
    checkpoint: Any,
) -> None:
    flags = ("--max-num-queued-reqs", "2", "--max-num-seqs", "1")
    async with (
        serving(checkpoint, *flags, gated=True) as server,
        aiohttp.ClientSession(base_url=server.url) as http,
    ):
        complete = asyncio.Event()
        heads = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal heads
            heads += 1
            yield b'{"max_tokens": 1,'
            await complete.wait()
            yield b'"prompt": "hello"}'

        async def ask() -> int:
            headers = {"Content-Type": "application/json"}
            async with http.post(TEXT, data=body(), headers=headers) as response:
                await response.read()
                return response.status

        calls = [asyncio.create_task(ask()) for _ in range(9)]
        await server.until(lambda: heads == len(calls))
        # All of them have been let in by the time the first body is complete.
        await asyncio.sleep(0.1)
        complete.set()
        await server.until(
            lambda: server.engine.live + sum(call.done() for call in calls) == len(calls)
        )
        server.core.release_all()
        statuses = sorted(await asyncio.gather(*calls))
        # One had the seat at once, two could wait for it.
        assert statuses == [200] * 3 + [429] * 6


async def test_a_broken_model_is_an_error_and_not_a_hang(checkpoint: Any) -> None:
    async with (
        serving(checkpoint, gated=True) as server,
        aiohttp.ClientSession(base_url=server.url) as http,
    ):

        def broken(now: float) -> list[Any]:
            raise MemoryError("no more")

        server.core.step = broken
        async with http.post(TEXT, json={"prompt": "hello"}) as response:
            status, error = await refused(response)
            assert (status, error["type"]) == (500, "server_error")
        async with http.get("/health") as response:
            assert response.status == 503
        async with http.post(TEXT, json={"prompt": "hello"}) as response:
            assert response.status == 500
        # The process is to leave with a code of its own, so that a supervisor restarts it.
        assert await server.lifecycle.run() == 70

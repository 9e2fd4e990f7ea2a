"""Texts of any length: one client's long prompt is not everybody's pause."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import pytest

from tests.engine.server.checkpoints import MAX_LEN
from tests.engine.server.serving import Running

TEXT = "the router sends hello world "


async def longest_pause(work: Coroutine[Any, Any, Any]) -> float:
    """The event loop's longest pause while `work` is done, as a share of all the time it took."""
    begun = last = time.perf_counter()
    longest = 0.0
    task = asyncio.create_task(work)
    while not task.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    assert task.result()
    return longest / (last - begun)


@pytest.mark.parametrize(
    "work",
    [
        lambda model: model.encode(TEXT * 40_000, add_special_tokens=True),
        lambda model: model.decode([5, 6, 7] * 600_000),
    ],
    ids=["encode", "decode"],
)
async def test_the_tokenizer_works_beside_everything_else(
    server: Running, work: Callable[[Any], Coroutine[Any, Any, Any]]
) -> None:
    assert await longest_pause(work(server.service.model)) < 0.5


async def test_a_long_text_has_the_tokens_of_a_short_one(server: Running) -> None:
    model = server.service.model
    text = TEXT * 400 + "<|im_end|>"
    ids = await model.encode(text, add_special_tokens=True)
    assert ids == model.tokenizer.encode(text).ids
    assert await model.decode(ids) == text


async def test_a_text_that_cannot_fit_is_refused_before_it_is_encoded(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TEXT * 2_000
    encoded: list[str] = []
    model = server.service.model
    encode = model.encode

    async def watched(text: str, **options: Any) -> list[int]:
        encoded.append(text)
        return await encode(text, **options)

    monkeypatch.setattr(model, "encode", watched)
    messages = [{"role": "user", "content": text}]
    async with aiohttp.ClientSession(server.url) as http:
        for path, body, param in (
            ("/v1/completions", {"prompt": ["hi", text]}, "prompt"),
            ("/v1/chat/completions", {"messages": messages}, "messages"),
        ):
            async with http.post(path, json=body) as response:
                error = (await response.json())["error"]
            assert (response.status, error["param"]) == (400, param)
            assert error["code"] == "context_length_exceeded"
            assert f"maximum context length is {MAX_LEN} tokens" in error["message"]
        assert encoded == ["hi"]
        # To count its tokens is another matter.
        for body in ({"prompt": text}, {"messages": messages}):
            async with http.post("/tokenize", json=body) as response:
                assert (await response.json())["count"] > MAX_LEN

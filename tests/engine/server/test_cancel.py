"""Who leaves, who drains, who dies: nothing keeps working for a client that is gone.

The gate decides when the core may make a step, so "within one step" is counted, not timed.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import web

from tests.engine.server.serving import Running, serving

BODY: dict[str, Any] = {
    "model": "tiny",
    "prompt": list(range(5, 60)),
    "max_tokens": 300,
    "extra_body": {"ignore_eos": True},
}


@pytest.fixture(autouse=True)
def nobody_is_blamed(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A client that leaves is no error of the server: nothing is logged as one."""
    yield
    blamed = [r for r in caplog.records if r.name.startswith("aiohttp") and r.levelname == "ERROR"]
    assert not blamed


async def freed_by_one_step(server: Running) -> None:
    """The step that was running when the client left is the last one."""
    await server.until(lambda: server.engine.live == 0)
    server.core.release()
    await server.until(server.settled)
    page = server.engine.metrics.render(server.engine.gauges()).decode()
    assert (
        'vllm:request_success_total{engine="0",finished_reason="abort",model_name="tiny"} 1.0'
        in page
    )


async def test_a_client_that_leaves_mid_stream(checkpoint: Path) -> None:
    async with serving(checkpoint, gated=True) as server:
        server.core.release(3)
        stream = await server.client.completions.create(stream=True, **BODY)
        assert (await anext(aiter(stream))).choices
        await stream.close()
        await freed_by_one_step(server)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_before_the_first_token(checkpoint: Path, stream: bool) -> None:
    async with serving(checkpoint, gated=True) as server:
        call = asyncio.create_task(server.client.completions.create(stream=stream, **BODY))
        await server.until(lambda: server.engine.live == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await freed_by_one_step(server)


async def test_a_client_that_leaves_while_queued(checkpoint: Path) -> None:
    async with serving(checkpoint, "--max-num-seqs", "1", gated=True) as server:
        running = await start(server)
        queued = asyncio.create_task(server.client.completions.create(**BODY))
        await server.until(lambda: server.engine.live == 2)
        server.core.release(2)
        await server.until(lambda: server.engine.stats.num_waiting == 1)
        queued.cancel()
        await server.until(lambda: server.engine.live == 1)
        # The abort is applied after the step that is running; the one after it reports that.
        server.core.release(2)
        await server.until(lambda: server.engine.stats.num_waiting == 0)
        assert server.engine.stats.num_running == 1
        server.core.release_all()
        assert (await running).usage.completion_tokens == 300


async def test_one_of_many_leaves_and_the_others_finish(checkpoint: Path) -> None:
    async with serving(checkpoint) as server:

        async def one(leave: bool) -> int:
            stream = await server.client.completions.create(stream=True, **BODY)
            count = 0
            async for _ in stream:
                count += 1
                if leave and count == 2:
                    await stream.close()
                    return -1
            return count

        counts = await asyncio.gather(*(one(at % 2 == 0) for at in range(12)))
        assert [count == -1 for count in counts] == [at % 2 == 0 for at in range(12)]
        await server.until(server.settled)


async def start(server: Running, **extra: Any) -> asyncio.Task[Any]:
    task = asyncio.create_task(server.client.completions.create(**{**BODY, **extra}))
    await server.until(lambda: server.engine.live == 1)
    return task


async def test_a_drain_refuses_new_work_and_finishes_the_old(checkpoint: Path) -> None:
    async with (
        serving(checkpoint, gated=True) as server,
        aiohttp.ClientSession(base_url=server.url) as http,
    ):
        running = await start(server)
        drain = asyncio.create_task(server.lifecycle.drain())
        await server.until(lambda: server.service.draining)
        async with http.get("/health") as response:
            assert response.status == 503
            assert response.headers["Connection"] == "close"
        async with http.post("/v1/completions", json={"prompt": "hello"}) as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "1"
            assert (await response.json())["error"]["code"] == "draining"
        assert not drain.done()
        server.core.release_all()
        assert (await running).usage.completion_tokens == 300
        await drain


async def test_what_outlives_the_drain_ends_as_an_error(checkpoint: Path) -> None:
    async with serving(checkpoint, gated=True, shutdown_timeout=0.05) as server:
        server.core.release(4)
        stream = await server.client.completions.create(stream=True, **BODY)
        events = aiter(stream)
        await anext(events)
        whole = asyncio.create_task(server.client.completions.create(**BODY))
        await server.until(lambda: server.engine.live == 2)
        await server.lifecycle.drain()
        server.engine.abort_all()
        with pytest.raises(openai.APIError, match="shutting down"):
            async for _ in events:
                pass
        with pytest.raises(openai.APIStatusError) as refused:
            await whole
        assert refused.value.status_code == 503
        server.core.release_all()
        await server.until(server.settled)


async def test_a_second_signal_stops_waiting(checkpoint: Path) -> None:
    async with serving(checkpoint, gated=True, shutdown_timeout=60.0) as server:
        running = await start(server)
        run = asyncio.create_task(server.lifecycle.run())
        await asyncio.sleep(0)
        server.lifecycle.signalled()
        await server.until(lambda: server.service.draining)
        assert not run.done()
        server.lifecycle.signalled()
        # Not a step has been made: it is the signal that ends the wait, and not the request.
        await server.until(lambda: server.engine.live == 0)
        server.core.release_all()
        assert await run == 0
        with pytest.raises(openai.InternalServerError, match="shutting down"):
            await running


async def test_a_stream_that_fails_midway_has_no_done(checkpoint: Path) -> None:
    async with (
        serving(checkpoint, gated=True) as server,
        aiohttp.ClientSession(base_url=server.url) as http,
    ):
        server.core.release(2)
        body = {"prompt": "hello", "stream": True, "ignore_eos": True, "max_tokens": 50}
        async with http.post("/v1/completions", json=body) as response:
            assert response.status == 200
            first = await response.content.readuntil(b"\n\n")
            assert first.startswith(b"data: {")

            def broken(now: float) -> list[Any]:
                raise MemoryError("no more")

            server.core.core.step = broken
            server.core.release_all()
            rest = await response.content.read()
            assert b'data: {"error":{"message":"the engine failed' in rest
            assert b"[DONE]" not in rest


async def test_a_write_that_finds_the_client_gone(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(self: web.StreamResponse, data: bytes) -> None:
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")

    monkeypatch.setattr(web.StreamResponse, "write", gone)
    async with (
        serving(checkpoint) as server,
        aiohttp.ClientSession(base_url=server.url) as http,
    ):
        body = {"prompt": "hello", "stream": True, "ignore_eos": True, "max_tokens": 400}
        async with http.post("/v1/completions", json=body) as response:
            assert await response.content.read() == b""
        await server.until(server.settled)

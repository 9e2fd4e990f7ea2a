"""Real tools beside the real router and emulated engines: nginx in front, promtool on metrics."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.deploy.test_nginx import edge
from tests.integration.stack import Stack, running

pytestmark = [pytest.mark.tool, pytest.mark.asyncio(loop_scope="module")]

MODEL = "warmpath-demo"
ENGINE = ("engine.cli", "emulate", "--served-model-name", MODEL, "--profile", "cpu-tiny")
STREAMS = 40
TOKENS = 30


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running(tmp_path_factory.mktemp("stack"), ENGINE) as stack:
        yield stack


async def stream(session: aiohttp.ClientSession, url: str, number: int) -> tuple[str, int]:
    """The answering endpoint and the number of events with text; fails unless it is complete."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"conversation {number}"}],
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "stream": True,
    }
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
        assert answer.status == 200
        events = [line[6:] for line in (await answer.text()).split("\n") if line[:6] == "data: "]
    assert events.pop() == "[DONE]"
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    pieces = [choice["delta"].get("content") for choice in choices]
    return answer.headers["x-warmpath-endpoint"], sum(bool(piece) for piece in pieces)


async def test_streams_through_nginx_and_the_router(
    stack: Stack, tool: Callable[..., str], root: Path, tmp_path: Path
) -> None:
    port = int(stack.address.rpartition(":")[2])
    async with edge(tool("nginx"), root / "nginx", tmp_path, port) as edge_port:
        url = f"http://127.0.0.1:{edge_port}"
        async with aiohttp.ClientSession() as session:
            first = await asyncio.gather(*(stream(session, url, n) for n in range(STREAMS)))
            again = await asyncio.gather(*(stream(session, url, n) for n in range(STREAMS)))
    assert {count for _, count in first + again} == {TOKENS}
    assert {endpoint for endpoint, _ in first} == set(stack.engines)
    await stack.quiet()
    logged = [json.loads(line) for line in (tmp_path / "run/access.log").read_text().splitlines()]
    assert len(logged) == 2 * STREAMS
    assert {line["status"] for line in logged} == {200}


async def test_a_client_that_leaves_nginx_leaves_the_engine(
    stack: Stack, tool: Callable[..., str], root: Path, tmp_path: Path
) -> None:
    port = int(stack.address.rpartition(":")[2])
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "a long story"}],
        "max_tokens": 20_000,
        "ignore_eos": True,
        "stream": True,
    }
    async with edge(tool("nginx"), root / "nginx", tmp_path, port) as edge_port:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{edge_port}/v1/chat/completions"
            answer = await session.post(url, json=body)
            assert await answer.content.readany()
            assert sum(await stack.in_flight()) == 1
            answer.close()
        await stack.quiet()


async def test_promtool_accepts_what_router_and_engines_publish(
    stack: Stack, tool: Callable[..., str]
) -> None:
    async with aiohttp.ClientSession() as session:
        await stream(session, stack.url, 1)
        for url in (f"{stack.admin}/metrics", f"http://{stack.engines[0]}/metrics"):
            # As Prometheus asks where it has not negotiated OpenMetrics.
            async with session.get(url, headers={"accept": "text/plain;version=0.0.4"}) as answer:
                page = await answer.read()
            result = subprocess.run(
                [tool("promtool"), "check", "metrics"], input=page, capture_output=True, check=False
            )
            assert result.returncode in (0, 3), result.stderr.decode()
            if url.startswith(stack.admin):
                # 3: valid but against the naming guide, as some of vLLM's names are; not ours.
                assert result.returncode == 0, result.stderr.decode()

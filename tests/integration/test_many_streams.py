"""Five hundred streams at one time through one worker: each complete, each in order."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from tests.integration.stack import Stack, running

MODEL = "warmpath-demo"
ENGINE = (
    *("engine.cli", "emulate", "--served-model-name", MODEL, "--profile", "instant"),
    # Slow enough that all streams overlap, with room for all in both batches.
    *("--decode-step", "0.1", "--max-num-seqs", "500", "--num-gpu-blocks-override", "100000"),
)
STREAMS = 500
TOKENS = 40


async def stream(session: aiohttp.ClientSession, url: str, number: int) -> str:
    """The text of one stream; fails unless the stream is complete."""
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
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def most_in_flight(stack: Stack) -> int:
    """Watches until the streams are ending."""
    most = 0
    while (now := sum(await stack.in_flight())) >= most or now > STREAMS / 2:
        most = max(most, now)
        await asyncio.sleep(0.1)
    return most


async def counted(stack: Stack) -> float:
    """Requests that the router's metrics say have ended."""
    lines = (await stack.text(f"{stack.admin}/metrics")).splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith("warmpath_requests_total{")
    )


@pytest.mark.slow
async def test_five_hundred_streams_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, ENGINE) as stack:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            watching = asyncio.create_task(most_in_flight(stack))
            texts = await asyncio.gather(*(stream(session, stack.url, n) for n in range(STREAMS)))
            # The emulator counts its tokens: any loss, doubling or exchange would show.
            assert set(texts) == {"".join(f" {token:03}" for token in range(TOKENS))}
            assert await watching == STREAMS
        await stack.quiet()
        # Workers report what they counted twice a second.
        async with asyncio.timeout(10):
            while await counted(stack) != STREAMS:
                await asyncio.sleep(0.1)

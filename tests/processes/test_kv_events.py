"""Engines tell what their caches hold, and the router knows it exactly."""

from __future__ import annotations

from typing import Any

from engine.emulator import Emulator
from engine.emulator.kv import chain_hashes
from engine.emulator.profiles import Timing
from engine.kv_events import KvEventsConfig
from tests.processes.router_process import RouterProcess, configuration, emulator, serving, until

ANY_PORT = "tcp://127.0.0.1:0"
EVENTS = KvEventsConfig(
    enable_kv_cache_events=True, endpoint=ANY_PORT, replay_endpoint=ANY_PORT, topic="kv"
)
BLOCK = 16
"""Tokens of one of the engine's blocks."""
SMALL = Timing(num_blocks=97, block_size=BLOCK)
"""Three prompts of 32 blocks, and one for what is being generated: eight at a time are evicted."""
TOPICS = {"whales": 4, "taxes": 2, "knots": 4, "moss": 1, "tides": 3, "rust": 4}
"""With how many blocks of the router's their prompts have."""


def listening(*engines: str, workers: int = 1, events: str = "auto") -> str:
    text = configuration(*engines, workers=workers, cluster=f"kv_events: {events}")
    return text.replace("round_robin", "predicted_ttft")


def prompt(topic: str) -> str:
    """Whole blocks of the router's, of 512 bytes, and a little more, which no engine caches."""
    return (f"{topic} " * 2048)[: 512 * TOPICS[topic.rstrip("0123456789")]] + "tail"


class Client:
    """Asks the router, and what it expects."""

    def __init__(self, router: RouterProcess, *engines: Emulator) -> None:
        self.router = router
        self.tip_passed_on = False
        self.engines = {f"demo/{engine.address}": engine for engine in engines}

    async def ask(self, text: str) -> int:
        """Cached tokens of a prompt, as the engine says."""
        body = {"model": "emulated", "prompt": text, "max_tokens": 1}
        url = f"{self.router.api}/v1/completions"
        async with self.router.session.post(url, json=body) as answer:
            assert answer.status == 200, await answer.text()
            self.tip_passed_on = "x-kv-prefix-tip" in answer.headers
            usage: dict[str, Any] = (await answer.json())["usage"]
        return int((usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0)

    async def expected(self, text: str) -> dict[str, int]:
        """Tokens that each endpoint is expected to have cached, in whole blocks of the engine."""
        body = {"model": "emulated", "prompt": text, "max_tokens": 1}
        question = {"body": body, "path": "/v1/completions"}
        status, told = await self.router.ask("POST", "/explain", question)
        assert status == 200, told
        rows = told["candidates"]
        return {row["endpoint"]: row["scores"]["cached_tokens"] // BLOCK * BLOCK for row in rows}

    def held(self, text: str) -> dict[str, int]:
        """Tokens that each has cached."""
        chain = chain_hashes(text.encode(), BLOCK)
        return {id_: BLOCK * one.model.kv.hits(chain) for id_, one in self.engines.items()}

    async def knows(self) -> bool:
        """Whether it expects exactly what the engines have."""
        for topic in TOPICS:
            if await self.expected(prompt(topic)) != self.held(prompt(topic)):
                return False
        return True


async def in_step(router: RouterProcess) -> bool:
    return all(one["kv_events"]["in_step"] for one in (await router.endpoints()).values())


async def test_what_was_evicted_is_not_expected(tmp_path):
    async with (
        emulator("a", SMALL, kv_events=EVENTS) as a,
        emulator("b", SMALL, kv_events=EVENTS, kv_events_encoding="array") as b,
        serving(tmp_path, listening(a.address, b.address, workers=2)) as router,
    ):
        await until(lambda: in_step(router))
        client = Client(router, a, b)
        for turn in range(3):
            for topic in (*TOPICS, *(f"{topic}{turn}" for topic in TOPICS)):
                text = prompt(topic)
                expected = await client.expected(text)
                cached = await client.ask(text)
                assert cached in expected.values(), topic
                assert not client.tip_passed_on
                await until(lambda: client.knows())
        assert await router.metric("warmpath_cache_mirror_error") == 0


async def test_without_events_it_is_expected(tmp_path):
    """What the test before rests on: an estimate is wrong here."""
    async with (
        emulator("a", SMALL, kv_events=EVENTS) as a,
        serving(tmp_path, listening(a.address, events="off")) as router,
    ):
        client = Client(router, a)
        for topic in TOPICS:
            await client.ask(prompt(topic))
        assert client.tip_passed_on
        assert client.held(prompt("whales")) == {f"demo/{a.address}": 0}
        assert await client.expected(prompt("whales")) != client.held(prompt("whales"))

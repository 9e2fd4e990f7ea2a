"""Engines tell what their caches hold, and the router knows it exactly."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from typing import Any

import pytest

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


class Deaf:
    """A PUB socket that loses what it is given."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def send_multipart(self, frames: Any, flags: int = 0) -> None:
        """Lost."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


async def test_what_got_lost_on_the_way_is_asked_for(tmp_path):
    async with (
        emulator("a", SMALL, kv_events=EVENTS) as a,
        serving(tmp_path, listening(a.address)) as router,
    ):
        await until(lambda: in_step(router))
        client = Client(router, a)
        for topic in ("whales", "knots"):
            await client.ask(prompt(topic))
        # Estimates are right so far: wait until it is known, with four names and an end of each.
        await until(lambda: has_tied(router, a.address, 10))
        await until(client.knows)
        publisher = a.service.publisher
        assert publisher is not None
        publisher._pub = Deaf(publisher._pub)
        for topic in ("rust", "tides"):
            await client.ask(prompt(topic))
        await until(lambda: publisher.published == 4)
        publisher._pub = publisher._pub._sock
        await client.ask(prompt("moss"))
        await until(client.knows)
        labels = f'cluster="demo",endpoint="{a.address}"'
        for kind, count in {"gap": 1, "replay": 2, "lost": 0, "restart": 0}.items():
            sample = f'warmpath_kv_event_incidents_total{{{labels},kind="{kind}"}}'
            assert await router.metric(sample) == count, kind
        assert await router.metric(f"warmpath_kv_event_batches_total{{{labels}}}") == 5


async def test_an_engine_that_starts_anew_holds_nothing(tmp_path):
    async with emulator("a", SMALL, kv_events=EVENTS) as first:
        port = first.port
        async with serving(tmp_path, listening(first.address)) as router:
            await until(lambda: in_step(router))
            client = Client(router, first)
            for topic in ("whales", "knots"):
                await client.ask(prompt(topic))
            await until(client.knows)
            await first.stop()
            await until(lambda: not_in_step(router))
            async with emulator("b", SMALL, kv_events=EVENTS, port=port) as second:
                await until(lambda: in_step(router))
                client = Client(router, second)
                await until(client.knows)
                assert client.held(prompt("whales")) == {f"demo/{second.address}": 0}
                await client.ask(prompt("whales"))
                await until(client.knows)
                assert await client.ask(prompt("whales")) == 512
            story = [line for line in router.log if '"part": "kv-events"' in line]
            words = [word for line in story for word in ("exactly", "estimated") if word in line]
            assert words[:3] == ["exactly", "estimated", "exactly"], story
            _, page = await router.text("/events?last=100&follow=no&kinds=kv_events")
            assert page.count('"in_step":true') >= 2
            assert page.count('"in_step":false') >= 1


async def not_in_step(router: RouterProcess) -> bool:
    return not await in_step(router)


async def test_a_worker_that_starts_late_is_told_all(tmp_path):
    async with (
        emulator("a", SMALL, kv_events=EVENTS) as a,
        serving(tmp_path, listening(a.address)) as router,
    ):
        await until(lambda: in_step(router))
        client = Client(router, a)
        for topic in TOPICS:
            await client.ask(prompt(topic))
            await until(client.knows)
        (worker,) = (await router.get("/server_info"))["workers"]
        os.kill(worker["pid"], signal.SIGKILL)
        await until(lambda: replaced(router, worker["pid"]))
        await until(client.knows)


async def replaced(router: RouterProcess, pid: int) -> bool:
    workers = (await router.get("/server_info"))["workers"]
    return len(workers) == 1 and workers[0]["pid"] != pid


@pytest.mark.parametrize("events", ["auto", "off"])
async def test_events_without_tips_tell_how_much_is_held(tmp_path, monkeypatch, events):
    """As stock vLLM and SGLang publish them: nothing is exact, but its size is the engine's own."""
    monkeypatch.setattr("engine.emulator.service.prefix_tip", lambda name, blocks: "-:0")
    text = "scrape: {interval: 100ms, timeout: 2s}"
    # Room for 48 of the router's blocks; of what is asked for later there are 112.
    timing = Timing(num_blocks=385, block_size=BLOCK)
    async with emulator("a", timing, kv_events=EVENTS) as a:
        config = listening(a.address, events=events).replace(text, "scrape: off")
        async with serving(tmp_path, config) as router:
            client, id_ = Client(router, a), f"demo/{a.address}"
            if events == "auto":
                await until(lambda: in_step(router))
            others = [f"{topic}{turn}" for turn in range(8) for topic in list(TOPICS)[1:]]
            for batches, topic in enumerate(["whales", *others], 1):
                await client.ask(prompt(topic))
                if events == "auto":
                    await until(partial(has_told, router, a.address, batches))
                    await asyncio.sleep(0.02)  # in which the worker is told
            if events == "auto":
                await until(lambda: expects(client, "whales", {id_: 0}))
                await until(lambda: counted(router, a.address))
                await until(lambda: expects(client, "rust7", {id_: 512}))
            async with router.session.post(f"{a.url}/reset_prefix_cache") as answer:
                assert answer.status == 200
            if events == "auto":
                await until(client.knows)
            else:
                assert not await client.knows()


async def has_told(router: RouterProcess, address: str, batches: int) -> bool:
    told: int = (await router.endpoints())[address]["kv_events"]["batches"]
    return told >= batches


async def has_tied(router: RouterProcess, address: str, names: int) -> bool:
    tied: int = (await router.endpoints())[address]["kv_events"]["names"]
    return tied == names


async def counted(router: RouterProcess, address: str) -> bool:
    forecast = (await router.endpoints())[address]["forecast"]
    return forecast is not None and (forecast["caches"], forecast["sure_prefixes"]) == (
        "counted",
        0,
    )


async def expects(client: Client, topic: str, tokens: dict[str, int]) -> bool:
    return await client.expected(prompt(topic)) == tokens

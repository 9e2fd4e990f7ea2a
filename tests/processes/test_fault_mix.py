"""Four engines at half load, of which one goes through every kind of trouble, in any mix.

No client may notice, but for answers that were already flowing from the failing engine; those must
end so that nobody takes them for complete: a stream with an error event, a plain answer cut short.
After chunks that are not HTTP there is no place for an event: that stream is cut short, too.
"""

import asyncio
import contextlib
import json
import random
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from engine.emulator.profiles import Timing
from tests.processes.router_process import PATIENCE, RouterProcess, emulator, serving, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CLIENTS = 8
PHASES = 8
ENOUGH = 3
"""Attempts that must have gone wrong at the failing engine before the next phase."""

TROUBLES: tuple[dict[str, Any], ...] = (
    {"kind": "status", "code": 503},
    {"kind": "status", "code": 503, "retry_after": 1},
    {"kind": "status", "code": 500},
    {"kind": "hang"},
    {"kind": "hang_after_head"},
    {"kind": "reset_before_head"},
    {"kind": "fin_before_head"},
    {"kind": "garbage_head"},
    {"kind": "reset_mid", "after_chunks": 3},
    {"kind": "fin_mid", "after_chunks": 3},
    {"kind": "bad_chunk", "after_chunks": 3},
    {"kind": "stall", "after_chunks": 3},
    {"kind": "slow", "factor": 300},
    {"kind": "refuse", "delay": 1.5},
    {"kind": "unhealthy"},
)
STANDING = {"unhealthy", "refuse"}
"""These take no rate: they are the whole engine's."""


LATE = "{type: predicted_ttft, hold_above: 150ms}"
"""Requests wait in the router, where a fault of the endpoint they wait for must not strand them."""


def configuration(engines: list[str], balancer: str) -> str:
    listed = ", ".join(engines)
    return f"""
version: 1
workers: 2
listeners: [{{name: api, address: "127.0.0.1:0"}}]
admin: {{address: "127.0.0.1:0"}}
clusters:
  - name: demo
    endpoints: [{listed}]
    balancer: {balancer}
    health:
      active: {{interval: 100ms, timeout: 1s, rise: 1, fall: 2}}
      outlier:
        {{consecutive_5xx: 3, consecutive_truncated: 3, interval: 200ms,
          base_ejection_time: 300ms, max_ejection_time: 300ms}}
    scrape: {{interval: 200ms}}
routes:
  - name: all
    to: demo
    timeouts: {{connect: 1s, first_byte: 20s, idle: 700ms}}
    # The budget has room for one engine's share of the load.
    retry:
      {{attempts: 3, per_try_timeout: 700ms, on: [5xx, reset, connect-failure],
        budget: 50%, min_concurrency: 8}}
"""


class Load:
    """Clients that ask one thing after another; ``seen`` is what became of it."""

    def __init__(self, router: RouterProcess, seed: int) -> None:
        self._router = router
        self._seed = seed
        self.seen: Counter[str] = Counter()
        self.failures: list[str] = []
        self.allowed = {"told", "cut"}

    async def run(self, stop: asyncio.Event) -> None:
        await asyncio.gather(*(self._client(number, stop) for number in range(CLIENTS)))

    async def _client(self, number: int, stop: asyncio.Event) -> None:
        rng = random.Random(f"{self._seed}-{number}")
        while not stop.is_set():
            stream = rng.random() < 0.7
            async with self._router.chat(max_tokens=rng.randint(4, 12), stream=stream) as answer:
                name = answer.headers.get("x-emulator-name", "-")
                text, cut = await _read(answer)
            outcome = _judge(answer.status, stream, text, cut)
            self.seen[outcome] += 1
            if outcome != "good" and (name != "failing" or outcome not in self.allowed):
                self.failures.append(f"{outcome} from {name}: {answer.status} {text[-300:]}")


async def _read(answer: aiohttp.ClientResponse) -> tuple[str, bool]:
    """What came, and whether it ended before it was complete."""
    pieces = b""
    try:
        async for piece in answer.content.iter_any():
            pieces += piece
    except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError):
        return pieces.decode("utf-8", "replace"), True
    return pieces.decode(), False


def _judge(status: int, stream: bool, text: str, cut: bool) -> str:
    """good; told: a stream with an error event and no end; cut: a plain answer was cut short;
    broken: a stream was, with no event; else what it is."""
    if status != 200:
        return f"answered {status}"
    if not stream:
        if cut:
            return "cut"
        return "good" if json.loads(text)["choices"] else "empty"
    ended, told = "data: [DONE]" in text, '"error":{' in text.replace(" ", "")
    if ended and not told and not cut:
        return "good"
    if told and not ended:
        return "told"
    return "broken" if cut and not ended else "stream ended without a word"


def troubles_of(rng: random.Random) -> list[dict[str, Any]]:
    """One to three troubles at a time; several share the requests among them."""
    mix = rng.sample(TROUBLES, rng.randint(1, 3))
    return [
        trouble if trouble["kind"] in STANDING or len(mix) == 1 else trouble | {"rate": 0.5}
        for trouble in mix
    ]


async def met(balancer: str, condition: Any) -> None:
    """Wait for it; not for long where a slow engine may get little while others are idle, as it
    does from who predicts."""
    late = balancer == LATE
    with contextlib.suppress(*([AssertionError] if late else [])):
        await until(condition, 2.0 if late else PATIENCE)


@pytest.mark.parametrize(
    ("seed", "balancer"),
    [*((seed, "{type: least_request}") for seed in (1, 2, 3)), (4, LATE)],
)
async def test_no_client_notices_one_failing_engine_of_four(
    tmp_path: Any, seed: int, balancer: str
) -> None:
    rng = random.Random(seed)
    timing = Timing(decode_step=0.004)
    hits: Counter[str] = Counter()
    due = 0
    async with AsyncExitStack() as stack:
        names = ("failing", "b", "c", "d")
        engines = [
            await stack.enter_async_context(emulator(name, timing, early_head=seed % 2 == 0))
            for name in names
        ]
        failing = engines[0].address
        text = configuration([engine.address for engine in engines], balancer)
        router = await stack.enter_async_context(serving(tmp_path, text))

        async def outcomes() -> dict[str, int]:
            counts: dict[str, int] = (await router.endpoints())[failing]["outcomes"]
            return counts

        async def bad() -> int:
            counts = await outcomes()
            return sum(counts.values()) - counts.get("success", 0) - counts.get("abandoned", 0)

        async def good() -> int:
            return (await outcomes()).get("success", 0)

        async def grown(count: Any, before: int, by: int) -> bool:
            return bool(await count() >= before + by)

        async def control(method: str, **trouble: Any) -> None:
            # The engine may refuse connections just now: then it is asked again.
            async def done() -> bool:
                try:
                    url = f"http://{failing}/emulator/faults"
                    async with router.session.request(method, url, json=trouble or None) as answer:
                        assert answer.status < 300, await answer.text()
                        return True
                except aiohttp.ClientConnectionError:
                    return False

            await until(done)

        load, stop = Load(router, seed), asyncio.Event()
        running = asyncio.create_task(load.run(stop))
        try:
            for _ in range(PHASES):
                before = await good()
                await met(
                    balancer, lambda before=before: grown(good, before, 2)
                )  # it is in rotation
                mix, before = troubles_of(rng), await bad()
                if any(trouble["kind"] == "bad_chunk" for trouble in mix):
                    load.allowed.add("broken")
                for trouble in sorted(mix, key=lambda trouble: trouble["kind"] == "refuse"):
                    await control("POST", **trouble)
                if any(trouble["kind"] == "unhealthy" for trouble in mix):
                    # It may be out of rotation before anything else goes wrong there.
                    await until(lambda: _unhealthy(router, failing))
                else:
                    due += ENOUGH
                    await met(balancer, lambda before=before: grown(bad, before, ENOUGH))
                hits["+".join(trouble["kind"] for trouble in mix)] += await bad() - before
                await control("DELETE")
        finally:
            stop.set()
            await running
    assert not load.failures, (hits, load.seen, load.failures[:10])
    assert hits.total() >= (ENOUGH if balancer == LATE else due), hits
    assert load.seen["good"] > 10 * hits.total() / ENOUGH, load.seen


async def _unhealthy(router: RouterProcess, address: str) -> bool:
    return (await router.endpoints())[address]["healthy"] is False

"""Breakers and the queue of a whole router: limits hold over its workers, and an operator sees."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

from tests.processes.router_process import (
    SLOW,
    RouterProcess,
    configuration,
    emulator,
    serving,
    until,
)

CLUSTER = (
    "circuit_breaker: {max_pending: 3, per_endpoint: {max_connections: 2}}\n"
    "    queue: {refuse_with: 429}"
)


async def ask(router: RouterProcess, tokens: int) -> tuple[int, str | None]:
    body = {"model": "emulated", "messages": [{"role": "user", "content": "hi"}]}
    url = f"{router.api}/v1/chat/completions"
    async with router.session.post(url, json=body | {"max_tokens": tokens}) as answer:
        await answer.read()
        return answer.status, answer.headers.get("retry-after")


async def breaker(router: RouterProcess) -> dict:  # type: ignore[type-arg]
    [cluster] = (await router.get("/clusters"))["clusters"]
    return dict(cluster["queue"]["breakers"]["default"])


async def test_an_endpoints_limit_holds_over_workers_and_is_shown(tmp_path: Path) -> None:
    async with emulator("a", SLOW) as engine:
        text = configuration(engine.address, workers=2, cluster=CLUSTER)
        async with serving(tmp_path, text) as router:
            asked = [asyncio.create_task(ask(router, 60)) for _ in range(12)]
            await until(lambda: waiting(router))
            seen = await breaker(router)
            assert seen["in_flight"] <= 3  # two workers that act at once may exceed by one
            assert sum(seen["waiting"].values()) <= 4
            assert seen["remaining"]["max_requests"] >= 1021
            status = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "router.cli.main", "status", "--admin", router.admin),
                stdout=asyncio.subprocess.PIPE,
            )
            printed, _ = await status.communicate()
            assert b"queue of demo: " in printed and b" normal waiting, drains" in printed
            answers = await asyncio.gather(*asked)
            statuses = Counter(status for status, _ in answers)
            assert set(statuses) == {200, 429} and statuses[429] >= 5
            assert all(int(after or 0) >= 1 for status, after in answers if status == 429)
            await until(lambda: rejected(router, statuses[429]))
            sample = 'warmpath_queue_rejected_total{breaker="default",cause="max_pending",'
            assert await router.metric(sample + 'cluster="demo"}') == statuses[429]
            left = 'warmpath_endpoint_places_remaining{cluster="demo",'
            assert await router.metric(left + f'endpoint="{engine.address}"}}') == 2


async def waiting(router: RouterProcess) -> bool:
    seen = await breaker(router)
    return bool(sum(seen["waiting"].values()) and seen["rejected"])


async def rejected(router: RouterProcess, count: int) -> bool:
    return bool((await breaker(router))["rejected"].get("max_pending") == count)

"""Priorities and back-pressure in a running router: over all its workers, and to be seen."""

import asyncio

from tests.processes.router_process import configuration, emulator, serving, until


def ranked(first: str, *later: str) -> str:
    """The first endpoint of one region, the others of the region that stands in for it."""
    text = configuration(first, *later, workers=2, cluster="localities: {failover: {us: eu}}")
    text = text.replace("version: 1", "version: 1\nlocality: us")
    for engine, region in ((first, "us"), *((one, "eu") for one in later)):
        text = text.replace(
            f"      - {engine}\n", f"      - {{address: '{engine}', locality: {region}}}\n"
        )
    return text


async def test_another_region_serves_while_ours_is_down(tmp_path):
    async with (
        emulator("a") as a,
        emulator("b") as b,
        serving(tmp_path, ranked(a.address, b.address)) as router,
    ):
        await until(lambda: healthy(router, 2))
        assert {await router.served_by() for _ in range(10)} == {"a"}
        [cluster] = (await router.get("/clusters"))["clusters"]
        assert [(level["priority"], level["load"]) for level in cluster["levels"]] == [
            (0, 100),
            (1, 0),
        ]
        assert [e["locality"] for e in cluster["endpoints"]] == ["us", "eu"]

        a.add_fault("unhealthy")
        await until(lambda: healthy(router, 1))
        await asyncio.sleep(0.05)  # until both workers have heard
        assert {await router.served_by() for _ in range(10)} == {"b"}
        assert (
            await router.metric('warmpath_priority_load_percent{cluster="demo",priority="1"}')
            == 100
        )
        _, told = await router.ask("POST", "/explain", {"model": "emulated", "prompt": "x"})
        assert [level["load"] for level in told["levels"]] == [0, 100]
        assert [c["removed"] for c in told["candidates"]] == ["unhealthy", None]


async def healthy(router, count: int) -> bool:
    return sum(bool(e["healthy"]) for e in (await router.endpoints()).values()) == count


async def test_a_full_engine_is_spared_by_every_worker(tmp_path):
    async with emulator("a") as a, emulator("b") as b:
        text = configuration(a.address, b.address, workers=2)
        text = text.replace("timeouts: {connect: 2s}", "timeouts: {connect: 2s}, retry: off")
        async with serving(tmp_path, text) as router:
            a.add_fault("status=429;retry_after=20;count=1")
            statuses = []
            while 429 not in statuses:
                async with router.chat() as answer:
                    await answer.read()
                    statuses.append(answer.status)
            await until(lambda: pushed(router, a.address))
            await asyncio.sleep(0.05)  # until both workers have heard
            assert {await router.served_by() for _ in range(12)} == {"b"}
            sample = f'warmpath_endpoint_pushed_back{{cluster="demo",endpoint="{a.address}"}}'
            assert await router.metric(sample) == 1
            _, told = await router.ask("POST", "/explain", {"model": "emulated", "prompt": "x"})
            assert [c["removed"] for c in told["candidates"]] == ["pushed back", None]


async def pushed(router, address: str) -> bool:
    return (await router.endpoints())[address]["pushed_back_for"] > 0


async def test_sessions_hold_over_all_workers(tmp_path):
    """A connection per request, each to another worker maybe; three engines in rotation."""
    async with emulator("a") as a, emulator("b") as b, emulator("c") as c:
        text = configuration(
            *(one.address for one in (a, b, c)),
            workers=2,
            cluster="session: {type: source_address, ttl: 1m}",
        )
        async with serving(tmp_path, text) as router:
            await until(lambda: healthy(router, 3))
            [first] = {await router.served_by() for _ in range(12)}
            [cluster] = (await router.get("/clusters"))["clusters"]
            assert cluster["session"]["kind"] == "source_address"
            _, told = await router.ask("POST", "/explain", {"model": "emulated", "prompt": "x"})
            assert told["session"]["remembered"] == told["attempts"][0]["endpoint"]
            assert told["attempts"][0]["reason"] == "session"
            sample = 'warmpath_sessions_total{cluster="demo",result="kept"}'
            await until(lambda: reaches(router, sample, 11))

            {"a": a, "b": b, "c": c}[first].add_fault("unhealthy")
            await until(lambda: healthy(router, 2))
            await asyncio.sleep(0.05)  # until both workers have heard
            [second] = {await router.served_by() for _ in range(12)}
            assert second != first


async def reaches(router, sample: str, value: float) -> bool:
    return await router.metric(sample) >= value

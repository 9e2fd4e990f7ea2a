"""Machines that tell each other of prompts through a real Redis, and go on without it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from router.config.limits import RedisSpec
from router.config.units import Address, Duration
from router.control import gossip_relay
from router.control.gossip_relay import GossipRelay
from router.control.mesh import Mesh
from router.core.host import Outcome
from router.telemetry.totals import Totals
from tests.proxy.redis_server import RedisServer
from tests.proxy.test_gossip_link import Worker, until

CHANNEL = "warmpath:gossip:default"


@pytest.fixture
async def redis(tool: Callable[..., str], tmp_path: Path) -> AsyncIterator[RedisServer]:
    server = RedisServer(tool("redis-server"), tmp_path)
    await server.start()
    yield server
    await server.stop()


def at(address: str) -> RedisSpec:
    return RedisSpec(address=Address(address), retry_interval=Duration(0.05))


class Machine:
    """A mesh, its workers and the relay that control would have."""

    def __init__(self, workers: int = 1) -> None:
        self.mesh = Mesh(workers)
        self.relay = GossipRelay(self.mesh)
        self.workers = [Worker(self.mesh, column) for column in range(workers)]

    def begin(self, address: str) -> None:
        self.relay.follow(at(address), CHANNEL)
        for worker in self.workers:
            worker.link.follow(worker.director, beyond=True)

    async def close(self) -> None:
        for worker in self.workers:
            worker.link.close()
        await self.relay.close()
        self.mesh.close()


@asynccontextmanager
async def machines(address: str, *sizes: int) -> AsyncIterator[list[Machine]]:
    found = [Machine(size) for size in sizes]
    try:
        for machine in found:
            machine.begin(address)
        yield found
    finally:
        for machine in found:
            await machine.close()


def peers(machine: Machine) -> list[int]:
    return [len(worker.link.gossip.peers) for worker in machine.workers]


def look(*found: Machine) -> None:
    """A roster of each, as due."""
    for machine in found:
        for worker in machine.workers:
            worker.link.gossip._roster_due = 0.0
            worker.link.look()


async def reached(*found: Machine) -> None:
    await until(lambda: all(machine.relay.up for machine in found))


@pytest.mark.tool
async def test_two_machines_know_what_each_sends(redis: RedisServer) -> None:
    async with machines(redis.address, 2, 1) as (one, two):
        await reached(one, two)
        work = one.workers[0].begin(1)
        others = [one.workers[1], two.workers[0]]
        await until(lambda: [other.line() for other in others] == [(1, 0)] * 2)
        work.first_token(0.1, True)
        await until(lambda: [other.line() for other in others] == [(0, 1)] * 2)
        work.ended(Outcome.SUCCESS, 0.2)
        await until(lambda: [other.line() for other in others] == [(0, 0)] * 2)
        work = two.workers[0].begin(2)
        await until(lambda: [worker.line() for worker in one.workers] == [(1, 0)] * 2)
        look(one, two)
        await until(lambda: (peers(one), peers(two)) == ([2, 2], [2]))
        for worker in (*one.workers, *two.workers):
            counted = worker.link.gossip.peers
            assert (counted.late, counted.lost) == (0, 0), "nothing came twice, by two ways"
        totals = Totals()
        one.relay.add_to(totals)
        assert totals.gauges["gossip_redis_reached"] == {(): 1.0}
        assert totals.counters["gossip_relayed_total"]["heard",] > 0
        lost = totals.counters["gossip_relay_lost_total"]
        assert not any(count for (why,), count in lost.items() if why != "unreached")


@pytest.mark.tool
async def test_a_newcomer_is_told_by_another_machine(redis: RedisServer) -> None:
    async with machines(redis.address, 1) as (one,):
        await reached(one)
        for seed in range(1, 1500):
            one.workers[0].begin(seed).ended(Outcome.SUCCESS, 0.1)
        going_on = one.workers[0].begin(9999)
        async with machines(redis.address, 1) as (late,):
            await reached(late)
            late.workers[0].link.gossip.join(time.monotonic())
            knows = one.workers[0].forecast.mirror.entries
            await until(lambda: late.workers[0].forecast.mirror.entries == knows)
            await until(lambda: late.workers[0].line() == (1, 0))
            going_on.ended(Outcome.SUCCESS, 0.2)
            await until(lambda: late.workers[0].line() == (0, 0))


@pytest.mark.tool
async def test_what_is_for_one_of_the_machine_does_not_leave_it(redis: RedisServer) -> None:
    async with machines(redis.address, 2) as (one,):
        await reached(one)
        await until(lambda: peers(one) == [1, 1])
        await until(lambda: not any(w.link.gossip.talkative for w in one.workers))
        await until(lambda: not one.relay._queue)
        published = one.relay.published
        first, second = one.workers
        first.link.gossip._tell(second.link.gossip.origin, iter([[]] * 5))
        await until(lambda: not first.link.gossip.talkative)
        await asyncio.sleep(0.1)
        assert one.relay.published == published


@pytest.mark.tool
async def test_a_worker_that_ends_is_gone_on_other_machines_at_once(redis: RedisServer) -> None:
    async with machines(redis.address, 1, 1) as (one, two):
        await reached(one, two)
        one.workers[0].begin(1)
        await until(lambda: two.workers[0].line() == (1, 0))
        one.workers[0].link._flush()
        one.mesh.leave(0)
        await until(lambda: two.workers[0].line() == (0, 0))
        assert peers(two) == [0]


@pytest.mark.tool
async def test_redis_goes_and_comes_back(redis: RedisServer) -> None:
    with capture_logs() as lines:
        async with machines(redis.address, 1, 1) as (one, two):
            await reached(one, two)
            await redis.stop()
            await until(lambda: not one.relay.up and not two.relay.up)
            one.workers[0].begin(1)
            await until(lambda: one.relay.unreached > 0)
            assert two.workers[0].line() == (0, 0)
            await redis.start()
            await reached(one, two)
            work = one.workers[0].begin(2)
            await until(lambda: two.workers[0].line() == (1, 0))
            assert two.workers[0].link.gossip.peers.lost <= 3
            work.ended(Outcome.SUCCESS, 0.1)
            await until(lambda: two.workers[0].line() == (0, 0))
    said = [line["event"] for line in lines if "hear" in line["event"]]
    assert sorted(said) == [
        *["other machines do not hear of prompts: Redis is not reached"] * 2,
        *["other machines hear of prompts again"] * 2,
    ]


@pytest.mark.tool
async def test_a_connection_on_which_nothing_comes_back_is_given_up(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gossip_relay, "PROBE", 0.05)
    monkeypatch.setattr(gossip_relay, "SILENCE", 0.3)
    async with machines(redis.address, 1) as (one,):
        await reached(one)
        await asyncio.sleep(0.6)
        assert one.relay.up, "its own probes come back"
        await redis.client.client_pause(2000)  # it takes what is sent, and does not answer
        await until(lambda: not one.relay.up)
        await redis.client.client_unpause()
        await reached(one)


@pytest.mark.tool
async def test_what_others_put_on_the_channel_is_counted_and_nothing_else(
    redis: RedisServer,
) -> None:
    async with machines(redis.address, 1) as (one,):
        await reached(one)
        for payload in (b"hello", b"\x96" * 9, b"x" * 20_000):
            await redis.client.publish(CHANNEL, payload)
        await until(lambda: one.relay.unreadable == 3)
        assert one.relay.up


async def test_without_redis_the_machine_is_on_its_own() -> None:
    with capture_logs() as lines:
        async with machines("127.0.0.1:9", 2) as (one,):
            first, second = one.workers
            for seed in range(50):
                first.begin(seed)
            await until(lambda: second.line() == (50, 0))
            await until(lambda: one.relay.unreached > 0)
            await until(lambda: any(line["log_level"] == "error" for line in lines))
            await asyncio.sleep(0.3)
            assert not one.relay.up
            assert one.relay._queue == []
    assert [line["log_level"] for line in lines] == ["error"], "told once, however often tried"


async def test_a_configuration_without_other_machines_ends_it() -> None:
    async with machines("127.0.0.1:9", 1) as (one,):
        one.relay.follow(None, "")
        assert not one.mesh.overheard
        totals = Totals()
        one.relay.add_to(totals)
        assert "gossip_redis_reached" not in totals.gauges
        one.relay.follow(at("127.0.0.1:9"), CHANNEL)
        assert one.mesh.overheard

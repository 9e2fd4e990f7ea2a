"""Two workers' gossip over real sockets, in one loop."""

import asyncio
import os
import random
import time
from contextlib import asynccontextmanager

import msgspec

from router.control.mesh import Mesh
from router.core.balancers.predicted_ttft import PredictedTtft
from router.core.director import Director
from router.core.fleet import Fleet
from router.core.forecast.forecast import Forecast
from router.core.host import Outcome
from router.core.model import EndpointId
from router.proxy import gossip_link
from router.proxy.gossip_link import GossipLink
from tests.core.world import request, snapshot


class Worker:
    def __init__(self, mesh: Mesh, column: int) -> None:
        seat = mesh.seat(column)
        owned = msgspec.structs.replace(
            seat,
            ear=os.dup(seat.ear),
            mouths=tuple(os.dup(fd) for fd in seat.mouths),
            control=os.dup(seat.control),
        )
        self.link = GossipLink(owned, time.monotonic)
        self.fleet = Fleet()
        predicting = snapshot(balancer=PredictedTtft.Spec())
        self.director = Director(predicting, self.fleet, random.Random(1))
        self.link.follow(self.director, beyond=False)

    @property
    def forecast(self) -> Forecast:
        return self.fleet.memory("c").keep(Forecast)

    def begin(self, seed: int):
        asked = request(stream=True, prompt_bytes=4000, body_bytes=4000, checkpoints=(seed,))
        return self.forecast.begin(asked, self.fleet.hosts[EndpointId("c/h0:80")], 0.0)

    def line(self) -> tuple[int, int]:
        outlook = self.forecast.of(EndpointId("c/h0:80"))
        return len(outlook.line), outlook.decoding


@asynccontextmanager
async def workers(count: int = 2):
    mesh = Mesh(count)
    found = [Worker(mesh, column) for column in range(count)]
    others = count - 1
    try:
        # All have said hello, and been told what goes on.
        await until(lambda: all(len(one.link.gossip.peers) == others for one in found))
        await until(lambda: not any(one.link.gossip.talkative for one in found))
        yield mesh, found
    finally:
        for worker in found:
            worker.link.close()
        mesh.close()


async def until(condition, limit=20.0):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.002)


async def test_what_one_sends_the_other_knows():
    async with workers(3) as (_, (one, two, three)):
        work = one.begin(1)
        await until(lambda: two.line() == three.line() == (1, 0))
        work.first_token(0.1, True)
        await until(lambda: two.line() == three.line() == (0, 1))
        work.ended(Outcome.SUCCESS, 0.2)
        await until(lambda: two.line() == three.line() == (0, 0))
        assert one.link.missed == 0


async def test_who_does_not_come_to_read_misses_it_and_nobody_waits():
    async with workers() as (mesh, (one, two)):
        while not mesh.say(b"x" * 4000, to=two.link.gossip.origin):
            pass
        one.begin(1)
        one.link._flush()
        assert one.link.missed > 0
        await until(lambda: two.link.gossip.unreadable > 40)
        one.begin(2)
        await until(lambda: two.line() == (1, 0))


async def test_a_burst_is_read_in_pieces(monkeypatch):
    async with workers() as (_, (one, two)):
        for seed in range(600):
            one.begin(seed)
        one.link._flush()  # two does not come to read in this turn of the loop
        reads = []
        hear = two.link.gossip.hear
        monkeypatch.setattr(two.link.gossip, "hear", lambda *told: reads.append(hear(*told)))
        two.link._heard()
        assert len(reads) == gossip_link.BURST
        await until(lambda: two.line() == (600, 0))


async def test_who_is_alone_tells_nobody():
    async with workers(1) as (mesh, (one,)):
        one.begin(1)
        assert one.forecast.news is None
        one.link.follow(one.director, beyond=True)
        one.begin(2)
        asyncio.get_running_loop().add_reader(mesh.ear.fileno(), lambda: None)
        await until(lambda: one.link.gossip.sent > 0)
        assert mesh.ear.recv(1 << 14)
        asyncio.get_running_loop().remove_reader(mesh.ear.fileno())


async def test_a_cluster_that_no_longer_predicts_is_not_told_of():
    async with workers() as (_, (one, two)):
        one.director.update(snapshot())
        one.link.follow(one.director, beyond=False)
        one.begin(1)
        assert one.forecast.news is None
        two.begin(2)
        await asyncio.sleep(0.05)
        assert one.line() == (1, 0), "its own"

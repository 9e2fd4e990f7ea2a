"""Engines that come, go and are replaced, and workers that must know of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from router.control.kv_events import feed as feed_module
from router.control.kv_events import watch as watch_module
from router.control.kv_events.watch import KvEventWatch
from router.control.messages import CachesChanged
from router.control.roster import Roster
from router.core.cluster import KvEvents
from router.core.engine_cache.news import CacheNews, TipSeen
from router.core.forecast.notes import pack, unpack
from router.core.model import Endpoint, EndpointId
from tests.control.kv_events.publishing import Engine, removed, stored

ONE = EndpointId("c/127.0.0.1:1")
NAMES = (101, 102)


def port(address: str) -> int:
    return int(address.rpartition(":")[2])


class Worker:
    """Keeps what it is told, as a worker would."""

    def __init__(self) -> None:
        self.channel = SimpleNamespace(open=True, backlog=0)
        self.column = 0
        self.news: list[CacheNews] = []
        self.sure: set[int] = set()
        self.doubts = 0

    def send(self, message: Any) -> None:
        assert isinstance(message, CachesChanged)
        for one in message.caches:
            self.news.append(one)
            if one.cleared or not one.exact:
                self.sure.clear()
                self.doubts += not one.exact
            self.sure -= set(unpack(one.lost))
            self.sure |= set(unpack(one.held))


class World:
    def __init__(self) -> None:
        self.roster = Roster()
        self.events: list[dict[str, Any]] = []
        self.watch = KvEventWatch(
            None,  # type: ignore[arg-type]
            self.roster,
            random.Random(1),
            lambda kind, **fields: self.events.append(fields),
        )
        self.worker = self.greeted()

    def greeted(self) -> Worker:
        worker = Worker()
        self.watch.greet(worker)  # type: ignore[arg-type]
        return worker

    def follow(self, engine: Engine | None, **settings: Any) -> None:
        """A configuration with this engine, or with none."""
        endpoint = Endpoint(id=ONE, cluster="c", host="127.0.0.1", port=1)
        self.roster.reconcile([endpoint])
        events = None
        if engine is not None:
            replay = engine.source.replay
            replay_port = None if replay is None else port(replay)
            events = KvEvents(port(engine.source.subscribe), replay_port, **settings)
        clusters = {"c": SimpleNamespace(kv_events=events)}
        self.watch.reconcile(SimpleNamespace(clusters=clusters))  # type: ignore[arg-type]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)

    async def in_step(self) -> None:
        await self.until(lambda: self.seen["in_step"])

    @property
    def seen(self) -> dict[str, Any]:
        seen = self.watch.seen(ONE)
        assert seen is not None
        return seen

    def tip(self) -> None:
        """An answer says that a prompt of two blocks of bytes has the blocks 1 to 4."""
        self.watch.tips_seen([TipSeen(ONE, 4, 4, 2.1, 99, pack(NAMES))])


@pytest_asyncio.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(watch_module, "PAUSES", (0.02,))
    made = World()
    yield made
    await made.watch.close()


async def test_a_tie_is_told_and_so_is_its_end(world: World) -> None:
    with Engine() as engine:
        engine.publish(stored(1, 2, 3, 4))
        world.follow(engine)
        await world.in_step()
        world.tip()
        await world.until(lambda: world.worker.sure == {101, 102, 99})
        engine.publish(removed(4))
        await world.until(lambda: world.worker.sure == {101})
        assert world.seen["names"] == 3
        assert world.seen["blocks"] == 3


async def test_an_engine_that_is_replaced(world: World) -> None:
    with Engine() as engine:
        engine.publish(stored(1, 2, 3, 4))
        world.follow(engine)
        await world.in_step()
        world.tip()
        await world.until(lambda: world.worker.sure)
    await world.until(lambda: not world.seen["in_step"])
    await world.until(lambda: not world.worker.sure)
    assert "lost" in world.events[1]["problem"]
    with Engine() as engine:
        engine.publish(stored(7))
        world.follow(engine)  # elsewhere, as an engine that says so itself may be
        await world.in_step()
        await world.until(lambda: any(one.cleared for one in world.worker.news))
        assert [event["in_step"] for event in world.events] == [True, False, True]
        assert [event["problem"] is None for event in world.events] == [True, False, True]
        assert world.seen["blocks"] == 1


async def test_an_answer_while_batches_are_missing(world: World) -> None:
    with Engine() as engine:
        engine.publish(stored(1, 2))
        world.follow(engine)
        await world.in_step()
        engine.answers = False
        engine.publish(stored(3, 4, before=2), heard=False)
        engine.publish(removed(4), heard=False)
        while world.seen["in_step"]:  # the first may come before the subscription
            engine.publish(stored(7))
            await asyncio.sleep(0.01)
        world.tip()
        engine.answers = True
        await world.until(lambda: world.worker.sure == {101})


async def test_an_answer_of_an_engine_that_is_not_listened_to_yet(world: World) -> None:
    with Engine() as engine:
        engine.publish(stored(7))
        world.follow(engine)
        await world.in_step()
    await world.until(lambda: not world.seen["in_step"])
    with Engine() as engine:  # it has started anew
        world.tip()
        engine.publish(stored(1, 2, 3, 4))
        world.follow(engine)
        await world.until(lambda: world.worker.sure == {101, 102, 99})
        assert world.watch.listening[ONE].view.counts.restarts == 1


async def test_an_answer_of_an_engine_that_nobody_listens_to(world: World) -> None:
    world.follow(None)
    world.tip()
    assert world.watch.unheeded == 1


async def test_a_worker_that_starts_is_told_all(world: World) -> None:
    with Engine() as engine:
        engine.publish(stored(1, 2, 3, 4))
        world.follow(engine)
        await world.in_step()
        world.tip()
        await world.until(lambda: world.worker.sure)
        late = world.greeted()
        world.worker.channel.open = False
        await world.until(lambda: late.sure == {101, 102, 99})
        await world.until(lambda: len(world.watch._feeds) == 1)


async def test_an_endpoint_that_was_down_is_told_again(world: World) -> None:
    """Workers forget what it holds when it is down."""
    with Engine() as engine:
        engine.publish(stored(1, 2, 3, 4))
        world.follow(engine)
        await world.in_step()
        world.tip()
        await world.until(lambda: world.worker.sure)
        standing = world.roster.standings[ONE]
        world.roster.set_health(standing, True)
        world.roster.set_health(standing, False)
        world.worker.sure.clear()
        world.roster.set_health(standing, True)
        await world.until(lambda: world.worker.sure == {101, 102, 99})


async def test_a_worker_that_does_not_read_is_told_all_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "MOST", 1000)
    with Engine() as engine:
        engine.publish(stored(1, 2, 3, 4))
        world.follow(engine)
        await world.in_step()
        world.tip()
        await world.until(lambda: world.worker.sure)
        world.worker.channel.backlog = feed_module.MOST_UNREAD
        told = len(world.worker.news)
        for _ in range(30):
            engine.publish(removed(4))
            engine.publish(stored(4, before=3))
            await asyncio.sleep(0.025)
        await world.until(lambda: world.watch.behind)
        assert len(world.worker.news) == told
        world.worker.channel.backlog = 0
        engine.publish(removed(4))
        await world.until(lambda: world.worker.sure == {101})
        assert world.worker.doubts == 1


async def test_a_configuration_without_events(world: World) -> None:
    with Engine() as engine:
        world.follow(engine)
        await world.in_step()
        world.follow(None)
        assert world.watch.seen(ONE) is None
        assert len(world.watch._watches) == 0


async def test_blocks_are_bounded_for_each_engine_and_in_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "MOST_BLOCKS", 6)
    with Engine() as engine:
        engine.publish(stored(*range(1, 5)))
        world.follow(engine, most_blocks=8)
        await world.in_step()
        await world.until(lambda: world.watch.listening[ONE].view.cache._blocks.most == 6)
        engine.publish(stored(*range(5, 11), before=4))
        await world.until(lambda: world.seen["batches"] == 2)
        assert world.seen["blocks"] == 6
        assert not world.seen["whole"]
        assert world.watch.listening[ONE].view.cache.unknown == 4


async def test_what_cannot_be_followed_is_said(world: World) -> None:
    with Engine() as engine:
        world.follow(engine)
        await world.in_step()
        engine.publish(raw=b"\x00")
        await world.until(lambda: "are no KV events" in (world.seen["problem"] or ""))

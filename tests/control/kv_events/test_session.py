"""One connection to an engine, over real sockets: what it knows whatever gets lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import zmq

from engine.kv_events import KvEventsConfig, Publisher
from engine.kv_events.events import AllBlocksCleared
from engine.kv_events.wire import as_arrays
from router.control.kv_events import session as session_module
from router.control.kv_events.session import Session
from router.control.kv_events.source import NoSource, Source
from router.core.engine_cache.view import EngineView
from tests.control.kv_events.publishing import Engine, removed, stored


class Follower:
    """A view and whoever follows an engine for it."""

    def __init__(self) -> None:
        self.view = EngineView("c/e:1", 1000)
        self.ended = ""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    @asynccontextmanager
    async def following(self, source: Source) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run(source))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.view.lost()

    async def _run(self, source: Source) -> None:
        try:
            await Session(self._context, source, self.view, lambda: None).run()
        except NoSource as error:
            self.ended = str(error)

    async def until(self, condition: Callable[[EngineView], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition(self.view):
                await asyncio.sleep(0.005)

    async def knows(self, *blocks: int) -> None:
        """Wait until it is in step and knows that exactly these are held."""
        cache = self.view.cache
        await self.until(
            lambda view: (
                view.in_step
                and cache.blocks == len(blocks)
                and all(one in cache._blocks for one in blocks)
            )
        )

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def follower() -> Iterator[Follower]:
    made = Follower()
    yield made
    made.close()


async def heard(engine: Engine, follower: Follower) -> None:
    """Wait until live batches arrive: PUB does not tell who listens."""
    await follower.until(lambda view: view.in_step)
    batches = follower.view.counts.batches
    while follower.view.counts.batches == batches:
        engine.publish()
        await asyncio.sleep(0.02)
    await follower.until(lambda view: view.sequence.expected == len(engine.batches))


@pytest.mark.parametrize("topics", [True, False])
async def test_what_was_published_before_is_asked_for(follower: Follower, topics: bool) -> None:
    with Engine(topics=topics) as engine:
        engine.publish(stored(1, 2, 3))
        engine.publish(removed(3))
        async with follower.following(engine.source):
            await follower.knows(1, 2)
            assert follower.view.whole
            await heard(engine, follower)
            engine.publish(stored(4, before=2))
            await follower.knows(1, 2, 4)


async def test_a_gap_is_filled(follower: Follower) -> None:
    with Engine() as engine:
        async with follower.following(engine.source):
            await heard(engine, follower)
            engine.publish(stored(1, 2, 3), heard=False)
            engine.publish(removed(3), heard=False)
            engine.publish(stored(4, before=2))
            await follower.knows(1, 2, 4)
            counts = follower.view.counts
            assert (counts.gaps, counts.lost, counts.restarts) == (1, 0, 0)
            assert engine.asked[-1] == len(engine.batches) - 4, "with the last that came"


async def test_a_gap_that_nobody_can_fill_begins_the_picture_anew(follower: Follower) -> None:
    with Engine(kept=1) as engine:
        async with follower.following(engine.source):
            await heard(engine, follower)
            engine.publish(stored(1, 2, 3))
            await follower.knows(1, 2, 3)
            engine.publish(removed(3), heard=False)
            engine.publish(stored(9), heard=False)
            engine.publish(stored(4, before=2))
            await follower.until(lambda view: view.counts.lost == 1)
            await follower.knows(4)
            assert not follower.view.whole
            engine.publish(AllBlocksCleared(), stored(1))
            await follower.knows(1)
            assert follower.view.whole


async def test_without_a_replay_socket_a_gap_is_a_loss(follower: Follower) -> None:
    with Engine(replays=False) as engine:
        async with follower.following(engine.source):
            await heard(engine, follower)
            engine.publish(stored(1, 2))
            await follower.knows(1, 2)
            engine.publish(heard=False)
            engine.publish(stored(5))
            await follower.knows(5)
            assert (follower.view.counts.gaps, follower.view.counts.lost) == (1, 1)
            assert not follower.view.whole
        async with follower.following(engine.source):
            await heard(engine, follower)
            assert follower.view.cache.blocks == 0, "who knows what happened meanwhile"


async def test_the_same_engine_is_met_again(follower: Follower) -> None:
    with Engine() as engine:
        async with follower.following(engine.source):
            await heard(engine, follower)
            engine.publish(stored(1, 2))
            await follower.knows(1, 2)
        engine.publish(stored(3, before=2), heard=False)
        async with follower.following(engine.source):
            await follower.knows(1, 2, 3)
        assert (follower.view.counts.restarts, follower.view.counts.lost) == (0, 0)


@pytest.mark.parametrize("further", [0, 1, 40], ids=["behind", "level", "ahead"])
async def test_an_engine_that_started_anew_is_known(follower: Follower, further: int) -> None:
    with Engine() as engine:
        async with follower.following(engine.source):
            await heard(engine, follower)
            engine.publish(stored(1, 2))
            await follower.knows(1, 2)
        length = len(engine.batches)
    with Engine() as engine:
        for number in range(length * min(1, further) + further):
            engine.publish(stored(100 + number))
        async with follower.following(engine.source):
            await follower.knows(*(100 + number for number in range(len(engine.batches))))
        assert follower.view.counts.restarts == 1
        assert follower.view.whole


async def test_a_lost_connection_is_noticed(follower: Follower) -> None:
    with Engine() as engine:
        async with follower.following(engine.source):
            await heard(engine, follower)
            engine._context.destroy(linger=0)
            await follower.until(lambda _: bool(follower.ended))
            assert "the connection was lost" in follower.ended
        engine._context = zmq.Context()


async def test_nobody_listens_there(follower: Follower) -> None:
    with Engine() as engine:
        source = engine.source
    async with follower.following(source):
        await follower.until(lambda _: bool(follower.ended))
    assert "cannot be reached" in follower.ended


async def test_nobody_repeats_anything(follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "PATIENCE", 0.1)
    with Engine() as engine:
        engine.answers = False
        async with follower.following(engine.source):
            await follower.until(lambda _: bool(follower.ended))
    assert "no answer within 0.1s" in follower.ended


STRANGE = {
    "not for us": (b"\x93\x01", "are no KV events"),
    "of two ranks": (as_arrays(1.0, [])[:-1] + b"\x01", "for the data-parallel ranks 0 and 1"),
}


@pytest.mark.parametrize("name", STRANGE)
async def test_what_cannot_be_followed(follower: Follower, name: str) -> None:
    raw, message = STRANGE[name]
    with Engine() as engine:
        async with follower.following(engine.source):
            await heard(engine, follower)
            engine.publish(raw=raw)
            await follower.until(lambda _: bool(follower.ended))
    assert message in follower.ended


async def test_our_engines_publisher(follower: Follower) -> None:
    any_port = "tcp://127.0.0.1:0"
    config = KvEventsConfig(
        enable_kv_cache_events=True, endpoint=any_port, replay_endpoint=any_port, topic="kv"
    )
    publisher = Publisher(config, as_arrays)
    try:
        publisher.publish([stored(1, 2, 3)])
        source = Source(publisher.endpoint, publisher.replay_endpoint, b"kv")
        async with follower.following(source):
            await follower.knows(1, 2, 3)
            for _ in range(500):  # more than are read at one time
                publisher.publish([removed(3)])
                publisher.publish([stored(3, before=2)])
            publisher.publish([removed(3)])
            await follower.until(lambda view: view.sequence.expected == 1002)
            await follower.knows(1, 2)
    finally:
        publisher.close()

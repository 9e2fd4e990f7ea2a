"""Passes what the workers tell each other on to other machines, and what those tell to the workers.

Over Redis' publish and subscribe, on one channel, with the very envelopes that go from worker to
worker. Control does it, so that there is one connection for each machine and none on any request's
way; workers tell it as they tell each other. Envelopes for one process go no further than its
machine where that is this one, and its own come back and are not read again.

Nothing is kept for a Redis that is gone: what it would have carried is out of date when it is back.
Until then each machine knows of itself alone, and balances as well as it can. A connection that is
half open is noticed by what does not come back on it: an empty message is sent now and then.
"""

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Final

from router.config.limits import RedisSpec
from router.control.mesh import LARGEST, Mesh
from router.control.redis_client import redis_client
from router.core.forecast.notes import Unreadable, address
from router.telemetry.logs import logger
from router.telemetry.totals import Totals

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub

BATCH: Final = 256
"""Envelopes that are published in one write."""

ROOM: Final = 4096
"""Envelopes that wait for a write; 16 MiB at most."""

BURST: Final = 64
"""Datagrams that are read before everything else has its turn."""

PATIENCE: Final = 1.0
"""Seconds that a connection or a write may take."""

PROBE: Final = 2.0
"""Seconds without anything to publish after which an empty message is."""

SILENCE: Final = 3 * PROBE
"""Seconds in which nothing comes, not even what was published, after which it is tried anew."""

LONGEST_PAUSE: Final = 15.0


class GossipRelay:
    """Of one machine.

    Attributes:
        up: whether Redis is reached.
        published, received: envelopes.
        unreached: those that came while it was not, ``overflowed``: while too many waited.
        unreadable: messages that were no envelope.
        missed: times that a worker had no room for what came.
    """

    def __init__(self, mesh: Mesh) -> None:
        self.up = False
        self.published = 0
        self.received = 0
        self.unreached = 0
        self.overflowed = 0
        self.unreadable = 0
        self.missed = 0
        self._mesh = mesh
        self._where: tuple[RedisSpec, str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._queue: list[bytes] = []
        self._wanted = asyncio.Event()
        self._published = asyncio.Event()
        self._published.set()
        self._said_lost = False
        self._log = logger("gossip")

    def follow(self, spec: RedisSpec | None, channel: str) -> None:
        """Begin, end, or go on elsewhere, as the configuration says."""
        where = None if spec is None else (spec, channel)
        if where == self._where:
            return
        self._stop()
        self._where = where
        if where is None:
            return
        self._mesh.hush(-1)
        self._mesh.overheard = True
        loop = asyncio.get_running_loop()
        loop.add_reader(self._mesh.ear.fileno(), self._overheard)
        self._task = loop.create_task(self._serve(*where))

    def _stop(self) -> None:
        if self._task is not None:
            asyncio.get_running_loop().remove_reader(self._mesh.ear.fileno())
            self._mesh.overheard = False
            self._task.cancel()
            self._task = None
            self._forget()

    def _forget(self) -> None:
        self.up = False
        self._queue.clear()
        self._wanted.clear()
        self._published.set()

    async def close(self) -> None:
        """Publish the last words of the workers, if that can be done soon, and end."""
        if (task := self._task) is not None:
            self._overheard()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._published.wait()
            self._stop()
            await asyncio.gather(task, return_exceptions=True)

    # --- from the workers ---------------------------------------------------------------------

    def _overheard(self) -> None:
        local = self._mesh.origins.values()
        for _ in range(BURST):
            try:
                data = self._mesh.ear.recv(LARGEST)
                to = address(data).to
            except BlockingIOError:
                return
            except Unreadable:
                self.unreadable += 1
                continue
            if to and to in local:
                continue
            if not self.up:
                self.unreached += 1
            elif len(self._queue) >= ROOM:
                self.overflowed += 1
            else:
                self._queue.append(data)
                self._wanted.set()
                self._published.clear()

    # --- Redis --------------------------------------------------------------------------------

    async def _serve(self, spec: RedisSpec, channel: str) -> None:
        pause = first = float(spec.retry_interval)
        while True:
            try:
                await self._converse(spec, channel)
            except Exception as error:  # whatever it was, it is tried again
                pause = first if self.up else min(2 * pause, max(first, LONGEST_PAUSE))
                self._lost(spec, error)
            await asyncio.sleep(pause * (0.75 + random.random() / 2))

    async def _converse(self, spec: RedisSpec, channel: str) -> None:
        """Tell and listen until something goes wrong."""
        client = redis_client(spec)
        try:
            async with client.pubsub() as pubsub:
                async with asyncio.timeout(PATIENCE):
                    await pubsub.subscribe(channel)
                self._reached(spec)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._tell(client, channel))
                    both.create_task(self._listen(pubsub))
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.aclose(), PATIENCE)

    async def _tell(self, client: "Redis", channel: str) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE):
                    await self._wanted.wait()
            batch, self._queue = self._queue[:BATCH], self._queue[BATCH:]
            if not self._queue:
                self._wanted.clear()
            pipeline = client.pipeline(transaction=False)
            for data in batch or [b""]:
                pipeline.publish(channel, data)
            async with asyncio.timeout(PATIENCE):
                await pipeline.execute()
            self.published += len(batch)
            if not self._queue:
                self._published.set()

    async def _listen(self, pubsub: "PubSub") -> None:
        while True:
            async with asyncio.timeout(SILENCE):
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=None)
            if message is not None and message["data"]:
                self._take(message["data"])

    def _take(self, data: bytes) -> None:
        try:
            envelope = address(data)
        except Unreadable:
            self.unreadable += 1
            return
        if len(data) > LARGEST:
            self.unreadable += 1
        elif envelope.machine != self._mesh.machine:
            self.received += 1
            self.missed += self._mesh.say(data, envelope.to)

    # --- what is told of it -------------------------------------------------------------------

    def _reached(self, spec: RedisSpec) -> None:
        self.up = True
        if self._said_lost:
            self._said_lost = False
            self._log.info("other machines hear of prompts again", address=str(spec.address))

    def _lost(self, spec: RedisSpec, error: BaseException) -> None:
        self._forget()
        if not self._said_lost:
            self._said_lost = True
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            self._log.error(
                "other machines do not hear of prompts: Redis is not reached",
                address=str(spec.address),
                error=repr(error),
            )

    def add_to(self, totals: Totals) -> None:
        """Put the counts into ``totals``; nothing where no other machine is told."""
        if self._where is None:
            return
        totals.gauges["gossip_redis_reached"] = {(): float(self.up)}
        totals.counters["gossip_relayed_total"] = {
            ("sent",): float(self.published),
            ("heard",): float(self.received),
        }
        totals.counters["gossip_relay_lost_total"] = {
            ("unreached",): float(self.unreached),
            ("overflow",): float(self.overflowed),
            ("unreadable",): float(self.unreadable),
            ("worker_full",): float(self.missed),
        }

    def __repr__(self) -> str:
        return f"<GossipRelay up={self.up} queued={len(self._queue)}>"

"""Listens to all engines that are to be listened to, and tells the workers what their caches hold.

Control does this once for the machine: a worker that read events would keep its streams waiting,
and each would know only the prompts that it sent itself (docs/adr/0020). What changes gathers for
some milliseconds. Blocks that are known of all engines together are bounded as well: beyond that
an engine's further blocks are not known, and what they are of prompts is estimated.
"""

import asyncio
import random
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from router.control.engine_client import EngineClient
from router.control.journal import Tell, nobody
from router.control.kv_events.feed import Feed
from router.control.kv_events.source import NoSource, find
from router.control.messages import HostUpdate
from router.control.roster import Roster, Standing
from router.control.watches import Watches
from router.control.worker_process import WorkerProcess
from router.core.cluster import KvEvents
from router.core.engine_cache.cache import Tip
from router.core.engine_cache.news import CacheNews, TipSeen
from router.core.engine_cache.view import EngineView
from router.core.forecast.notes import unpack
from router.core.snapshot import Snapshot
from router.telemetry.logs import logger

if TYPE_CHECKING:
    import zmq

GATHER: Final = 0.02
"""Seconds in which changes gather before workers are told."""
MOST_BLOCKS: Final = 4_000_000
"""Known of all engines together: 640 MB."""
PAUSES: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before the next connection, by the number of failures in a row."""

MOST_SOCKETS: Final = 1 << 16
"""ZeroMQ's, of which an engine takes five; it has room for a thousand by default."""
NOT_YET: Final = "not connected yet"


class Listening:
    """One engine that is listened to.

    Attributes:
        most: blocks that are known of it.
        counted: blocks that are known of it, as they were counted among all engines' last.
        problem: why it is not in step, None while it is.
        told: the last word on that in the journal.
    """

    __slots__ = ("counted", "most", "problem", "standing", "told", "view")

    def __init__(self, standing: Standing, most: int) -> None:
        self.standing = standing
        self.most = most
        self.counted = 0
        self.view = EngineView(standing.endpoint.id, most)
        self.problem: str | None = NOT_YET
        self.told = False


class KvEventWatch:
    """Of all clusters.

    Args:
        tell: told when an endpoint falls out of step, and when it is back.

    Attributes:
        listening: the engines by endpoint id.
        unheeded: tips of engines that nobody listens to.
        behind: times that a worker fell too far behind.
    """

    def __init__(
        self,
        client: EngineClient,
        roster: Roster,
        rng: random.Random,
        tell: Tell = nobody,
    ) -> None:
        self.listening: dict[str, Listening] = {}
        self.unheeded = 0
        self.behind = 0
        self._client = client
        self._roster = roster
        self._rng = rng
        self._tell = tell
        self._watches = Watches("kv-events", self._watch)
        self._feeds: list[Feed] = []
        self._due: asyncio.TimerHandle | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._log = logger("kv-events")
        self._down: set[str] = set()
        self._dirty: dict[Listening, None] = {}
        self._known = 0
        roster.subscribe(self._hosts_changed)

    def reconcile(self, snapshot: Snapshot) -> None:
        """Follow a new configuration."""
        wanted: dict[str, tuple[Standing, object]] = {}
        for id_, standing in self._roster.standings.items():
            settings = snapshot.clusters[standing.endpoint.cluster].kv_events
            if settings is not None:
                wanted[id_] = (standing, settings)
                known = self.listening.get(id_)
                if known is None or known.standing is not standing:
                    if known is not None:
                        self._forget(known)
                    self.listening[id_] = Listening(standing, settings.most_blocks)
                else:
                    known.most = settings.most_blocks
        for id_ in [id_ for id_ in self.listening if id_ not in wanted]:
            self._forget(self.listening.pop(id_))
        self._down &= self.listening.keys()
        self._watches.reconcile(wanted)

    def _forget(self, listening: Listening) -> None:
        self._known -= listening.counted
        self._dirty.pop(listening, None)

    async def close(self) -> None:
        await self._watches.close()
        if self._due is not None:
            self._due.cancel()
        if self._context is not None:
            self._context.destroy(linger=0)

    # --- engines --------------------------------------------------------------------------------

    async def _watch(self, standing: Standing, settings: KvEvents) -> None:
        listening = self.listening[standing.endpoint.id]
        self._lost(listening, NOT_YET)  # with other settings it may be another engine
        failures = 0
        while True:
            batches = listening.view.counts.batches
            try:
                await self._listen(listening, settings)
            except NoSource as error:
                self._lost(listening, str(error))
            except Exception as error:  # whatever it was, nothing of this engine can be relied on
                self._log.exception("listening failed", endpoint=standing.endpoint.id)
                self._lost(listening, repr(error))
            failures = 0 if listening.view.counts.batches > batches else failures + 1
            pause = PAUSES[min(failures, len(PAUSES) - 1)]
            await asyncio.sleep(pause * (0.8 + 0.4 * self._rng.random()))

    async def _listen(self, listening: Listening, settings: KvEvents) -> None:
        # Imported where it is needed: a router that listens to nobody need not have pyzmq.
        import zmq

        from router.control.kv_events.session import Session

        source = await find(self._client, listening.standing.endpoint, settings)
        if self._context is None:
            self._context = zmq.Context()
            self._context.set(zmq.MAX_SOCKETS, MOST_SOCKETS)
        changed = partial(self._changed, listening)
        try:
            await Session(self._context, source, listening.view, changed).run()
        except zmq.ZMQError as error:
            raise NoSource(f"{source.subscribe}: {error.strerror}") from None

    def _lost(self, listening: Listening, problem: str) -> None:
        listening.view.lost()
        listening.problem = problem
        self._changed(listening)

    def _changed(self, listening: Listening) -> None:
        """Something may have changed of what is known of an engine."""
        view = listening.view
        if view.in_step:
            listening.problem = None
        elif listening.problem is None:
            listening.problem = "batches are missing, and are asked for"
        if view.in_step is not listening.told:
            listening.told = view.in_step
            self._report(listening)
        self._dirty[listening] = None
        self._soon()

    def _soon(self) -> None:
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(GATHER, self._flush)

    def _report(self, listening: Listening) -> None:
        id_, view = listening.standing.endpoint.id, listening.view
        known = {"endpoint": id_, "in_step": view.in_step, "whole": view.whole}
        self._tell("kv_events", **known, problem=listening.problem)
        if view.in_step:
            self._log.info("told exactly what an engine's cache holds", **known)
        else:
            self._log.warning(
                "what an engine's cache holds is estimated", **known, problem=listening.problem
            )

    # --- workers --------------------------------------------------------------------------------

    def tips_seen(self, tips: Iterable[TipSeen]) -> None:
        """Answers told which blocks their prompts have.

        Of an engine that is out of step as well: what they say holds when it is in step again, and
        whoever left it out would estimate for good what was evicted meanwhile.
        """
        for seen in tips:
            listening = self.listening.get(seen.endpoint)
            if listening is None or seen.size <= 0:
                self.unheeded += 1
                continue
            names = unpack(seen.checkpoints)
            listening.view.tie(Tip(seen.block, seen.count, names, seen.size, seen.end))
            self._changed(listening)

    def greet(self, worker: WorkerProcess) -> None:
        """A worker has started: tell it all."""
        feed = Feed(worker)
        self._feeds.append(feed)
        for listening in self.listening.values():
            feed.add(listening.view.all())
        self._soon()

    def _hosts_changed(self, updates: tuple[HostUpdate, ...]) -> None:
        """A worker forgets what an endpoint holds that is down; tell it when that is up again."""
        for update in updates:
            listening = self.listening.get(update.id)
            if listening is None:
                continue
            if not update.healthy:
                self._down.add(update.id)
            elif update.id in self._down:
                self._down.remove(update.id)
                self._spread(listening.view.all())
                self._soon()

    def _flush(self) -> None:
        self._due = None
        dirty, self._dirty = self._dirty, {}
        for listening in dirty:
            self._spread(listening.view.take())
            self._share_room(listening)
        self._feeds = [feed for feed in self._feeds if feed.open]
        waiting = [feed.tell() for feed in self._feeds]
        if any(waiting):
            self._soon()

    def _spread(self, news: list[CacheNews]) -> None:
        if not news:
            return
        for feed in self._feeds:
            if not feed.add(news):
                self.behind += 1
                views = [listening.view for listening in self.listening.values()]
                feed.begin_anew([CacheNews(view.endpoint, False) for view in views])
                for view in views:
                    feed.add(view.all())  # what finds no room is estimated

    def _share_room(self, listening: Listening) -> None:
        """Let no more of its blocks be known than there is room for in all."""
        cache = listening.view.cache
        self._known += cache.known - listening.counted
        listening.counted = cache.known
        cache.limit(min(listening.most, cache.known + max(0, MOST_BLOCKS - self._known)))

    def seen(self, id_: str) -> dict[str, Any] | None:
        """What is known of an endpoint's cache, None where nobody listens to it."""
        listening = self.listening.get(id_)
        if listening is None:
            return None
        view = listening.view
        return {
            "in_step": view.in_step,
            "whole": view.whole,
            "problem": listening.problem,
            "blocks": view.cache.blocks,
            "block_size": view.cache.block_size,
            "names": view.cache.ties,
            "batches": view.counts.batches,
        }

    def __repr__(self) -> str:
        steps = sum(1 for one in self.listening.values() if one.view.in_step)
        return f"<KvEventWatch {steps} of {len(self.listening)} in step>"

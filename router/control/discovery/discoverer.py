"""Follows the sources of all clusters and tells control when endpoints changed.

A source is a task that waits for the next answer; after a failure it pauses at random, up to a
bound that doubles (tenacity's full jitter). Changes are gathered: the first after a quiet time is
told within a blink, the next not before ``GAP`` has passed, however fast pods come and go.

Nothing of a configuration is kept here but the sources: :meth:`Discoverer.resolve` is given the
configuration in force each time, so an answer can never bring an older one back.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

from router.config.clusters import ClusterSpec, EndpointSpec
from router.config.discovery import DiscoverySpec
from router.config.schema import Config
from router.control.discovery.answer import Answer, DiscoveryFailed, Source
from router.control.discovery.membership import Membership, difference
from router.control.discovery.registry import source_for
from router.control.journal import Tell, nobody
from router.telemetry.logs import logger

GATHER = 0.03
"""Seconds from a change to when it is told."""
GAP = 0.5
"""Seconds between two tellings, at least."""
FIRST_ANSWER = 5.0
"""Seconds that a start or a reload waits for new sources."""
FIRST_PAUSE = 0.5
"""Seconds; bound of the first pause after a failure."""
MAX_TOLD = 20

Key = tuple[str, DiscoverySpec]


class Watch:
    """One cluster's source, its task and what it said."""

    def __init__(self, source: Source, membership: Membership) -> None:
        self.source = source
        self.membership = membership
        self.heard = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.task is not None:
            self.task.cancel()


class Discoverer:
    """Sources by cluster and settings.

    Args:
        changed: called when :meth:`resolve` would say something new.
        source_for: makes a source from its section.
        gap: seconds between two calls of ``changed``, at least.
        tell: told of changes and failures.
    """

    def __init__(
        self,
        changed: Callable[[], None],
        source_for: Callable[[DiscoverySpec], Source] = source_for,
        gap: float = GAP,
        tell: Tell = nobody,
    ) -> None:
        self._report = tell
        self._changed = changed
        self._source_for = source_for
        self._gap = gap
        self._watches: dict[Key, Watch] = {}
        self._telling: asyncio.TimerHandle | None = None
        self._told_at = float("-inf")
        self._cancelled: set[asyncio.Task[None]] = set()
        self._log = logger("discovery")

    # --- following a configuration ------------------------------------------------------------

    async def prepare(
        self,
        config: Config,
        carried: Callable[[str], tuple[EndpointSpec, ...]],
        timeout: float = FIRST_ANSWER,
    ) -> None:
        """Start the sources that a configuration adds, and wait for their first words.

        Args:
            carried: what serves a cluster at present; it does until the source has answered.
            timeout: seconds after which the configuration is used without them.
        """
        fresh: list[Watch] = []
        for key in _keys(config):
            if key not in self._watches:
                fresh.append(self._start(key, carried(key[0])))
        if not fresh:
            return
        try:
            async with asyncio.timeout(timeout):
                for watch in fresh:
                    await watch.heard.wait()
        except TimeoutError:
            self._log.warning("no answer yet, going on without it", seconds=timeout)

    def reconcile(self, config: Config) -> None:
        """Stop the sources that the configuration in force does not name."""
        wanted = set(_keys(config))
        for key in [key for key in self._watches if key not in wanted]:
            self._end(self._watches.pop(key))

    def resolve(self, config: Config) -> Config:
        """The configuration with the endpoints that are known."""
        if all(cluster.discovery is None for cluster in config.clusters):
            return config
        return msgspec.structs.replace(
            config, clusters=tuple(self._resolved(cluster) for cluster in config.clusters)
        )

    def _resolved(self, cluster: ClusterSpec) -> ClusterSpec:
        if cluster.discovery is None:
            return cluster
        watch = self._watches.get((cluster.name, cluster.discovery))
        known = () if watch is None else watch.membership.known
        return msgspec.structs.replace(cluster, endpoints=known)

    # --- the sources' tasks -------------------------------------------------------------------

    def _start(self, key: Key, carried: tuple[EndpointSpec, ...]) -> Watch:
        spec = key[1]
        membership = Membership(float(spec.empty_after), spec.max_endpoints, carried)
        watch = self._watches[key] = Watch(self._source_for(spec), membership)
        watch.task = asyncio.create_task(self._follow(key[0], watch))
        watch.task.add_done_callback(self._ended)
        return watch

    async def _follow(self, cluster: str, watch: Watch) -> None:
        def failed(state: RetryCallState) -> None:
            assert state.outcome is not None
            self._failed(cluster, watch, state.outcome.exception())

        asking = AsyncRetrying(
            wait=wait_random_exponential(multiplier=FIRST_PAUSE, max=watch.source.max_pause),
            before_sleep=failed,
        )
        try:
            while True:
                self._answered(cluster, watch, await asking(watch.source.next))
        finally:
            await watch.source.close()

    def _failed(self, cluster: str, watch: Watch, error: BaseException | None) -> None:
        # Not one of its own words: a mistake in the source. It must not end the router's eyes.
        text = str(error) if isinstance(error, DiscoveryFailed) else repr(error)
        if watch.membership.failed(text):
            self._report("discovery", cluster=cluster, state="failed", error=text)
            self._log.error(
                "discovery failed, the last known endpoints stay",
                cluster=cluster,
                endpoints=len(watch.membership.known),
                error=text,
            )
        watch.heard.set()

    def _answered(self, cluster: str, watch: Watch, answer: Answer) -> None:
        loop = asyncio.get_running_loop()
        member = watch.membership
        before, left_out, held = member.known, member.left_out, member.empty_due
        if member.error is not None:
            self._log.info("discovery works again", cluster=cluster)
            self._report("discovery", cluster=cluster, state="works again")
        changed = member.take(answer, loop.time())
        watch.heard.set()
        if changed:
            self._tell(cluster, before, member)
        if member.left_out > left_out:
            self._log.error(
                "too many endpoints, some are left out", cluster=cluster, left_out=member.left_out
            )
        due = member.empty_due
        if due is not None and held is None:
            self._log.warning(
                "discovery finds no endpoint, the last known stay for now",
                cluster=cluster,
                endpoints=len(member.known),
            )
        if watch.timer is not None:
            watch.timer.cancel()
            watch.timer = None
        if due is not None:
            watch.timer = loop.call_at(due, self._believe, cluster, watch)

    def _believe(self, cluster: str, watch: Watch) -> None:
        before = watch.membership.known
        if watch.membership.believe(asyncio.get_running_loop().time()):
            self._tell(cluster, before, watch.membership)

    def _tell(self, cluster: str, before: tuple[EndpointSpec, ...], membership: Membership) -> None:
        added, removed = difference(before, membership.known)
        self._report(
            "discovery",
            cluster=cluster,
            state="changed",
            endpoints=len(membership.known),
            added=added,
            removed=removed,
        )
        self._log.info(
            "endpoints changed",
            cluster=cluster,
            endpoints=len(membership.known),
            added=added[:MAX_TOLD],
            removed=removed[:MAX_TOLD],
            draining=sum(1 for endpoint in membership.known if endpoint.drain),
        )
        if self._telling is None:
            loop = asyncio.get_running_loop()
            at = max(loop.time() + GATHER, self._told_at + self._gap)
            self._telling = loop.call_at(at, self._tell_control)

    def _tell_control(self) -> None:
        self._telling = None
        self._told_at = asyncio.get_running_loop().time()
        self._changed()

    def _end(self, watch: Watch) -> None:
        watch.cancel()
        if watch.task is not None and not watch.task.done():
            self._cancelled.add(watch.task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._cancelled.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a source is given up", error=repr(error))

    # --- what is asked of it ------------------------------------------------------------------

    def status(self, config: Config, name: str) -> dict[str, Any] | None:
        """What an operator sees of a cluster's discovery; None if it has none."""
        now = asyncio.get_running_loop().time()
        for (cluster, spec), watch in self._in_force(config):
            if cluster == name:
                kind = spec.__struct_config__.tag
                return {"type": kind, **watch.membership.status(now)}
        return None

    def memberships(self, config: Config) -> dict[str, Membership]:
        """By cluster, those of the configuration."""
        return {key[0]: watch.membership for key, watch in self._in_force(config)}

    def _in_force(self, config: Config) -> Iterator[tuple[Key, Watch]]:
        for key in _keys(config):
            watch = self._watches.get(key)
            if watch is not None:
                yield key, watch

    async def close(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
        for watch in self._watches.values():
            self._end(watch)
        self._watches.clear()
        await asyncio.gather(*self._cancelled, return_exceptions=True)

    def __repr__(self) -> str:
        return f"<Discoverer {len(self._watches)} sources>"


def _keys(config: Config) -> Iterator[Key]:
    for cluster in config.clusters:
        if cluster.discovery is not None:
            yield cluster.name, cluster.discovery

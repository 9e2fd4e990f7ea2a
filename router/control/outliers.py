"""Outlier detection where all workers' findings meet: in control, once for the machine.

Workers tell at once when an endpoint's failures in a row met a threshold. Once an interval, what
their reports added up to since the last one is looked at for rates and latencies, and ejections
that are over end. A verdict reaches the workers as a host state, within 10 ms; requests under way
are left alone.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from router.control.journal import Tell, nobody
from router.control.roster import Roster, Standing
from router.core.clock import Rng
from router.core.health.detector import OutlierDetector, OutlierEvent
from router.core.health.ejection import EjectionRecord
from router.core.health.monitor import counts_in
from router.core.health.outlier import Detector, Outlier
from router.core.health.statistics import Tally
from router.core.host import Outcome
from router.core.model import EndpointId
from router.core.snapshot import Snapshot
from router.telemetry.logs import logger
from router.telemetry.totals import Labels, Totals

_WELL = frozenset({Outcome.SUCCESS})
_BADLY = frozenset({Outcome.STATUS_ERROR, Outcome.TRUNCATED})
_UNANSWERED = frozenset({Outcome.CONNECT_FAILURE, Outcome.RESET, Outcome.TIMEOUT})


class _ClusterWatch:
    """One cluster's detector, its clock, and where its endpoints' totals stood at the last tick."""

    def __init__(self, name: str, detector: OutlierDetector) -> None:
        self.name = name
        self.detector = detector
        self.before: dict[EndpointId, Tally] | None = None
        self.task: asyncio.Task[None] | None = None

    def since_before(self, totals: Mapping[EndpointId, Tally]) -> dict[EndpointId, Tally]:
        """What was added since the last call; nothing at the first."""
        before, self.before = self.before, dict(totals)
        if before is None:
            return {}
        return {id_: _minus(tally, before.get(id_)) for id_, tally in totals.items()}


class OutlierWatch:
    """The detectors of all clusters.

    Args:
        roster: told who is ejected.
        totals: the workers' counts, added up.
        forget: makes an endpoint's failures in a row 0 on the board.
        rng: draws jitter and enforcement.
        tell: told of each verdict.
    """

    def __init__(
        self,
        roster: Roster,
        totals: Callable[[], Totals],
        forget: Callable[[EndpointId], None],
        rng: Rng,
        tell: Tell = nobody,
    ) -> None:
        self._roster = roster
        self._tell = tell
        self._totals = totals
        self._forget = forget
        self._rng = rng
        self._clusters: dict[str, _ClusterWatch] = {}
        self._log = logger("outlier")

    def reconcile(self, snapshot: Snapshot) -> None:
        """Follow a configuration; to be called after the roster has."""
        now = asyncio.get_running_loop().time()
        for name in list(self._clusters):
            cluster = snapshot.clusters.get(name)
            if cluster is None or cluster.outlier is None:
                watch = self._clusters.pop(name)
                _cancel(watch)
                self._act(name, watch.detector.dismiss(now))
        for name, cluster in snapshot.clusters.items():
            if cluster.outlier is not None:
                self._follow(name, [endpoint.id for endpoint in cluster.endpoints], cluster.outlier)

    def _follow(self, name: str, endpoints: list[EndpointId], policy: Outlier) -> None:
        watch = self._clusters.get(name)
        if watch is None:
            watch = self._clusters[name] = _ClusterWatch(name, OutlierDetector(policy, self._rng))
        for id_ in endpoints:
            if id_ not in watch.detector.records:
                self._forget(id_)  # its row may have been another's
        old_interval = watch.detector.policy.interval
        watch.detector.reconcile(endpoints, policy)
        if watch.task is None or policy.interval != old_interval:
            _cancel(watch)
            watch.task = asyncio.create_task(self._run(watch))
            watch.task.add_done_callback(self._ended)

    async def close(self) -> None:
        tasks = [watch.task for watch in self._clusters.values() if watch.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- what happens -------------------------------------------------------------------------

    async def _run(self, watch: _ClusterWatch) -> None:
        loop = asyncio.get_running_loop()
        planned = loop.time()
        while True:
            planned += watch.detector.policy.interval
            await asyncio.sleep(planned - loop.time())
            self.tick(watch.name, planned)
            # Who slept through an interval does not hurry through what was missed.
            planned = max(planned, loop.time() - watch.detector.policy.interval)

    def tick(self, cluster: str, now: float) -> None:
        """Close an interval of a cluster that is watched."""
        watch = self._clusters[cluster]
        tallies: dict[EndpointId, Tally] = {}
        if watch.detector.policy.looks_at_rates:
            tallies = watch.since_before(self._tallies(cluster, watch.detector.records))
        else:
            watch.before = None
        self._act(cluster, watch.detector.tick(tallies, now))

    def suspected(self, id_: str, detector: str) -> None:
        """A worker says that an endpoint's failures in a row met this detector's threshold."""
        standing = self._roster.standings.get(id_)
        watch = None if standing is None else self._clusters.get(standing.endpoint.cluster)
        if watch is None:
            return  # the message crossed a reload
        now = asyncio.get_running_loop().time()
        events = watch.detector.suspected(EndpointId(id_), Detector(detector), now)
        self._act(watch.name, events)

    def passed_health_check(self, standing: Standing) -> None:
        """An active check passed."""
        watch = self._clusters.get(standing.endpoint.cluster)
        if watch is not None and standing.ejected:
            now = asyncio.get_running_loop().time()
            events = watch.detector.passed_health_check(standing.endpoint.id, now)
            self._act(watch.name, events)

    def _act(self, cluster: str, events: list[OutlierEvent]) -> None:
        for event in events:
            ejected = event.action == "eject"
            if not ejected:
                self._forget(event.endpoint)
            standing = self._roster.standings.get(event.endpoint)
            if standing is not None and (event.enforced or not ejected):
                self._roster.set_ejected(standing, ejected)
            since = event.since_last_action
            self._tell(
                "ejection",
                endpoint=event.endpoint,
                action=event.action,
                detector=str(event.detector),
                enforced=event.enforced,
                ejections=event.ejections,
            )
            self._log.warning(
                _words(event),
                cluster=cluster,
                endpoint=event.endpoint,
                action=event.action,
                type=str(event.detector),
                enforced=event.enforced,
                num_ejections=event.ejections,
                secs_since_last_action=None if since is None else round(since, 3),
                **event.detail,
            )

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a watch failed", error=repr(error))

    # --- what is asked ------------------------------------------------------------------------

    def record(self, standing: Standing) -> tuple[EjectionRecord, Outlier] | None:
        """An endpoint's record and its cluster's policy; None where detection is off."""
        watch = self._clusters.get(standing.endpoint.cluster)
        record = None if watch is None else watch.detector.records.get(standing.endpoint.id)
        return None if watch is None or record is None else (record, watch.detector.policy)

    def shown(self, standing: Standing, word: int | None, now: float) -> dict[str, Any] | None:
        """What is held of an endpoint; None where detection is off.

        ``returns_in``: seconds until an ejection is over; it ends at the next interval then.

        Args:
            word: in which its failures in a row are counted; None where it has no place yet.
        """
        known = self.record(standing)
        if known is None or word is None:
            return None
        record, policy = known
        left = max(0.0, record.due(policy) - now) if record.ejected else None
        return {
            "ejected": record.ejected,
            "detector": None if record.detector is None else str(record.detector),
            "returns_in": None if left is None else round(left, 3),
            "ejections": record.ejections,
            "backoff": record.backoff,
            "in_a_row": {str(detector): count for detector, count in counts_in(word).items()},
        }

    def summary(self, cluster: str) -> dict[str, Any] | None:
        """A cluster's policy and what came of it; None where detection is off."""
        watch = self._clusters.get(cluster)
        if watch is None:
            return None
        detector = watch.detector
        return {
            "policy": msgspec.to_builtins(detector.policy),
            "ejected": detector.active,
            "overflow": detector.overflow,
            "enforced": {str(name): count for name, count in detector.enforced.items()},
            "unenforced": {str(name): count for name, count in detector.unenforced.items()},
        }

    def add_to(self, totals: Totals) -> None:
        """Put the metrics of this moment into ``totals``."""
        ejections: dict[Labels, float] = {}
        overflow: dict[Labels, float] = {}
        active: dict[Labels, float] = {}
        for name, watch in self._clusters.items():
            detector = watch.detector
            for counts, enforced in ((detector.enforced, "true"), (detector.unenforced, "false")):
                ejections.update(((name, str(d), enforced), n) for d, n in counts.items())
            overflow[name,] = detector.overflow
            active[name,] = detector.active
        totals.counters["ejections_total"] = ejections
        totals.counters["ejections_overflow_total"] = overflow
        totals.gauges["ejected_endpoints"] = active

    def _tallies(self, cluster: str, endpoints: Iterable[EndpointId]) -> dict[EndpointId, Tally]:
        """All that workers have counted of these endpoints."""
        totals = self._totals()
        outcomes = totals.counters.get("endpoint_requests_total", {})
        found: dict[EndpointId, Tally] = {}
        for id_ in endpoints:
            labels = (cluster, self._roster.standings[id_].endpoint.address)
            counts = {o: outcomes.get((*labels, o.name.lower()), 0.0) for o in Outcome}
            found[id_] = Tally(
                answered_well=int(sum(counts[o] for o in _WELL)),
                answered_badly=int(sum(counts[o] for o in _BADLY)),
                unanswered=int(sum(counts[o] for o in _UNANSWERED)),
                streams=int(totals.counter("endpoint_first_bytes_total", labels)),
                first_byte_seconds=totals.counter("endpoint_first_byte_seconds_total", labels),
            )
        return found

    def __repr__(self) -> str:
        return f"<OutlierWatch {[watch.detector for watch in self._clusters.values()]}>"


def _minus(now: Tally, before: Tally | None) -> Tally:
    if before is None:
        return now
    # Never less than nothing: an endpoint that left and came back may count from 0 again.
    return Tally(
        answered_well=max(0, now.answered_well - before.answered_well),
        answered_badly=max(0, now.answered_badly - before.answered_badly),
        unanswered=max(0, now.unanswered - before.unanswered),
        streams=max(0, now.streams - before.streams),
        first_byte_seconds=max(0.0, now.first_byte_seconds - before.first_byte_seconds),
    )


def _words(event: OutlierEvent) -> str:
    if event.action == "uneject":
        return "endpoint back in rotation"
    return "endpoint ejected" if event.enforced else "endpoint found at fault, not ejected"


def _cancel(watch: _ClusterWatch) -> None:
    if watch.task is not None:
        watch.task.cancel()

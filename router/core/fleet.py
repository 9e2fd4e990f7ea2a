"""All hosts of the process, by id. Outlives every snapshot.

``reconcile`` is the only place where membership changes: endpoints that survive keep what was
learned of them, new ones start empty, and those that left are kept aside until their last lease
is released, so that an endpoint that comes back finds its own in-flight count.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from router.core.affinity import AffinityTable
from router.core.health.monitor import FailureMonitor, Suspicion, Words
from router.core.health.outlier import Detector, Outlier
from router.core.health.strain import Strain
from router.core.host import HostState
from router.core.load import LoadReport
from router.core.memory import ClusterMemory
from router.core.model import AdminState, Endpoint, EndpointId
from router.core.session.table import SessionTable
from router.core.shared_load import SharedLoad, SoleWorker

NEWS: Final = 0.25
"""Seconds by which an endpoint must push its return back for the other workers to be told again."""

TOLD_FOR: Final = 5.0
"""Seconds for which the load counts that an answer told; a metrics page is read once a second."""


class Fleet:
    """``EndpointId -> HostState``.

    Args:
        shared: in-flight counts of the machine's other workers; alone by default.
        affinity: where conversations were sent; one of its own by default.
        failures: words in which failures in a row are counted; of this process by default.
        suspect: told when an endpoint has failed often enough in a row.
        tell_pushed: told when an endpoint pushed back, and until when (monotonic seconds).
        sessions: where sessions were sent; a table of its own by default.

    Attributes:
        strain: what ends by itself; ``pass_time`` is due when it says so.
    """

    def __init__(
        self,
        shared: SharedLoad | None = None,
        affinity: AffinityTable | None = None,
        failures: Words | None = None,
        suspect: Suspicion | None = None,
        tell_pushed: Callable[[EndpointId, float], None] | None = None,
        sessions: SessionTable | None = None,
    ) -> None:
        self.hosts: dict[EndpointId, HostState] = {}
        self.leaving: dict[EndpointId, HostState] = {}
        self.version = 0
        self.affinity = affinity if affinity is not None else AffinityTable.of_size(1 << 14)
        self.shared: SharedLoad = shared if shared is not None else SoleWorker()
        self.failures: Words = failures if failures is not None else defaultdict(int)
        self._suspect: Suspicion = suspect if suspect is not None else _ignored
        self._tell_pushed = tell_pushed
        self.sessions = sessions if sessions is not None else SessionTable.of_size(1 << 12)
        self._memories: dict[str, ClusterMemory] = {}
        self._next_slot = 0
        self.strain = Strain()

    def reconcile(
        self, endpoints: Iterator[Endpoint], slots: Mapping[str, int] | None = None
    ) -> None:
        """Make the membership equal ``endpoints``; survivors keep their state.

        Args:
            slots: each endpoint's row on the shared board; counted up here if not given.
        """
        known = self.hosts | self.leaving
        hosts: dict[EndpointId, HostState] = {}
        for endpoint in endpoints:
            host = known.pop(endpoint.id, None)
            if host is None:
                host = HostState(endpoint, self.slot(endpoint.id, slots), self.shared)
                host.strain = self.strain
                host.admin = AdminState.DRAIN if endpoint.draining else AdminState.READY
            elif host.endpoint != endpoint:
                if host.weight == host.endpoint.weight:  # not overridden by an operator
                    host.weight = endpoint.weight
                host.endpoint = endpoint
            hosts[endpoint.id] = host
        self.hosts = hosts
        for id_, host in known.items():
            self._forget(id_, host)
        self.leaving = {id_: host for id_, host in known.items() if host.in_flight > 0}
        self.version += 1

    def watch(self, endpoints: Iterable[Endpoint], policy: Outlier | None) -> None:
        """Count the failures in a row of these endpoints, or none of them any more."""
        for endpoint in endpoints:
            host = self.hosts[endpoint.id]
            if policy is None:
                host.monitor = None
            elif host.monitor is None or host.monitor.policy != policy:
                host.monitor = FailureMonitor(
                    host.id, host.slot, self.failures, policy, self._suspect
                )

    def slot(self, key: str, slots: Mapping[str, int] | None) -> int:
        """The board row of an endpoint or a cluster."""
        if slots is not None:
            return slots[key]
        self._next_slot += 1
        return self._next_slot - 1

    # What balancers remember.

    def memory(self, cluster: str) -> ClusterMemory:
        """Of a cluster, made on first use."""
        memory = self._memories.get(cluster)
        if memory is None:
            memory = self._memories[cluster] = ClusterMemory(self.affinity)
        return memory

    def look(self, now: float) -> None:
        """Forget what is too old to be heeded; to be called every second or so."""
        for host in self.hosts.values():
            load = host.load
            if load is not None and load.told and now > load.at + TOLD_FOR:
                self._hear(host, None)
        for memory in self._memories.values():
            memory.look(now)

    def forget_memories(self, clusters: Collection[str]) -> None:
        """Keep what is remembered of these clusters."""
        self._memories = {name: kept for name, kept in self._memories.items() if name in clusters}

    def _forget(self, id_: EndpointId, host: HostState) -> None:
        """It is gone, or down: whatever it held in its caches cannot be relied on any more."""
        memory = self._memories.get(host.endpoint.cluster)
        if memory is not None:
            memory.lost(id_)

    # What the control plane tells us of an endpoint. Unknown ids are ignored: the message may
    # have crossed a reload that removed the endpoint.

    def set_admin(self, id_: EndpointId, state: AdminState) -> None:
        if (host := self.hosts.get(id_)) is not None and host.admin is not state:
            host.admin = state
            self.version += 1

    def set_health(self, id_: EndpointId, healthy: bool) -> None:
        if (host := self.hosts.get(id_)) is not None and host.healthy is not healthy:
            host.healthy = healthy
            self.version += 1
            if not healthy:
                self._forget(id_, host)

    def set_ejected(self, id_: EndpointId, ejected: bool) -> None:
        if (host := self.hosts.get(id_)) is not None and host.ejected is not ejected:
            host.ejected = ejected
            self.version += 1

    def set_weight(self, id_: EndpointId, weight: int) -> None:
        """Raises ValueError if ``weight`` is less than 1."""
        if weight < 1:
            raise ValueError(f"weight must be at least 1, not {weight}")
        if (host := self.hosts.get(id_)) is not None and host.weight != weight:
            host.weight = weight
            self.version += 1

    def set_load(self, id_: EndpointId, load: LoadReport | None) -> None:
        """What its metrics page says, None: nothing fresh; an answer may have told since."""
        host = self.hosts.get(id_)
        if host is None or load == host.load:
            return
        known = host.load
        if known is not None and known.told and load is None:
            return
        if known is not None and load is not None and load.at < known.at:
            if not known.told:
                return
            # Answers tell of neither.
            more = {"capacity": load.capacity, "adapters": load.adapters}
            load = msgspec.structs.replace(known, **more)
            if load == known:
                return
        self._hear(host, load)

    def hear_load(self, id_: EndpointId, load: LoadReport) -> None:
        """What the head of an answer says."""
        if (host := self.hosts.get(id_)) is not None:
            self._hear(host, load)

    def _hear(self, host: HostState, load: LoadReport | None) -> None:
        host.load = load
        memory = self._memories.get(host.endpoint.cluster)
        if memory is not None:
            memory.reported(host.id, load)

    # What ends by itself.

    def push_back(self, host: HostState, until: float) -> None:
        """An endpoint wants no new request until then; the other workers are to know."""
        known = host.pushed_until
        if self._spare(host, until) and self._tell_pushed is not None and until > known + NEWS:
            self._tell_pushed(host.id, until)

    def set_pushed(self, id_: EndpointId, until: float) -> None:
        """Another worker was told so."""
        if (host := self.hosts.get(id_)) is not None:
            self._spare(host, until)

    def _spare(self, host: HostState, until: float) -> bool:
        if until <= host.pushed_until:
            return False
        self.strain.pushed_back(host, until)
        self.version += 1
        return True

    def pass_time(self, now: float) -> None:
        """End what is over. To be called before a pick from ``strain.due`` on."""
        if self.strain.pass_time(now):
            self.version += 1

    def prune(self) -> None:
        """Forget the hosts that left and have no lease any more."""
        self.leaving = {id_: host for id_, host in self.leaving.items() if host.in_flight > 0}

    def __repr__(self) -> str:
        return f"<Fleet {len(self.hosts)} hosts, {len(self.leaving)} leaving, v{self.version}>"


def _ignored(id_: EndpointId, detector: Detector) -> None:
    """Nobody asked for suspicions."""

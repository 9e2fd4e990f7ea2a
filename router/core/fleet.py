"""All hosts of the process, by id. Outlives every snapshot.

``reconcile`` is the only place where membership changes: endpoints that survive keep what was
learned of them, new ones start empty, and those that left are kept aside until their last lease
is released, so that an endpoint that comes back finds its own in-flight count.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from router.core.balancers.affinity import AffinityTable
from router.core.health.monitor import FailureMonitor, Suspicion, Words
from router.core.health.outlier import Detector, Outlier
from router.core.health.strain import Strain
from router.core.host import HostState, LoadReport, SharedLoad, SoleWorker
from router.core.model import AdminState, Endpoint, EndpointId
from router.core.trace import DecisionTrace

NEWS = 0.25
"""Seconds by which an endpoint must push its return back for the other workers to be told again."""


class HostSet:
    """The hosts of one cluster or subset, with the usable ones cached.

    The cache is valid for one ``Fleet.version``; whoever changes a host's state bumps it.
    """

    __slots__ = ("_fleet", "_panic_threshold", "_usable", "_version", "all", "panic")

    def __init__(self, fleet: "Fleet", hosts: Sequence[HostState], panic_threshold: float) -> None:
        self._fleet = fleet
        self._panic_threshold = panic_threshold
        self._version = -1
        self._usable: tuple[HostState, ...] = ()
        self.all = tuple(hosts)
        self.panic = False

    def usable(self) -> tuple[HostState, ...]:
        """Hosts that may take a new request: ready and healthy, or in panic every ready one.

        The same tuple object is returned until something changed, so that balancers may key
        their schedules on it.
        """
        if self._version != self._fleet.version:
            ready = tuple(h for h in self.all if h.admin is AdminState.READY)
            healthy = tuple(h for h in ready if h.healthy and not h.ejected)
            self.panic = len(healthy) < self._panic_threshold * len(ready)
            self._usable = unpushed(ready if self.panic else healthy)
            self._version = self._fleet.version
        return self._usable

    def explain(self, trace: DecisionTrace) -> None:
        """Tell the trace why hosts of this set are not among the usable ones."""
        usable = self.usable()
        for host in self.all:
            if host not in usable:
                trace.host_removed(host, _reason(host))

    def __repr__(self) -> str:
        return f"<HostSet {len(self.usable())}/{len(self.all)} usable panic={self.panic}>"


class Fleet:
    """``EndpointId -> HostState``.

    Args:
        shared: in-flight counts of the machine's other workers; alone by default.
        affinity: where conversations were sent; one of its own by default.
        failures: words in which failures in a row are counted; of this process by default.
        suspect: told when an endpoint has failed often enough in a row.
        tell_pushed: told when an endpoint pushed back, and until when (monotonic seconds).

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
    ) -> None:
        self.hosts: dict[EndpointId, HostState] = {}
        self.leaving: dict[EndpointId, HostState] = {}
        self.version = 0
        self.affinity = affinity if affinity is not None else AffinityTable.of_size(1 << 14)
        self.shared: SharedLoad = shared if shared is not None else SoleWorker()
        self.failures: Words = failures if failures is not None else defaultdict(int)
        self._suspect: Suspicion = suspect if suspect is not None else _ignored
        self._tell_pushed = tell_pushed
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
        if (host := self.hosts.get(id_)) is not None:
            host.load = load

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


def unpushed(hosts: tuple[HostState, ...]) -> tuple[HostState, ...]:
    """Those that did not push back; if all did, the one that wants requests again first."""
    free = tuple(host for host in hosts if not host.pushed_until)
    if free or not hosts:
        return free
    return (min(hosts, key=lambda host: host.pushed_until),)


def _reason(host: HostState) -> str:
    """Why a host takes no request."""
    if host.pushed_until and host.admin is AdminState.READY and host.healthy and not host.ejected:
        return "pushed back"
    if host.admin is not AdminState.READY:
        return host.admin.name.lower()
    return "ejected" if host.healthy else "unhealthy"


def _ignored(id_: EndpointId, detector: Detector) -> None:
    """Nobody asked for suspicions."""

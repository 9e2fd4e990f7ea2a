"""One cluster, or a subset of it, as the director serves it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from router.core.admission.places import Places
from router.core.balancers.base import Accounting, Accounts, Balancer, Keyed, LateBinding
from router.core.clock import Rng
from router.core.cluster import Cluster
from router.core.fleet import Fleet
from router.core.hostset import Group, GroupKey, HostSet
from router.core.model import LlmRequest
from router.core.session.sticky import Sticky

if TYPE_CHECKING:
    from router.core.exchange import Exchange

Subset = tuple[tuple[str, str], ...]
KeyReader = Callable[[LlmRequest], int | None]


class ClusterTraffic:
    """What one process keeps for one cluster, or for a subset of it, between requests.

    ``balancer`` serves all endpoints together; where they fall into groups, each has its own.
    ``accounts`` follow attempts for it; None where it does not learn from them. ``late`` is the
    balancer where it holds requests back, else None.
    ``sticky`` are its sessions, None without.
    ``high``: the places of requests of high priority, None where they have none of their own.
    ``limit``: attempts in flight from which one endpoint takes no more; 0: no such limit.
    """

    __slots__ = (
        "_by_group",
        "_key_of",
        "_memory",
        "accounts",
        "balancer",
        "cluster",
        "high",
        "hosts",
        "late",
        "limit",
        "places",
        "sticky",
        "subset",
    )

    def __init__(
        self,
        cluster: Cluster,
        subset: Subset,
        places: Places,
        fleet: Fleet,
        rng: Rng,
        high: Places | None = None,
    ) -> None:
        self.cluster = cluster
        self.subset = subset
        self.places = places
        self.high = high
        self.limit = _endpoint_limit(cluster)
        self.hosts = _host_set(cluster, subset, fleet)
        self._memory = fleet.memory(cluster.name)
        self.balancer = cluster.balancer.build(rng, self._memory)
        self._key_of = _key_reader(self.balancer)
        self.accounts = _accounts(self.balancer)
        self.late = _late(self.balancer)
        self._by_group: dict[GroupKey, Balancer] = {}
        self.sticky = _sticky(cluster, subset, fleet, places)

    def group(self, request: LlmRequest, rng: Rng) -> Group:
        """Where the request goes if the hosts are in groups; the group may be empty."""
        key_of = self._key_of
        return self.hosts.draw(None if key_of is None else key_of(request), rng)

    def balancer_of(self, group: Group, rng: Rng) -> Balancer:
        """The balancer of one group, made on first use: balancers key schedules on their hosts."""
        balancer = self._by_group.get(group.key)
        if balancer is None:
            balancer = self.cluster.balancer.build(rng, self._memory)
            self._by_group[group.key] = balancer
        return balancer

    def places_for(self, request: LlmRequest) -> Places:
        return self.places if self.high is None or request.priority <= 0 else self.high

    def has_room(self) -> bool:
        """Whether an endpoint takes one more; also where there is none, for that is no queue's
        matter."""
        limit, hosts = self.limit, self.hosts.usable()
        if not limit or not hosts:
            return True
        for host in hosts:  # noqa: SIM110 - asked of every request: no generator
            if host.active < limit:
                return True
        return False

    def slack(self, now: float) -> bool:
        """Whether any of those that are held back could be sent now."""
        hosts = self.hosts.usable()
        return self.late is None or not hosts or self.late.slack(hosts, now)

    def held_up(self, exchange: "Exchange", now: float) -> float | None:
        """Seconds of the request's own work, if it should not be sent yet; None: it may be."""
        hosts = self.hosts.usable()
        if self.late is None or not hosts:
            return None
        return self.late.held_up(exchange.request, hosts, exchange.director.rng, now)

    def refusing(self) -> int:
        """The limit on requests that every endpoint is at; 0: not every one is."""
        limits = self.cluster.breaker.per_endpoint
        bound = None if limits is None else limits.max_requests
        if bound is None or any(host.active < bound for host in self.hosts.usable()):
            return 0
        return bound

    def retarget(self, cluster: Cluster, fleet: Fleet, rng: Rng) -> None:
        """Follow a reload; the balancer starts anew only if its configuration changed."""
        if cluster.balancer != self.cluster.balancer:
            self.balancer = cluster.balancer.build(rng, self._memory)
            self._key_of = _key_reader(self.balancer)
            self.accounts = _accounts(self.balancer)
            self.late = _late(self.balancer)
            self._by_group.clear()
        if cluster.session != self.cluster.session:
            self.sticky = _sticky(cluster, self.subset, fleet, self.places)
        self.cluster = cluster
        self.limit = _endpoint_limit(cluster)
        self.hosts = _host_set(cluster, self.subset, fleet)

    def __repr__(self) -> str:
        return f"<ClusterTraffic {self.cluster.name} {self.hosts!r} {self.places!r}>"


def _key_reader(balancer: Balancer) -> KeyReader | None:
    """What the balancer places a request by; None where it goes by chance or load."""
    # Asked once: isinstance of a protocol costs more than all the rest of a pick.
    return balancer.key_of if isinstance(balancer, Keyed) else None


def _accounts(balancer: Balancer) -> Accounts | None:
    return balancer.accounts if isinstance(balancer, Accounting) else None


def _late(balancer: Balancer) -> LateBinding | None:
    return balancer if isinstance(balancer, LateBinding) and balancer.hold_above > 0 else None


def _sticky(cluster: Cluster, subset: Subset, fleet: Fleet, places: Places) -> Sticky | None:
    if cluster.session is None:
        return None
    return Sticky(cluster.session, f"{cluster.name}{subset}", fleet.sessions, places.sessions)


def _endpoint_limit(cluster: Cluster) -> int:
    limits = cluster.breaker.per_endpoint
    return 0 if limits is None else limits.lowest


def _host_set(cluster: Cluster, subset: Subset, fleet: Fleet) -> HostSet:
    wanted = [
        fleet.hosts[endpoint.id]
        for endpoint in cluster.endpoints
        if all(endpoint.labels.get(name) == value for name, value in subset)
    ]
    return HostSet(fleet, wanted, cluster)

"""The endpoints in an explanation: which may be used, in which groups, and why not the others."""

from typing import TYPE_CHECKING

from router.core.balancers.base import Explaining, Scores
from router.core.exchange import Exchange
from router.core.explanation import Candidate, LevelSeen, LoadSeen, SessionSeen
from router.core.host import HostState
from router.core.hostset import HostSet
from router.core.model import Endpoint
from router.core.trace import RecordingTrace
from router.core.traffic import ClusterTraffic

if TYPE_CHECKING:
    from router.core.explain import Known, World


def candidates(exchange: Exchange, world: "World") -> tuple[tuple[Candidate, ...], Scores]:
    traffic = exchange.traffic
    if traffic is None:
        return (), Scores()
    usable = traffic.hosts.usable()
    removed = RecordingTrace()
    traffic.hosts.explain(removed)
    reasons = dict(removed.removed)
    scores = Scores()
    if usable and not traffic.hosts.layered and isinstance(traffic.balancer, Explaining):
        scores = traffic.balancer.explain(exchange.request, usable)
    elif usable:
        scores = _grouped(exchange, traffic)
    hosts = exchange.director.fleet.hosts
    found = []
    for endpoint in traffic.cluster.endpoints:
        host = hosts[endpoint.id]
        known = world.known.get(endpoint.id)
        reason = _outside(endpoint, traffic) or reasons.get(endpoint.id) or _full(host, traffic)
        found.append(
            Candidate(
                endpoint=endpoint.id,
                removed=reason,
                labels=dict(endpoint.labels),
                priority=endpoint.priority,
                locality=str(endpoint.locality),
                weight=host.weight,
                in_flight=host.active,
                load=_load(known, world.now),
                scores=scores.hosts.get(endpoint.id, {}),
            )
        )
    return tuple(found), scores


def _grouped(exchange: Exchange, traffic: ClusterTraffic) -> Scores:
    """What each group's own balancer says."""
    director = exchange.director
    found = Scores()
    for group in traffic.hosts.groups():
        balancer = traffic.balancer_of(group, director.rng)
        if group.hosts and isinstance(balancer, Explaining):
            one = balancer.explain(exchange.request, group.hosts)
            found = Scores(notes={**one.notes, **found.notes}, hosts={**found.hosts, **one.hosts})
    return found


def session_of(exchange: Exchange, now: float) -> SessionSeen | None:
    """The request's session, before it is sent anywhere."""
    traffic = exchange.traffic
    if traffic is None or traffic.sticky is None:
        return None
    known, host = traffic.sticky.remembered(exchange.request, traffic.hosts, now)
    policy = traffic.sticky.policy
    return SessionSeen(
        type=policy.kind,
        name=policy.name,
        known=known,
        remembered=None if host is None else host.id,
    )


def levels(hosts: HostSet) -> tuple[LevelSeen, ...]:
    if not hosts.layered:
        return ()
    found = []
    for level in hosts.levels:
        total = sum(group.weight for group in level.localities)
        found.append(
            LevelSeen(
                priority=level.priority,
                wanted=level.census.wanted,
                healthy=level.census.healthy,
                free=level.census.free,
                load=level.load,
                panic=level.panic,
                localities={group.key[1]: group.weight / total for group in level.localities},
            )
        )
    return tuple(found)


def _outside(endpoint: Endpoint, traffic: ClusterTraffic) -> str | None:
    lacking = [
        f"{name}={value}" for name, value in traffic.subset if endpoint.labels.get(name) != value
    ]
    return f"not in the subset: lacks {', '.join(lacking)}" if lacking else None


def _full(host: HostState, traffic: ClusterTraffic) -> str | None:
    if not traffic.limit or host.active < traffic.limit:
        return None
    return f"full: {host.active} of {traffic.limit} in flight"


def _load(known: "Known | None", now: float) -> LoadSeen | None:
    load = None if known is None else known.load
    if known is None or load is None:
        return None
    return LoadSeen(
        running=load.running,
        waiting=load.waiting,
        kv_usage=load.kv_usage,
        age=round(max(0.0, now - load.at), 3),
        fresh=known.load_fresh,
    )

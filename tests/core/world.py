"""A small world for tests of the core: clusters, requests and a hand clock."""

import random
from typing import Any

from router.core.admission.breaker import CircuitBreaker
from router.core.balancers.base import BalancerSpec
from router.core.balancers.round_robin import RoundRobin
from router.core.clock import HandClock
from router.core.cluster import Cluster
from router.core.director import Director
from router.core.events import START, Effect, Event
from router.core.exchange import Exchange
from router.core.fallback import Fallback
from router.core.fault import Fault
from router.core.fleet import Fleet
from router.core.host import HostState
from router.core.mirror import Mirror
from router.core.model import Endpoint, EndpointId, LlmRequest
from router.core.retry.hedge import Hedge
from router.core.retry.policy import RetryPolicy
from router.core.routing import Destination, Matcher, Route, RouteTable, Timeouts
from router.core.shared_load import SoleWorker
from router.core.snapshot import Snapshot


def endpoint(name: str, cluster: str = "c", **fields: Any) -> Endpoint:
    return Endpoint(
        id=EndpointId(f"{cluster}/{name}:80"), cluster=cluster, host=name, port=80, **fields
    )


def hosts(*weights: int) -> tuple[HostState, ...]:
    shared = SoleWorker()
    return tuple(
        HostState(endpoint(f"h{index}", weight=weight), index, shared)
        for index, weight in enumerate(weights)
    )


def request(**fields: Any) -> LlmRequest:
    defaults: dict[str, Any] = {"id": "r", "method": "POST", "path": "/v1/chat/completions"}
    return LlmRequest(**(defaults | fields))


def snapshot(
    size: int = 3,
    *,
    balancer: BalancerSpec | None = None,
    breaker: CircuitBreaker | None = None,
    retry: RetryPolicy | None = None,
    timeouts: Timeouts | None = None,
    fault: Fault | None = None,
    fallbacks: tuple[Fallback, ...] = (),
    spares: tuple[Cluster, ...] = (),
    hedge: Hedge | None = None,
    mirrors: tuple[Mirror, ...] = (),
    generation: int = 1,
    **cluster_fields: Any,
) -> Snapshot:
    cluster = Cluster(
        name="c",
        endpoints=tuple(endpoint(f"h{index}") for index in range(size)),
        balancer=balancer or RoundRobin.Spec(),
        breaker=breaker or CircuitBreaker(),
        **cluster_fields,
    )
    route = Route(
        name="all",
        match=Matcher(),
        destinations=(Destination("c"),),
        retry=retry or RetryPolicy(),
        timeouts=timeouts or Timeouts(),
        fault=fault,
        hedge=hedge,
        fallbacks=fallbacks,
        mirrors=mirrors,
    )
    clusters = {one.name: one for one in (cluster, *spares)}
    return Snapshot(generation=generation, clusters=clusters, routes=RouteTable([route]))


def spare(name: str, size: int = 1, **fields: Any) -> Cluster:
    """A further cluster, to go where the first one cannot serve."""
    return Cluster(
        name=name,
        endpoints=tuple(endpoint(f"{name}{index}", name) for index in range(size)),
        balancer=RoundRobin.Spec(),
        **fields,
    )


class World:
    """A director, its fleet and a clock; every ``feed`` lets a millisecond pass."""

    def __init__(self, snapshot_: Snapshot, seed: int = 1) -> None:
        self.clock = HandClock()
        self.fleet = Fleet()
        self.director = Director(snapshot_, self.fleet, random.Random(seed))

    def begin(self, **fields: Any) -> tuple[Exchange, Effect]:
        exchange = self.director.begin(request(**fields), self.clock.now())
        return exchange, self.feed(exchange, START)

    def feed(self, exchange: Exchange, event: Event) -> Effect:
        return exchange.feed(event, self.clock.advance(0.001))

    def host(self, index: int) -> HostState:
        return self.fleet.hosts[EndpointId(f"c/h{index}:80")]

    def in_flight(self) -> list[int]:
        return [host.in_flight for host in self.fleet.hosts.values()]

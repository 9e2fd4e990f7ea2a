"""What types cannot say: names that must exist, addresses that must differ, patterns that must
compile. Works on ``Config`` alone, so that a configuration from anywhere can be checked.
"""

import ipaddress
from collections.abc import Iterator, Sequence

from router.config import queueing
from router.config.access_references import access_problems, admin_problems
from router.config.clusters import ClusterSpec, EndpointSpec
from router.config.engines import ENGINES
from router.config.findings import Path, Problem
from router.config.gossip import gossip_problems
from router.config.kv_events import kv_event_problems
from router.config.limits import RedisSpec, limit_problems, redis_problems
from router.config.locality import place_problems, rules_problems
from router.config.route_references import duplicates, route_problems
from router.config.schema import Config
from router.config.scorer_references import scorer_problems
from router.config.tls_files import tls_problems
from router.config.units import Address
from router.core.balancers.predicted_ttft import PredictedTtft

MAX_ENDPOINTS = 65_000
"""Rows of the shared board that one machine's workers count in."""


def problems(config: Config) -> list[Problem]:
    """Everything that keeps this configuration from being used."""
    return [
        *_listeners(config),
        *address_clashes(config),
        *_sources(config),
        *redis_problems(config.redis),
        *gossip_problems(config),
        *admin_problems(config),
        *tls_problems(config),
        *snapshot_problems(config),
    ]


def snapshot_problems(config: Config) -> list[Problem]:
    """The part that concerns workers: what keeps the snapshot from being built."""
    return [*_clusters(config), *route_problems(config), *access_problems(config)]


def loopback(address: Address) -> bool:
    """Whether only this machine can reach it."""
    if address.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False


def _listeners(config: Config) -> Iterator[Problem]:
    yield from duplicates(
        [spec.name for spec in config.listeners], "listener", ("listeners",), "name"
    )
    admin = config.admin
    if admin is not None and not admin.guarded and not loopback(admin.address):
        yield Problem(
            ("admin", "address"),
            f"the admin API on {admin.address} can be reached from elsewhere: "
            "it needs a token (admin.token), or client certificates (admin.tls.client_ca)",
        )


def address_clashes(config: Config) -> Iterator[Problem]:
    """Places where the router would listen twice."""
    places: list[tuple[Path, str, Address]] = [
        (("listeners", index, "address"), "a listener", spec.address)
        for index, spec in enumerate(config.listeners)
    ]
    if config.admin is not None:
        places.append((("admin", "address"), "admin", config.admin.address))
    if config.metrics is not None:
        places.append((("metrics", "address"), "metrics", config.metrics.address))
    for index, (path, _, address) in enumerate(places):
        for _, owner, other in places[:index]:
            if address.port == other.port != 0 and _overlap(address.host, other.host):
                at = "" if address == other else f" at {other}"
                yield Problem(path, f"{address} is taken by {owner}{at} already")
                break


def _overlap(one: str, other: str) -> bool:
    """Whether sockets at these hosts cannot have the same port: `::` takes IPv4 too."""
    if one == other or "::" in (one, other):
        return True
    return "0.0.0.0" in (one, other) and ":" not in one + other


def _sources(config: Config) -> Iterator[Problem]:
    """A cluster's endpoints come from one place; what was discovered then stands in the same field,
    so this holds for what is written alone."""
    for index, cluster in enumerate(config.clusters):
        path: Path = ("clusters", index)
        if cluster.discovery is None and not cluster.endpoints:
            yield Problem((*path, "endpoints"), "at least 1 is needed here, or a discovery")
        if cluster.discovery is not None and cluster.endpoints:
            yield Problem((*path, "discovery"), "endpoints and discovery together: give one")
        if cluster.discovery is not None:
            for field, message in cluster.discovery.faults():
                yield Problem((*path, "discovery", field), message)


def _clusters(config: Config) -> Iterator[Problem]:
    yield from duplicates([spec.name for spec in config.clusters], "cluster", ("clusters",), "name")
    if sum(len(spec.endpoints) for spec in config.clusters) > MAX_ENDPOINTS:
        yield Problem(("clusters",), f"at most {MAX_ENDPOINTS} endpoints in all")
    yield from place_problems(config.locality, ("locality",))
    for index, cluster in enumerate(config.clusters):
        yield from _cluster(cluster, config.redis, ("clusters", index))
        yield from rules_problems(
            cluster.localities, config.locality, ("clusters", index, "localities")
        )


def _cluster(cluster: ClusterSpec, redis: RedisSpec | None, path: Path) -> Iterator[Problem]:
    yield from endpoint_problems(cluster.endpoints, path)
    if "/" in cluster.name:
        yield Problem((*path, "name"), "a cluster's name cannot hold '/'")
    yield from limit_problems(cluster.limits, path, redis)
    yield from queueing.problems(cluster.circuit_breaker, cluster.queue, path)
    balancer = cluster.balancer
    yield from kv_event_problems(cluster.kv_events, balancer, path)
    holds = isinstance(balancer, PredictedTtft.Spec) and balancer.hold_above > 0
    if holds and cluster.session is not None:
        yield Problem(
            (*path, "balancer", "hold_above"),
            "a session goes to its endpoint, however busy that is: it cannot be held; use one or "
            "the other",
        )
    active = cluster.health.active
    if active is not None and active.expected != tuple(sorted(active.expected)):
        yield Problem(
            (*path, "health", "active", "expected"), "the range goes from the lower to the higher"
        )
    pushing = cluster.back_pressure
    if pushing is not None and pushing.min > pushing.max:
        yield Problem(
            (*path, "back_pressure", "min"), f"must not be longer than max ({pushing.max})"
        )
    yield from scorer_problems(cluster, path)
    scrape = cluster.scrape
    if scrape is not None and scrape.stale_after < scrape.interval:
        yield Problem(
            (*path, "scrape", "stale_after"),
            "must not be shorter than the interval, or every report is stale",
        )
    if scrape is not None and scrape.path is not None and ENGINES[cluster.engine].metrics is None:
        yield Problem(
            (*path, "scrape", "path"),
            f"engine {cluster.engine!r} publishes nothing from which its load could be read",
        )


def endpoint_problems(endpoints: Sequence[EndpointSpec], path: Path) -> Iterator[Problem]:
    """What is wrong with the field ``endpoints`` of the part at ``path``."""
    addresses = [endpoint.address for endpoint in endpoints]
    yield from duplicates(addresses, "endpoint", (*path, "endpoints"), "address")
    for index, endpoint in enumerate(endpoints):
        yield from place_problems(endpoint.locality, (*path, "endpoints", index, "locality"))
    for index, address in enumerate(addresses):
        if not address.port:
            yield Problem(
                (*path, "endpoints", index, "address"), f"an endpoint's port cannot be 0: {address}"
            )

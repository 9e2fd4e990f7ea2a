"""What types cannot say: names that must exist, addresses that must differ, patterns that must
compile. Works on ``Config`` alone, so that a configuration from anywhere can be checked.
"""

import ipaddress
import re
from collections.abc import Iterator, Sequence

from router.config.findings import Path, Problem, closest
from router.config.schema import ClusterSpec, Config, EndpointSpec, RouteSpec, StringCondition
from router.config.units import Address
from router.core.routing import StringKind

KINDS: tuple[StringKind, ...] = ("exact", "prefix", "suffix", "contains", "regex", "present")
MAX_ENDPOINTS = 65_000
"""Rows of the shared board that one machine's workers count in."""


SHORTEST_FILL = 0.05
"""Seconds; Envoy's bound."""


def problems(config: Config) -> list[Problem]:
    """Everything that keeps this configuration from being used."""
    return [*_addresses(config), *_sources(config), *snapshot_problems(config)]


def snapshot_problems(config: Config) -> list[Problem]:
    """The part that concerns workers: what keeps the snapshot from being built."""
    return [*_clusters(config), *_routes(config)]


def _duplicates(names: Sequence[str], what: str, path: Path, *tail: str) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in first:
            yield Problem((*path, index, *tail), f"duplicate {what} {name!r}")
        first.setdefault(name, index)


def loopback(address: Address) -> bool:
    """Whether only this machine can reach it."""
    if address.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False


def _addresses(config: Config) -> Iterator[Problem]:
    yield from _duplicates(
        [spec.name for spec in config.listeners], "listener", ("listeners",), "name"
    )
    taken: dict[str, str] = {}
    places: list[tuple[Path, Address]] = [
        (("listeners", index, "address"), spec.address)
        for index, spec in enumerate(config.listeners)
    ]
    if config.admin is not None:
        places.append((("admin", "address"), config.admin.address))
        if config.admin.token is None and not loopback(config.admin.address):
            yield Problem(
                ("admin", "address"),
                f"the admin API on {config.admin.address} can be reached from elsewhere: "
                "it needs a token (admin.token)",
            )
    if config.metrics is not None:
        places.append((("metrics", "address"), config.metrics.address))
    for path, address in places:
        what = (
            "admin" if path[0] == "admin" else "metrics" if path[0] == "metrics" else "a listener"
        )
        if address.port and address in taken:
            yield Problem(path, f"{address} is taken by {taken[address]} already")
        taken.setdefault(address, what)


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
    yield from _duplicates(
        [spec.name for spec in config.clusters], "cluster", ("clusters",), "name"
    )
    if sum(len(spec.endpoints) for spec in config.clusters) > MAX_ENDPOINTS:
        yield Problem(("clusters",), f"at most {MAX_ENDPOINTS} endpoints in all")
    for index, cluster in enumerate(config.clusters):
        yield from _cluster(cluster, ("clusters", index))


def _cluster(cluster: ClusterSpec, path: Path) -> Iterator[Problem]:
    yield from endpoint_problems(cluster.endpoints, path)
    if "/" in cluster.name:
        yield Problem((*path, "name"), "a cluster's name cannot hold '/'")
    active = cluster.health.active
    if active is not None and active.expected != tuple(sorted(active.expected)):
        yield Problem(
            (*path, "health", "active", "expected"), "the range goes from the lower to the higher"
        )
    scrape = cluster.scrape
    if scrape is not None and scrape.stale_after < scrape.interval:
        yield Problem(
            (*path, "scrape", "stale_after"),
            "must not be shorter than the interval, or every report is stale",
        )


def endpoint_problems(endpoints: Sequence[EndpointSpec], path: Path) -> Iterator[Problem]:
    """What is wrong with the field ``endpoints`` of the part at ``path``."""
    addresses = [endpoint.address for endpoint in endpoints]
    yield from _duplicates(addresses, "endpoint", (*path, "endpoints"), "address")
    for index, address in enumerate(addresses):
        if not address.port:
            yield Problem(
                (*path, "endpoints", index, "address"), f"an endpoint's port cannot be 0: {address}"
            )


def _routes(config: Config) -> Iterator[Problem]:
    yield from _duplicates([spec.name for spec in config.routes], "route", ("routes",), "name")
    clusters = {cluster.name: cluster for cluster in config.clusters}
    for index, route in enumerate(config.routes):
        path: Path = ("routes", index)
        yield from _destinations(route, clusters, path)
        yield from _conditions(route, path)
        yield from _retry(route, path)
        for number, limit in enumerate(route.limits):
            if limit.fill_interval < SHORTEST_FILL:
                yield Problem(
                    (*path, "limits", number, "fill_interval"),
                    f"must be at least 50ms, not {limit.fill_interval}",
                )


def _destinations(
    route: RouteSpec, clusters: dict[str, ClusterSpec], path: Path
) -> Iterator[Problem]:
    for index, arm in enumerate(route.to):
        here: Path = (*path, "to", index)
        cluster = clusters.get(arm.cluster)
        if cluster is None:
            yield Problem(
                (*here, "cluster"),
                f"no cluster is named {arm.cluster!r}",
                closest(arm.cluster, list(clusters)),
            )
        elif cluster.discovery is None and not any(
            all(endpoint.labels.get(name) == value for name, value in arm.subset.items())
            for endpoint in cluster.endpoints
        ):
            labels = ", ".join(f"{name}={value}" for name, value in arm.subset.items())
            yield Problem(
                (*here, "subset"), f"no endpoint of cluster {arm.cluster!r} has the labels {labels}"
            )


def _retry(route: RouteSpec, path: Path) -> Iterator[Problem]:
    causes = route.retry.on if route.retry is not None else ()
    if "retriable-status-codes" in causes and not any(isinstance(c, int) for c in causes):
        yield Problem(
            (*path, "retry", "on", causes.index("retriable-status-codes")),
            "no status code is given; write the codes themselves: [429, 503]",
        )


def _conditions(route: RouteSpec, path: Path) -> Iterator[Problem]:
    if route.match.path is not None:
        yield from _condition(route.match.path, (*path, "match", "path"))
    seen: set[str] = set()
    for name, condition in route.match.headers.items():
        here: Path = (*path, "match", "headers", name)
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            yield Problem(here, f"not a header name: {name!r}", at_key=True)
        if name.lower() in seen:
            yield Problem(here, f"duplicate header {name.lower()!r}", at_key=True)
        seen.add(name.lower())
        yield from _condition(condition, here)


def _condition(condition: StringCondition, path: Path) -> Iterator[Problem]:
    given = [kind for kind in KINDS if getattr(condition, kind) is not None]
    if len(given) != 1:
        what = "no condition" if not given else f"{' and '.join(given)} together"
        yield Problem(path, f"{what}: give exactly one of {', '.join(KINDS)}")
    if condition.regex is not None:
        try:
            re.compile(condition.regex)
        except (re.error, RecursionError, OverflowError) as error:
            yield Problem((*path, "regex"), f"not a regular expression: {error}")

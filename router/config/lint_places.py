"""Lint rules about priorities, localities and sessions."""

from collections.abc import Iterator

from router.config.clusters import ClusterSpec
from router.config.findings import Problem
from router.config.locality import locality
from router.config.schema import Config
from router.config.session import CookieSession


def nobody_notices_a_failure(config: Config) -> Iterator[Problem]:
    for index, cluster in enumerate(config.clusters):
        watched = cluster.health.active is not None or cluster.health.outlier is not None
        if not watched and _has_levels(cluster):
            yield Problem(
                ("clusters", index, "health"),
                f"nothing tells that endpoints of {cluster.name!r} are down: those of the first "
                "priority get everything",
            )


def _has_levels(cluster: ClusterSpec) -> bool:
    rules = cluster.localities
    derived = rules is not None and (rules.nearest or rules.failover or rules.failover_priority)
    return bool(derived) or len({endpoint.priority for endpoint in cluster.endpoints}) > 1


def endpoint_without_a_weight(config: Config) -> Iterator[Problem]:
    for index, cluster in enumerate(config.clusters):
        rules = cluster.localities
        if rules is None or not rules.weights:
            continue
        for number, endpoint in enumerate(cluster.endpoints):
            place = f"{locality(endpoint.locality)}"
            if not any(f"{place}/".startswith(f"{name}/") for name in rules.weights):
                where = f"{place} has no weight" if place else "it has no locality"
                yield Problem(
                    ("clusters", index, "endpoints", number),
                    f"{endpoint.address} gets nothing: {where} in localities.weights",
                )


def one_cookie_for_two_clusters(config: Config) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for index, cluster in enumerate(config.clusters):
        if not isinstance(cluster.session, CookieSession):
            continue
        name = cluster.session.name
        if name in first:
            yield Problem(
                ("clusters", index, "session"),
                f"the cookie {name!r} is that of {first[name]!r} too: a client of both loses its "
                "session with each change between them",
            )
        first.setdefault(name, cluster.name)


def nobody_in_the_region(config: Config) -> Iterator[Problem]:
    for index, cluster in enumerate(config.clusters):
        rules = cluster.localities
        if rules is None or cluster.discovery is not None:
            continue
        there = {locality(endpoint.locality).region for endpoint in cluster.endpoints}
        for region, other in rules.failover.items():
            if other not in there:
                yield Problem(
                    ("clusters", index, "localities", "failover", region),
                    f"no endpoint of {cluster.name!r} is in {other!r}, which is to stand in",
                )

"""Lint rules about clusters: who uses them, and how many may fail."""

from collections.abc import Iterator

from router.config.clusters import ClusterSpec
from router.config.findings import Path, Problem
from router.config.schema import Config
from router.core.levels import Census, shares
from router.core.matching import Matcher

FEW_PLACES = 64
"""Requests in flight; a burst of clients is larger than this with ease."""


def unused_cluster(config: Config) -> Iterator[Problem]:
    used = {arm.cluster for route in config.routes for arm in route.targets()}
    for index, cluster in enumerate(config.clusters):
        if cluster.name not in used:
            yield Problem(("clusters", index), f"no route goes to cluster {cluster.name!r}")


def model_without_a_route(config: Config) -> Iterator[Problem]:
    wanted = [Matcher(model=route.match.model) for route in config.routes]
    for index, cluster in enumerate(config.clusters):
        for number, model in enumerate(cluster.models):
            if not any(matcher.takes_model(model) for matcher in wanted):
                yield Problem(
                    ("clusters", index, "models", number),
                    f"model {model!r} is listed to clients, but no route takes it",
                )


def one_failure_is_panic(config: Config) -> Iterator[Problem]:
    for index, cluster in enumerate(config.clusters):
        count = len(cluster.endpoints)
        if count < 2 or len({endpoint.priority for endpoint in cluster.endpoints}) > 1:
            continue  # lower priorities make up for what is missing
        one_down = Census(count, count - 1, count - 1)
        if shares([one_down], cluster.health.panic_threshold).panic[0]:
            yield Problem(
                ("clusters", index, "health", "panic_threshold"),
                f"with {count} endpoints, one that is unhealthy is panic already, and gets "
                "requests as if it were healthy",
            )


def no_queue(config: Config) -> Iterator[Problem]:
    for index, cluster in enumerate(config.clusters):
        breaker = cluster.circuit_breaker
        if not breaker.max_pending and breaker.max_connections < FEW_PLACES:
            yield Problem(
                ("clusters", index, "circuit_breaker", "max_pending"),
                f"request {breaker.max_connections + 1} at one time is refused: nobody may wait "
                f"for one of {breaker.max_connections} places",
            )


def places_never_reached(config: Config) -> Iterator[Problem]:
    for index, cluster in enumerate(config.clusters):
        breaker = cluster.circuit_breaker
        if breaker.max_requests < breaker.max_connections:
            yield Problem(
                ("clusters", index, "circuit_breaker", "max_requests"),
                f"max_requests ({breaker.max_requests}) refuses before max_connections "
                f"({breaker.max_connections}) makes anybody wait: the queue is never used",
            )


def interval_below_timeout(config: Config) -> Iterator[Problem]:
    for index, cluster in enumerate(config.clusters):
        here: Path = ("clusters", index)
        active, scrape = cluster.health.active, cluster.scrape
        for what, part, path in (
            ("a health check", active, (*here, "health", "active", "interval")),
            ("a scrape", scrape, (*here, "scrape", "interval")),
        ):
            if part is not None and part.interval < part.timeout:
                yield Problem(
                    path,
                    f"{what} is due every {part.interval} and may take {part.timeout}: slow "
                    "engines are asked less often than written here",
                )


def no_health_check(config: Config) -> Iterator[Problem]:
    for index, cluster in enumerate(config.clusters):
        many = len(cluster.endpoints) > 1 or cluster.discovery is not None
        if cluster.health.active is None and many:
            yield Problem(
                ("clusters", index, "health", "active"),
                f"cluster {cluster.name!r} has no health checks: an endpoint that hangs is found "
                "by the requests that it fails",
            )


def shared_endpoint(config: Config) -> Iterator[Problem]:
    for index, cluster in enumerate(config.clusters):
        for number, endpoint in enumerate(cluster.endpoints):
            for other in config.clusters[:index]:
                if _alike(cluster, other) and any(
                    endpoint.address == one.address for one in other.endpoints
                ):
                    yield Problem(
                        ("clusters", index, "endpoints", number),
                        f"{endpoint.address} is in cluster {other.name!r} too: neither sees the "
                        "load that the other puts on it",
                    )


def _alike(one: ClusterSpec, other: ClusterSpec) -> bool:
    return bool(set(one.models) & set(other.models)) or not (one.models or other.models)


def unused_labels(config: Config) -> Iterator[Problem]:
    used = {
        (arm.cluster, name)
        for route in config.routes
        for arm in route.targets()
        for name in arm.subset
    }
    for index, cluster in enumerate(config.clusters):
        told: set[str] = set()
        for number, endpoint in enumerate(cluster.endpoints):
            for name in endpoint.labels:
                if (cluster.name, name) not in used and name not in told:
                    told.add(name)
                    yield Problem(
                        ("clusters", index, "endpoints", number, "labels", name),
                        f"no route selects endpoints of {cluster.name!r} by the label {name!r}",
                        at_key=True,
                    )

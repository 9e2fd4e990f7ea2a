"""What the types of routes cannot say: clusters that must exist, limits that must make sense."""

from collections.abc import Iterator, Sequence

from router.config import build_fault
from router.config.action_references import action_problems, common_problems
from router.config.build_hedge import hedge_problems
from router.config.clusters import ClusterSpec
from router.config.findings import Path, Problem, closest
from router.config.limits import limit_problems
from router.config.match_references import condition_problems, term_problems
from router.config.retry_references import retry_problems
from router.config.routes import RouteSpec, Target
from router.config.schema import Config


def duplicates(names: Sequence[str], what: str, path: Path, *tail: str) -> Iterator[Problem]:
    """One problem for each name that stood before."""
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in first:
            yield Problem((*path, index, *tail), f"duplicate {what} {name!r}")
        first.setdefault(name, index)


def route_problems(config: Config) -> Iterator[Problem]:
    yield from term_problems(config)
    yield from common_problems(config)
    yield from duplicates([spec.name for spec in config.routes], "route", ("routes",), "name")
    clusters = {cluster.name: cluster for cluster in config.clusters}
    for index, route in enumerate(config.routes):
        path: Path = ("routes", index)
        yield from _destinations(route, clusters, path)
        yield from action_problems(route, path)
        yield from condition_problems(config, route.match, (*path, "match"))
        yield from retry_problems(route.retry, (*path, "retry"))
        yield from hedge_problems(route, (*path, "hedge"))
        yield from limit_problems(route.limits, path, config.redis)
        if route.fault is not None:
            yield from build_fault.problems(route.fault, (*path, "fault"))


def _destinations(
    route: RouteSpec, clusters: dict[str, ClusterSpec], path: Path
) -> Iterator[Problem]:
    targets: tuple[tuple[str, Sequence[Target]], ...]
    targets = (("to", route.to), ("fallbacks", route.fallbacks), ("mirror", route.mirror))
    for field, arms in targets:
        for index, arm in enumerate(arms):
            yield from _destination(arm, clusters, (*path, field, index))


def _destination(arm: Target, clusters: dict[str, ClusterSpec], here: Path) -> Iterator[Problem]:
    cluster = clusters.get(arm.cluster)
    if cluster is None:
        yield Problem(
            (*here, "cluster"),
            f"no cluster is named {arm.cluster!r}",
            closest(arm.cluster, list(clusters)),
        )
    elif (
        arm.subset
        and cluster.discovery is None
        and not any(
            all(endpoint.labels.get(name) == value for name, value in arm.subset.items())
            for endpoint in cluster.endpoints
        )
    ):
        labels = ", ".join(f"{name}={value}" for name, value in arm.subset.items())
        yield Problem(
            (*here, "subset"), f"no endpoint of cluster {arm.cluster!r} has the labels {labels}"
        )

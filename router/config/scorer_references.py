"""Whether what a cluster's scorers look at is there to be looked at."""

from collections.abc import Iterator

from router.config.clusters import ClusterSpec
from router.config.engines import ENGINES
from router.config.findings import Path, Problem
from router.core.balancers.scored import Scored


def scorer_problems(cluster: ClusterSpec, path: Path) -> Iterator[Problem]:
    """A scorer without its figures would score every endpoint alike and never say why."""
    if not isinstance(cluster.balancer, Scored.Spec):
        return
    for index, scorer in enumerate(cluster.balancer.scorers):
        name = scorer.__struct_config__.tag
        if scorer.reads is None:
            continue
        if scorer.reads not in ENGINES[cluster.engine].tells:
            problem = f"scorer {name!r} needs to know {scorer.reads}, which engine "
            problem += f"{cluster.engine!r} does not tell"
        elif cluster.scrape is None:
            problem = f"scorer {name!r} looks at the engines' metrics, and scrape is off"
        else:
            continue
        yield Problem((*path, "balancer", "scorers", index), problem)

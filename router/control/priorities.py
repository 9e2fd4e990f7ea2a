"""How control sees a cluster's priority levels: by the workers' own arithmetic."""

from collections.abc import Iterable, Mapping
from typing import Any

from router.control.roster import Standing
from router.core.cluster import Cluster
from router.core.levels import Census, shares
from router.core.model import AdminState
from router.telemetry.totals import Labels, Totals


def levels(cluster: Cluster, standings: Mapping[str, Standing], now: float) -> list[dict[str, Any]]:
    """Each priority's endpoints, its percent of the load, and whether its health is ignored.

    Args:
        now: monotonic seconds.
    """
    by_priority: dict[int, list[Standing]] = {}
    for endpoint in cluster.endpoints:
        by_priority.setdefault(endpoint.priority, []).append(standings[endpoint.id])
    found = sorted(by_priority.items())
    if not found:
        return []
    census = [_census(members, now) for _, members in found]
    load, panic = shares(census, cluster.panic_threshold * 100)
    return [
        {
            "priority": priority,
            "endpoints": len(members),
            "wanted": counted.wanted,
            "healthy": counted.healthy,
            "free": counted.free,
            "load": share,
            "panic": panicking,
        }
        for (priority, members), counted, share, panicking in zip(
            found, census, load, panic, strict=True
        )
    ]


def add_priorities(
    totals: Totals, clusters: Iterable[Cluster], standings: Mapping[str, Standing], now: float
) -> None:
    """Put the gauges of these clusters' levels into ``totals``."""
    load: dict[Labels, float] = {}
    panic: dict[Labels, float] = {}
    for cluster in clusters:
        for level in levels(cluster, standings, now):
            labels = (cluster.name, str(level["priority"]))
            load[labels] = level["load"]
            panic[labels] = float(level["panic"])
    totals.gauges["priority_load_percent"] = load
    totals.gauges["priority_panic"] = panic


def _census(members: Iterable[Standing], now: float) -> Census:
    wanted = [one for one in members if one.admin is AdminState.READY]
    healthy = [one for one in wanted if one.usable]
    return Census(len(wanted), len(healthy), sum(one.pushed_until <= now for one in healthy))

"""How control sees a cluster's priority levels: by the workers' own arithmetic."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from router.control.journal import Tell
from router.control.roster import Roster, Standing
from router.core.cluster import Cluster
from router.core.levels import Census, shares
from router.core.model import AdminState
from router.core.snapshot import Snapshot
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
    totals: Totals, snapshot: Snapshot, standings: Mapping[str, Standing], now: float
) -> None:
    """Put the gauges of all clusters' levels into ``totals``."""
    load: dict[Labels, float] = {}
    panic: dict[Labels, float] = {}
    for cluster in snapshot.clusters.values():
        for level in levels(cluster, standings, now):
            labels = (cluster.name, str(level["priority"]))
            load[labels] = level["load"]
            panic[labels] = float(level["panic"])
    totals.gauges["priority_load_percent"] = load
    totals.gauges["priority_panic"] = panic


class PriorityWatch:
    """Tells when a cluster's load moves between its priorities, or panic begins or ends.

    Endpoints that push back are left out: they come and go too quickly to be told of.
    """

    def __init__(self, roster: Roster, tell: Tell) -> None:
        self._roster = roster
        self._tell = tell
        self._last: dict[str, tuple[list[int], list[bool]]] = {}

    def look(self, snapshot: Snapshot) -> None:
        """Compare with the last look; a cluster's first one tells nothing."""
        seen = {}
        for name, cluster in snapshot.clusters.items():
            found = levels(cluster, self._roster.standings, math.inf)
            now = [level["load"] for level in found], [level["panic"] for level in found]
            if self._last.setdefault(name, now) != now:
                priorities = [level["priority"] for level in found]
                load = {str(one): share for one, share in zip(priorities, now[0], strict=True)}
                panic = [one for one, on in zip(priorities, now[1], strict=True) if on]
                self._tell("priority", cluster=name, load=load, panic=panic)
            seen[name] = now
        self._last = seen


def _census(members: Iterable[Standing], now: float) -> Census:
    wanted = [one for one in members if one.admin is AdminState.READY]
    healthy = [one for one in wanted if one.usable]
    return Census(len(wanted), len(healthy), sum(one.pushed_until <= now for one in healthy))

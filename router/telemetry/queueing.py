"""What a worker reports of its queues and breakers."""

from collections.abc import Iterable

from router.core.admission.places import Places
from router.core.model import Priority
from router.telemetry.totals import Labels, Totals


def add_queues(totals: Totals, queues: Iterable[tuple[str, str, Places]]) -> None:
    """Put the places of all clusters into ``totals``.

    Args:
        queues: cluster, ``default`` or ``high``, places; as ``Director.all_places`` gives them.
    """
    depth: dict[Labels, float] = {}
    waiting: dict[Labels, float] = {}
    drain: dict[Labels, float] = {}
    granted: dict[Labels, float] = {}
    rejected: dict[Labels, float] = {}
    for cluster, breaker, places in queues:
        depth[cluster,] = depth.get((cluster,), 0) + places.queue.waiting
        granted[cluster, breaker] = places.granted
        levels = places.queue.by_level()
        for priority in Priority:
            waiting[cluster, breaker, priority.name.lower()] = levels.get(priority, 0)
        if (rate := places.drain.value) is not None:
            drain[cluster, breaker] = rate
        for cause, count in places.rejected.items():
            rejected[cluster, breaker, cause] = count
    totals.gauges["queue_depth"] = depth
    totals.gauges["queue_waiting"] = waiting
    totals.gauges["queue_drain_rate"] = drain
    totals.counters["queue_granted_total"] = granted
    totals.counters["queue_rejected_total"] = rejected

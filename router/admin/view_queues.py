"""A cluster's queues and breakers as the admin API shows them."""

from collections.abc import Callable
from typing import Any

from router.control.gauges import remaining
from router.core.cluster import Cluster
from router.core.model import Priority
from router.telemetry.totals import Totals


def queues(
    cluster: Cluster, totals: Totals, in_flight: Callable[[str], int]
) -> dict[str, dict[str, Any]]:
    """By breaker, ``default`` or ``high``.

    ``drain_rate``: places a second that became free while the cluster was full, None before it
    ever was. ``remaining``: what is left of each threshold.
    """
    told: dict[str, dict[str, Any]] = {}
    for name, limits in cluster.pools():
        breaker = cluster.breaker_of(name)
        key = (cluster.name, breaker)
        rate = totals.gauge("queue_drain_rate", key)
        rejected = totals.counters.get("queue_rejected_total", {})
        told[breaker] = {
            "in_flight": in_flight(name),
            "waiting": {
                label: int(totals.gauge("queue_waiting", (*key, label)))
                for label in (priority.name.lower() for priority in reversed(Priority))
            },
            "drain_rate": round(rate, 3) or None,
            "granted": int(totals.counter("queue_granted_total", key)),
            "rejected": {
                labels[2]: int(count) for labels, count in rejected.items() if labels[:2] == key
            },
            "remaining": remaining(cluster, name, limits, totals, in_flight),
        }
    return told

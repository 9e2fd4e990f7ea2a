"""What the metrics page says beside the workers' sums: what control alone knows."""

from typing import TYPE_CHECKING

from router.control.gauges import add_breakers, add_discovery, add_endpoint_gauges, add_router
from router.control.kv_events.counts import add_kv_events
from router.control.priorities import add_priorities
from router.telemetry.totals import Totals

if TYPE_CHECKING:
    from router.control.plane import ControlPlane


def add_own(totals: Totals, plane: "ControlPlane", now: float) -> None:
    """Put what control counts into ``totals``.

    Args:
        now: monotonic seconds.
    """
    standings, snapshot = plane.roster.standings, plane.store.snapshot
    add_endpoint_gauges(totals, standings.values(), plane.in_flight, now)
    plane.outliers.add_to(totals)
    add_priorities(totals, snapshot, standings, now)
    add_breakers(totals, snapshot, plane.in_flight)
    add_discovery(totals, plane.discoverer.memberships(plane.store.config), now)
    plane.issuers.add_to(totals, now)
    plane.relay.add_to(totals)
    add_kv_events(totals, plane.kv_events)
    add_router(
        totals,
        generation=plane.store.generation,
        serving=plane.supervisor.serving,
        draining=plane.failing,
        reloads=plane.reloads,
        restarts=plane.supervisor.restarts,
        lines_dropped=plane.lines_dropped,
    )

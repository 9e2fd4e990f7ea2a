"""What is counted of sessions, in a form that travels."""

from collections.abc import Mapping

from router.core.session.counts import SessionCounts
from router.telemetry.totals import Labels, Totals


def add_sessions(totals: Totals, counts: Mapping[str, SessionCounts], forgotten: int) -> None:
    """Add these counts, by cluster; ``forgotten`` are the machine's table's, by this process."""
    rows: dict[Labels, float] = {}
    for cluster, one in counts.items():
        if one.kept or one.begun or one.moved:
            rows[cluster, "kept"] = one.kept
            rows[cluster, "new"] = one.begun
            rows[cluster, "moved"] = one.moved
    totals.counters["sessions_total"] = rows
    totals.counters["sessions_forgotten_total"] = {(): forgotten}

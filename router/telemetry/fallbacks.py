"""What a worker tells of requests that went to a fallback."""

from router.core.fallback import Steps
from router.telemetry.totals import Totals


def add_fallbacks(totals: Totals, steps: Steps) -> None:
    """Add the steps by route, cluster, next cluster and reason."""
    totals.counters["fallbacks_total"] = dict(steps.counts.items())

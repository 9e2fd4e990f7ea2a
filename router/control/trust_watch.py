"""Tells when a cluster's caches hold something else than balancing expects, and when no longer.

Each worker finds out alone, from the answers that it saw, and acts at once. It is told once for the
machine: when the first worker ceases to believe its mirror, and when all of them do again.
"""

from collections.abc import Callable, Iterable

from router.control.journal import Tell
from router.telemetry.logs import logger
from router.telemetry.totals import Totals

BELIEVED = "cache_mirror_believed"
ERROR = "cache_mirror_error"


class TrustWatch:
    """Which clusters' mirrors are not believed.

    Args:
        tell: told of each change.
        reports: what each worker reported last.
    """

    def __init__(self, tell: Tell, reports: Callable[[], Iterable[Totals]]) -> None:
        self._tell = tell
        self._reports = reports
        self._log = logger("prediction")
        self.lost: set[str] = set()

    def look(self) -> None:
        """Compare with the last look, and tell what changed."""
        doubts, errors = self._counted()
        for cluster, count in doubts.items():
            error = round(errors[cluster], 3)
            if count and cluster not in self.lost:
                self.lost.add(cluster)
                self._tell("prediction", cluster=cluster, believed=False, error=error)
                self._log.warning(
                    "caches hold something else than expected: balancing by work alone",
                    cluster=cluster,
                    workers=count,
                    error=error,
                )
            elif not count and cluster in self.lost:
                self.lost.remove(cluster)
                self._tell("prediction", cluster=cluster, believed=True, error=error)
                self._log.info("caches hold what is expected again", cluster=cluster, error=error)
        self.lost &= doubts.keys()

    def _counted(self) -> tuple[dict[str, int], dict[str, float]]:
        """By cluster: workers that do not believe, and the largest error of any."""
        doubts: dict[str, int] = {}
        errors: dict[str, float] = {}
        for report in self._reports():
            for (cluster,), believed in report.means.get(BELIEVED, {}).items():
                doubts[cluster] = doubts.get(cluster, 0) + (not believed.value)
            for (cluster,), error in report.means.get(ERROR, {}).items():
                errors[cluster] = max(error.value, errors.get(cluster, 0.0))
        return doubts, errors

    def __repr__(self) -> str:
        return f"<TrustWatch lost={sorted(self.lost)}>"

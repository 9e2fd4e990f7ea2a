"""Logs when the shared store of rate limits is lost, and when it is back.

Each worker has a connection of its own and finds out alone; the log tells it once for the machine:
when the first worker does not reach the store, and when all of them reach it again.
"""

from collections.abc import Callable, Iterable

from router.config.limits import RedisSpec
from router.telemetry.logs import logger
from router.telemetry.totals import Totals

GAUGE = "shared_limits_reached"


class StoreWatch:
    """Whether the workers reach the store.

    Args:
        reports: what each worker reported last.
    """

    def __init__(self, reports: Callable[[], Iterable[Totals]]) -> None:
        self._reports = reports
        self._log = logger("limits")
        self.lost = False

    def look(self, store: RedisSpec | None) -> None:
        """Compare with the last look, and log what changed.

        Args:
            store: where it is; None where none is configured.
        """
        if store is None:
            self.lost = False
            return
        gauges = [report.gauges[GAUGE] for report in self._reports() if GAUGE in report.gauges]
        missing = sum(1 for gauge in gauges if not all(gauge.values()))
        if missing and not self.lost:
            self.lost = True
            self._log.error(
                "the store of shared rate limits is lost",
                address=str(store.address),
                workers=missing,
                on_failure=store.on_failure,
            )
        elif self.lost and gauges and not missing:
            self.lost = False
            self._log.info("the store of shared rate limits is back", address=str(store.address))

    def __repr__(self) -> str:
        return f"<StoreWatch lost={self.lost}>"

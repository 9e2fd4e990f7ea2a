"""Which requests get a line in the access log: a share of all, and always those that went wrong."""

from collections.abc import Callable

from router.config.accesslog import AccessLog
from router.core.clock import Rng
from router.telemetry.record import ExchangeRecord

Log = Callable[[ExchangeRecord], None]


def filtered(log: Log, settings: AccessLog, rng: Rng) -> Log:
    """The log itself if it takes every request."""
    share = settings.sample / 100
    if share >= 1:
        return log
    status = settings.always.status
    slower_than = float(settings.always.slower_than)

    def offer(record: ExchangeRecord) -> None:
        if (
            (status is not None and record.status >= status)
            or (slower_than and record.duration > slower_than)
            or rng.random() < share
        ):
            log(record)

    return offer

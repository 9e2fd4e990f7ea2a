"""The log says once that the shared store is lost, and once that it is back."""

from structlog.testing import capture_logs

from router.config.limits import RedisSpec
from router.config.units import Address
from router.control.store_watch import StoreWatch
from router.telemetry.totals import Totals

REDIS = RedisSpec(address=Address("redis:6379"))


def reports(*reached: bool) -> list[Totals]:
    found = []
    for one in reached:
        totals = Totals()
        totals.gauges["shared_limits_reached"] = {(): float(one)}
        found.append(totals)
    return found


def test_it_is_told_once_however_many_workers_lose_it() -> None:
    said: list[Totals] = []
    with capture_logs() as lines:
        watch = StoreWatch(lambda: said)
        for now in (
            reports(True, True),
            reports(True, False),
            reports(False, False),
            [Totals(), Totals()],
            reports(True, False),
            reports(True, True),
            reports(True, True),
        ):
            said[:] = now
            watch.look(REDIS)
    assert [(line["log_level"], line["event"].split()[-1]) for line in lines] == [
        ("error", "lost"),
        ("info", "back"),
    ]
    assert lines[0]["workers"] == 1
    assert lines[0]["on_failure"] == "local_share"


def test_without_a_store_nothing_is_told() -> None:
    with capture_logs() as lines:
        watch = StoreWatch(lambda: reports(False))
        watch.look(None)
    assert not lines

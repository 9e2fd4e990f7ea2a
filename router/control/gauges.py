"""What the metrics page says of each endpoint and each discovery, from what control knows."""

from collections.abc import Callable, Iterable, Mapping

from router.control.discovery.membership import RESULTS, Membership
from router.control.roster import Standing
from router.core.model import AdminState
from router.telemetry.totals import Labels, Totals

ENDPOINT_GAUGES = (
    "endpoint_in_flight",
    "endpoint_healthy",
    "endpoint_weight",
    "endpoint_pushed_back",
    "endpoint_admin_state",
    "endpoint_running",
    "endpoint_waiting",
    "endpoint_kv_cache_usage",
    "load_report_age_seconds",
)


def add_endpoint_gauges(
    totals: Totals, standings: Iterable[Standing], in_flight: Callable[[str], int], now: float
) -> None:
    """Put the gauges of exactly these endpoints into ``totals``.

    Args:
        in_flight: attempts under way by endpoint id, read from the board: exact, where the
            workers' last reports are not.
        now: monotonic seconds.
    """
    gauges = totals.gauges
    gauges.update((name, {}) for name in ENDPOINT_GAUGES)
    for standing in standings:
        endpoint = standing.endpoint
        labels = (endpoint.cluster, endpoint.address)
        gauges["endpoint_in_flight"][labels] = in_flight(endpoint.id)
        gauges["endpoint_healthy"][labels] = float(standing.healthy is not False)
        gauges["endpoint_weight"][labels] = standing.weight
        gauges["endpoint_pushed_back"][labels] = float(standing.pushed_until > now)
        for state in AdminState:
            wanted = standing.admin is state
            gauges["endpoint_admin_state"][*labels, state.name.lower()] = float(wanted)
        _add_load(gauges, labels, standing, now)


def _add_load(
    gauges: dict[str, dict[Labels, float]], labels: Labels, standing: Standing, now: float
) -> None:
    load = standing.load
    if load is None:
        return
    gauges["load_report_age_seconds"][labels] = max(0.0, now - load.at)
    if not standing.load_fresh:
        return
    gauges["endpoint_running"][labels] = load.running
    gauges["endpoint_waiting"][labels] = load.waiting
    if load.kv_usage is not None:
        gauges["endpoint_kv_cache_usage"][labels] = load.kv_usage


def add_discovery(totals: Totals, memberships: Mapping[str, Membership], now: float) -> None:
    """Put the discoveries of these clusters into ``totals``.

    Args:
        now: monotonic seconds.
    """
    updates: dict[Labels, float] = {}
    stale: dict[Labels, float] = {}
    age: dict[Labels, float] = {}
    for cluster, member in memberships.items():
        updates.update(((cluster, result), member.results[result]) for result in RESULTS)
        stale[cluster,] = float(member.stale)
        if member.confirmed_at is not None:
            age[cluster,] = max(0.0, now - member.confirmed_at)
    totals.counters["discovery_updates_total"] = updates
    totals.gauges["discovery_stale"] = stale
    totals.gauges["discovery_age_seconds"] = age

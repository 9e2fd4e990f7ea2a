"""What the metrics page says of each endpoint and each discovery, from what control knows."""

from collections.abc import Callable, Iterable, Mapping

from router.control.discovery.membership import RESULTS, Membership
from router.control.roster import Standing
from router.core.admission.breaker import PENDING, Thresholds
from router.core.cluster import Cluster
from router.core.model import AdminState
from router.core.snapshot import Snapshot
from router.telemetry.totals import Labels, Totals
from router.telemetry.version import VERSION

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


def remaining(
    cluster: Cluster, name: str, limits: Thresholds, totals: Totals, in_flight: Callable[[str], int]
) -> dict[str, int]:
    """What is left of each threshold of the cluster's places of this name, at least 0."""
    taken = in_flight(name)
    left = {
        "max_connections": limits.max_connections - taken,
        "max_pending": limits.max_pending - in_flight(name + PENDING),
        "max_requests": limits.max_requests - taken,
    }
    if limits.max_retries is not None:
        retries = totals.gauge("retries_in_flight", (cluster.name,))
        left["max_retries"] = limits.max_retries - int(retries)
    return {threshold: max(0, value) for threshold, value in left.items()}


def add_breakers(totals: Totals, snapshot: Snapshot, in_flight: Callable[[str], int]) -> None:
    """Put what is left of every threshold into ``totals``.

    Args:
        in_flight: attempts under way by endpoint id and by the name of a cluster's places, and
            how many wait for these.
    """
    breakers: dict[Labels, float] = {}
    endpoints: dict[Labels, float] = {}
    for cluster in snapshot.clusters.values():
        for name, limits in cluster.pools():
            for threshold, left in remaining(cluster, name, limits, totals, in_flight).items():
                breakers[cluster.name, cluster.breaker_of(name), threshold] = left
        each = cluster.breaker.per_endpoint
        if each is not None:
            for endpoint in cluster.endpoints:
                left = max(0, each.lowest - in_flight(endpoint.id))
                endpoints[cluster.name, endpoint.address] = left
    totals.gauges["breaker_remaining"] = breakers
    totals.gauges["endpoint_places_remaining"] = endpoints


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


def add_router(
    totals: Totals,
    *,
    generation: int,
    serving: int,
    draining: bool,
    reloads: Mapping[str, int],
    restarts: int,
    lines_dropped: int,
) -> None:
    """Put in what the router says of itself.

    Args:
        serving: workers that do.
        reloads: by outcome.
        lines_dropped: of the access log, by control; the workers' own are in ``totals`` already.
    """
    totals.gauges["config_generation"] = {(): float(generation)}
    totals.gauges["workers_ready"] = {(): float(serving)}
    totals.gauges["draining"] = {(): float(draining)}
    totals.gauges["build_info"] = {(VERSION,): 1.0}
    totals.counters["config_reloads_total"] = {(name,): float(n) for name, n in reloads.items()}
    totals.counters["worker_restarts_total"] = {(): float(restarts)}
    name = "access_log_dropped_total"
    totals.counters[name] = {(): totals.counter(name) + lines_dropped}

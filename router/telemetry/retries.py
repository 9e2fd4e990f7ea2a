"""What a worker tells of its clusters' retries."""

from collections.abc import Iterable

from router.core.retry.budget import RetryBudget
from router.telemetry.totals import Labels, Totals


def add_retries(totals: Totals, budgets: Iterable[tuple[str, RetryBudget]]) -> None:
    """Add the counts of these budgets, by cluster; it may have several."""
    in_flight: dict[Labels, float] = {}
    refused: dict[Labels, float] = {}
    waits: dict[Labels, float] = {}
    for cluster, budget in budgets:
        _add(in_flight, (cluster,), budget.in_flight)
        _add(refused, (cluster, "limit"), budget.exhausted)
        _add(refused, (cluster, "budget"), budget.overflow)
        _add(refused, (cluster, "body"), budget.unreplayable)
        _add(waits, (cluster, "random"), budget.waits)
        _add(waits, (cluster, "named"), budget.named_waits)
    totals.gauges["retries_in_flight"] = in_flight
    totals.counters["retries_refused_total"] = refused
    totals.counters["retry_waits_total"] = waits


def _add(counts: dict[Labels, float], labels: Labels, count: int) -> None:
    counts[labels] = counts.get(labels, 0) + count

"""What a worker tells of its clusters' retries and hedges."""

from collections.abc import Iterable

from router.core.retry.budget import RetryBudget
from router.core.retry.hedge import HedgeBudget
from router.telemetry.totals import Labels, Totals


def add_hedges(totals: Totals, budgets: Iterable[tuple[str, HedgeBudget]]) -> None:
    """Add the counts of these budgets, by cluster; of those that never counted there are none."""
    counts: dict[Labels, float] = {}
    for cluster, budget in budgets:
        results = {
            "sent": budget.sent,
            "won": budget.won,
            "budget": budget.over_budget,
            "place": budget.full,
            "endpoint": budget.alone,
        }
        if any(results.values()):
            for result, count in results.items():
                _add(counts, (cluster, result), count)
    totals.counters["hedges_total"] = counts


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

"""What a worker tells of its clusters' retries."""

from collections.abc import Mapping

from router.core.retry.budget import RetryBudget
from router.telemetry.totals import Labels, Totals


def add_retries(totals: Totals, budgets: Mapping[str, RetryBudget]) -> None:
    """Add the counts of these budgets, by cluster."""
    in_flight: dict[Labels, float] = {}
    refused: dict[Labels, float] = {}
    waits: dict[Labels, float] = {}
    for cluster, budget in budgets.items():
        in_flight[cluster,] = budget.in_flight
        refused[cluster, "limit"] = budget.exhausted
        refused[cluster, "budget"] = budget.overflow
        refused[cluster, "body"] = budget.unreplayable
        waits[cluster, "random"] = budget.waits
        waits[cluster, "named"] = budget.named_waits
    totals.gauges["retries_in_flight"] = in_flight
    totals.counters["retries_refused_total"] = refused
    totals.counters["retry_waits_total"] = waits

"""What a worker reports of its rate limits."""

from router.core.admission.limiter import Limiter
from router.telemetry.totals import Labels, Totals


def add_limits(totals: Totals, limiter: Limiter, forgotten: int) -> None:
    """Put the counts of this process's limits into ``totals``.

    Args:
        forgotten: buckets that this process gave up for others.
    """
    counts, counters = limiter.counts, totals.counters
    limited: dict[Labels, float] = {
        (name, "true"): float(count) for name, count in counts.refused.items()
    }
    limited.update(((name, "false"), float(count)) for name, count in counts.passed.items())
    counters["rate_limited_total"] = limited
    counters["limited_tokens_total"] = {
        ("reserved",): counts.reserved,
        ("charged",): counts.charged,
        ("forgiven",): counts.forgiven,
    }
    counters["rate_limit_buckets_forgotten_total"] = {(): float(forgotten)}

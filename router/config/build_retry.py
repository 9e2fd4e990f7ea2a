"""From a route's retries to the core's policy."""

from collections.abc import Mapping

from router.config.build_matches import condition
from router.config.matches import StringCondition
from router.config.retry import BackOff, Retry
from router.core.retry import back_off as core
from router.core.retry.policy import RETRY_ON_NAMES, Conditions, RetryOn, RetryPolicy


def build_retry(spec: Retry | None) -> RetryPolicy:
    """The core's form."""
    if spec is None:
        return RetryPolicy(attempts=0)
    on = RetryOn.NONE
    for cause in spec.on:
        on |= RetryOn.RETRIABLE_STATUS_CODES if isinstance(cause, int) else RETRY_ON_NAMES[cause]
    waits, limited = spec.back_off, spec.rate_limited_back_off
    return RetryPolicy(
        attempts=spec.attempts,
        on=on,
        status_codes=frozenset(cause for cause in spec.on if isinstance(cause, int)),
        headers=_conditions(spec.retriable_headers),
        request_headers=_conditions(spec.retriable_request_headers),
        per_try_timeout=float(spec.per_try_timeout),
        per_try_idle_timeout=float(spec.per_try_idle_timeout),
        back_off=None if waits is None else _back_off(waits),
        rate_limited=None
        if limited is None
        else core.RateLimited(
            headers=tuple((header.name.lower(), header.format) for header in limited.reset_headers),
            maximum=float(limited.max_interval),
        ),
        previous_hosts=spec.previous_hosts,
        reselections=spec.host_selection_retry_max_attempts,
        budget_percent=float(spec.budget),
        min_retry_concurrency=spec.min_concurrency,
    )


def _back_off(spec: BackOff) -> core.BackOff:
    base = float(spec.base_interval)
    longest = 10 * base if spec.max_interval is None else float(spec.max_interval)
    return core.BackOff(base=base, maximum=longest, always=spec.always)


def _conditions(headers: Mapping[str, StringCondition]) -> Conditions:
    return tuple((name.lower(), condition(one)) for name, one in headers.items())

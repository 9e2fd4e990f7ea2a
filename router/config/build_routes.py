"""From a route's configuration to the core's route."""

from router.config.build_matches import Terms, build_matcher
from router.config.routes import Retry, RouteSpec
from router.core.admission.rate_limit import RateLimit
from router.core.admission.token_bucket import BucketSpec
from router.core.retry.policy import RETRY_ON_NAMES, RetryOn, RetryPolicy
from router.core.routing import Destination, Route, Timeouts


def build_route(spec: RouteSpec, terms: Terms) -> Route:
    return Route(
        name=spec.name,
        match=build_matcher(spec.match, spec.name, terms),
        destinations=tuple(
            Destination(arm.cluster, arm.weight, tuple(sorted(arm.subset.items())))
            for arm in spec.to
        ),
        timeouts=Timeouts(
            connect=float(spec.timeouts.connect),
            first_byte=float(spec.timeouts.first_byte),
            idle=float(spec.timeouts.idle),
            total=float(spec.timeouts.total),
            queue=float(spec.timeouts.queue),
        ),
        retry=RetryPolicy(attempts=0) if spec.retry is None else _retry(spec.retry),
        split=spec.split,
        limits=tuple(
            RateLimit(
                name=f"{spec.name}#{number}",
                bucket=BucketSpec(
                    float(limit.max_tokens), limit.tokens_per_fill / float(limit.fill_interval)
                ),
                per=limit.per,
            )
            for number, limit in enumerate(spec.limits, 1)
        ),
    )


def _retry(spec: Retry) -> RetryPolicy:
    on = RetryOn.NONE
    codes = frozenset(cause for cause in spec.on if isinstance(cause, int))
    for cause in spec.on:
        on |= RetryOn.RETRIABLE_STATUS_CODES if isinstance(cause, int) else RETRY_ON_NAMES[cause]
    return RetryPolicy(
        attempts=spec.attempts,
        on=on,
        status_codes=codes,
        per_try_timeout=float(spec.per_try_timeout),
        budget_percent=float(spec.budget),
        min_retry_concurrency=spec.min_concurrency,
    )

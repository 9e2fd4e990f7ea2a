"""What ``explain`` tells of retries: the rules, and a failure that they apply to."""

from router.core.events import CONNECT_FAILED, Event, Head
from router.core.exchange import Exchange
from router.core.explanation import HedgeSeen, RetryRules
from router.core.retry import race
from router.core.retry.policy import RETRY_ON_NAMES, RetryOn, RetryPolicy
from router.core.trace import RecordingTrace


def failure(policy: RetryPolicy) -> tuple[str, Event] | None:
    """A failure that the policy retries, by name and as an event; None if nobody can tell of one.

    What depends on a condition on headers cannot be made up.
    """
    if policy.attempts == 0:
        return None
    if policy.retries_connect_failure():
        return "connect-failure", CONNECT_FAILED
    for status in (409, *sorted(policy.status_codes)):
        if policy.retries_status(status):
            return str(status), Head(status)
    if RetryOn.ENVOY_RATELIMITED in policy.on:
        return "envoy-ratelimited", Head(429, lines=b"HTTP/1.1 429\r\nx-envoy-ratelimited: 1\r\n")
    return None


def longest_wait(exchange: Exchange) -> float:
    """Seconds that the present attempt waited for at most; the draw itself says nothing."""
    assert exchange.route is not None
    back_off = exchange.route.retry.back_off
    if back_off is None or not exchange.pause or exchange.attempt == 1:
        return 0.0
    return back_off.ceiling(exchange.attempt - 1)


def rules(exchange: Exchange, trace: RecordingTrace) -> RetryRules:
    assert exchange.route is not None and exchange.traffic is not None
    policy = exchange.route.retry
    causes = [
        name
        for name, flag in RETRY_ON_NAMES.items()
        if flag in policy.on and flag is not RetryOn.RETRIABLE_STATUS_CODES
    ]
    assumed = failure(policy)
    limited = policy.rate_limited
    return RetryRules(
        attempts=policy.attempts,
        on=(*causes, *(str(code) for code in sorted(policy.status_codes))),
        per_try_timeout=policy.per_try_timeout,
        per_try_idle_timeout=policy.per_try_idle_timeout,
        budget_percent=policy.budget_percent,
        max_retries=exchange.traffic.cluster.breaker.max_retries,
        heeds=() if limited is None else tuple(name for name, _ in limited.headers),
        replayable=exchange.replayable,
        assumed=None if assumed is None else assumed[0],
        refused=trace.refusals[-1] if trace.refusals else None,
    )


def hedge_seen(exchange: Exchange) -> HedgeSeen | None:
    """The route's hedge; call it while the first attempt is under way."""
    route = exchange.route
    if route is None or route.hedge is None:
        return None
    policy, other = route.hedge, race.another(exchange)
    refused = None
    if other is None:
        refused = "the request has been to every endpoint that can be used"
    elif not exchange.replayable:
        refused = "the body is streamed: it is larger than limits.buffer_body"
    elif not race.has_place(exchange):
        refused = "the cluster has no free place"
    return HedgeSeen(
        after=policy.after,
        quantile=policy.quantile,
        max=policy.most,
        budget_percent=policy.budget_percent,
        on_per_try_timeout=policy.on_per_try_timeout,
        endpoint=None if other is None else other.id,
        refused=refused,
    )

"""Whether a failed attempt is followed by another, in Envoy's order of questions.

Would such a failure be retried at all (the caller has asked the policy)? Is an attempt left? Can
the request be sent again? Does the budget bear it? Then: how long to wait.
"""

from typing import TYPE_CHECKING

from router.core.retry.race import plain_attempts

if TYPE_CHECKING:
    from router.core.exchange import Exchange

EXHAUSTED = "URX"
OVERFLOW = "UO"


def allowed(exchange: "Exchange", lines: bytes, now: float) -> bool:
    """Decide, and leave the flag of a refusal or the pause on the exchange.

    Args:
        lines: of the response head that is retried; empty if there was none.
    """
    route = exchange.route
    assert route is not None and exchange.places is not None
    policy, budget = route.retry, exchange.places.budget
    if policy.attempts == 0:
        return False
    if not policy.takes(exchange.request):
        exchange.trace.not_retried("the request lacks the route's retriable_request_headers")
        return False
    attempt = plain_attempts(exchange)
    if attempt > policy.attempts:
        budget.exhausted += 1
        exchange.refusal = EXHAUSTED
        exchange.trace.not_retried(f"all {policy.attempts} retries are used up")
        return False
    if not exchange.replayable:
        budget.unreplayable += 1
        exchange.trace.not_retried("the body was streamed: it is larger than limits.buffer_body")
        return False
    pause, named = policy.wait(
        attempt, lines, exchange.director.untried(exchange), exchange.director.rng
    )
    left = exchange.started_at + route.timeouts.total - now
    if named and route.timeouts.total and pause >= left:
        # The client is better off with the answer than with a time-out.
        exchange.trace.not_retried(f"a wait of {pause:.3g} s leaves nothing of the total timeout")
        return False
    if not exchange.director.again(exchange):
        exchange.refusal = OVERFLOW
        exchange.trace.not_retried("the cluster's retry budget is used up")
        return False
    exchange.pause = pause
    if pause:
        budget.waits += not named
        budget.named_waits += named
    return True

"""Whether a request starts, waits or is refused, and who of those that wait is next.

A request starts where there is a place in the cluster and an endpoint with room, and nobody who
could have it waits. Otherwise it waits, unless the queue is full or moves too slowly. Every
refusal says when to come again: after as many grants as the request would wait for, at the rate
at which places were seen to become free.
"""

from math import ceil, inf
from typing import TYPE_CHECKING, Final

from router.core import errors
from router.core.admission.tenancy import cost, tenant
from router.core.events import Effect

if TYPE_CHECKING:
    from router.core.exchange import Exchange
    from router.core.traffic import ClusterTraffic

OVERLOADED: Final = b"x-envoy-overloaded: true"
"""Tells an Envoy in front not to try again at once."""


def admit(exchange: "Exchange", now: float) -> Effect:
    """Give the exchange a place, or a place in line, or neither."""
    traffic = exchange.traffic
    assert traffic is not None
    places = exchange.places = traffic.places_for(exchange.request)
    limits, active = places.limits, places.active
    if active >= limits.max_requests:
        return refuse(exchange, "max_requests", f"max_requests of {limits.max_requests}", now)
    own = None
    if active < limits.max_connections:
        if traffic.late is not None:
            own = traffic.held_up(exchange, now)
            # Who waits there could not be sent a moment ago, or would have been.
            if own is None and (not traffic.limit or traffic.has_room()):
                return exchange.connect(now)
        elif not traffic.limit:
            if not places.queue.waiting:
                return exchange.connect(now)
        elif traffic.has_room() and (
            not places.queue.waiting
            or places.queue.first(room=lambda lane: lane is traffic) is None
        ):
            return exchange.connect(now)
    if traffic.limit and (bound := traffic.refusing()):
        return refuse(exchange, "endpoints", f"max_requests of {bound} at every endpoint", now)
    return _wait(exchange, now, own)


def _wait(exchange: "Exchange", now: float, own: float | None) -> Effect:
    traffic, places, route = exchange.traffic, exchange.places, exchange.route
    assert traffic is not None and places is not None and route is not None
    request, policy, queue = exchange.request, traffic.cluster.queue, places.queue
    key, level = tenant(policy, request), request.priority
    weight, lane = policy.weights.get(key, 1.0), _lane(traffic)
    if own is None and traffic.late is not None:
        own = traffic.held_up(exchange, now) or 0.0
    wait = predicted_wait(exchange, now)
    if policy.shed_above is not None and wait is not None:
        bound = min(policy.shed_above, route.timeouts.queue or inf)
        if wait > bound:
            return refuse(exchange, "shed", f"a wait of {wait:.1f} s is to be expected", now)
    if queue.bars(key):
        return refuse(exchange, "max_per_tenant", f"max_per_tenant of {queue.per_key}", now)
    if places.waiting >= queue.limit:
        displaced = queue.displaced_by(key, level, lane)
        if displaced is None:
            return refuse(exchange, "max_pending", f"max_pending of {queue.limit}", now)
        exchange.director.displaced.append(displaced.exchange)
        displaced.exchange.ticket = None
        queue.leave(displaced)
    exchange.ticket = queue.join(
        exchange,
        now,
        key=key,
        level=level,
        cost=cost(policy, request),
        weight=weight,
        lane=lane,
        own=own or 0.0,
    )
    places.counted()
    exchange.director.lines[places] = None
    return exchange.enqueue()


def _lane(traffic: "ClusterTraffic") -> "ClusterTraffic | None":
    """What those who wait are told apart by besides their tenants."""
    return traffic if traffic.limit or traffic.late is not None else None


def position(exchange: "Exchange", *, anew: bool = False) -> int:
    """About how many are given a place until this one is, itself included.

    Args:
        anew: if it came now; so it is asked of those who do not wait, too.
    """
    traffic, places = exchange.traffic, exchange.places
    assert traffic is not None and places is not None
    if exchange.ticket is not None and not anew:
        return places.queue.position(exchange.ticket)
    policy = traffic.cluster.queue
    key = tenant(policy, exchange.request)
    lane = _lane(traffic)
    weight = policy.weights.get(key, 1.0)
    return places.queue.prospect(key, exchange.request.priority, weight, lane)


def predicted_wait(exchange: "Exchange", now: float, *, anew: bool = False) -> float | None:
    """Seconds until it is given a place, as things go; None where nothing was measured yet."""
    assert exchange.places is not None
    rate = exchange.places.rate(now)
    return None if rate is None else position(exchange, anew=anew) / rate


def retry_after(exchange: "Exchange", now: float) -> float:
    """Seconds that a refused client is told to stay away: at least 1, at most the policy's."""
    assert exchange.traffic is not None
    wait = predicted_wait(exchange, now, anew=True) or 1.0
    return max(1.0, min(float(ceil(wait)), exchange.traffic.cluster.queue.max_retry_after))


def refuse(exchange: "Exchange", cause: str, words: str, now: float) -> Effect:
    """No place, not even in line.

    Args:
        cause: to count by.
        words: what was reached.
    """
    traffic, places = exchange.traffic, exchange.places
    assert traffic is not None and places is not None
    places.rejected[cause] += 1
    kind = errors.Saturated if traffic.cluster.queue.refuse_with == 429 else errors.Overflow
    error = kind(
        f"cluster {traffic.cluster.name!r} is overloaded: {words}"
        + (" reached" if " of " in words and cause != "shed" else ""),
        retry_after=retry_after(exchange, now),
        headers=(OVERLOADED,),
    )
    return exchange.reject(error, now)


def waited_too_long(exchange: "Exchange", now: float) -> Effect:
    """The route's time in the queue is over."""
    traffic, places = exchange.traffic, exchange.places
    assert traffic is not None and places is not None
    places.rejected["deadline"] += 1
    late = traffic.cluster.queue.refuse_with == 429
    kind = errors.WaitedTooLong if late else errors.QueueTimeout
    error = kind(
        "waited too long for a free place in the cluster", retry_after=retry_after(exchange, now)
    )
    return exchange.reject(error, now)

"""Several attempts of one request under way at one time, until one has won.

The exchange's own lease is the *lead*: to the table of transitions there is no other. The others
are *rivals*. What happens to an attempt of a race comes as ``OfAttempt``. While there are rivals,
an attempt that fails just drops out, and the oldest rival takes the lead if it was the lead's;
what happens to an attempt that is alone is what happens to any exchange.

A head is judged when the first byte of its body has come (engines send heads before they have
computed anything). A good one wins: the other attempts are given up at once, which is no fault
of their endpoints. A bad one drops out. Never are there rivals once the response has begun.
"""

from typing import TYPE_CHECKING

from router.core.balancers.loads import least_active
from router.core.events import (
    STAND_BY,
    Connect,
    Drop,
    Effect,
    Event,
    EventKind,
    Head,
    OfAttempt,
    SendToo,
    Stage,
    TimedOut,
)
from router.core.host import HostState, Lease, Outcome
from router.core.retry.hedge import HedgeBudget
from router.core.retry.quantiles import Quantiles
from router.core.states import State

if TYPE_CHECKING:
    from router.core.admission.places import Places
    from router.core.exchange import Exchange


class Rival:
    """An attempt beside the lead. ``hedged``: it was taken from the hedges' budget."""

    __slots__ = ("hedged", "lease", "reason", "state")

    def __init__(self, lease: Lease, reason: str, *, hedged: bool) -> None:
        self.lease = lease
        self.reason = reason
        self.hedged = hedged
        self.state = State.CONNECTING


class Race:
    """The attempts of one exchange that may have company.

    Attributes:
        lead: number of the attempt whose lease is the exchange's.
        rivals: the others by number, the oldest first.
        hedges: attempts that the hedges' budget paid for, in all clusters.
        before: of those, in clusters that the request has left for a fallback.
    """

    __slots__ = ("_places", "before", "hedges", "lead", "rivals")

    def __init__(self) -> None:
        self.lead = 0
        self.rivals: dict[int, Rival] = {}
        self.hedges = 0
        self.before = 0
        self._places: Places | None = None

    def enter(self, places: "Places") -> HedgeBudget:
        """An attempt begins there."""
        if self._places is not places:
            self._places = places
            self.before = self.hedges
        return places.hedges

    def __repr__(self) -> str:
        return f"<Race lead={self.lead} rivals={list(self.rivals)}>"


def start(exchange: "Exchange", host: HostState) -> Connect:
    """The exchange's own attempt, which others may join."""
    route, places = exchange.route, exchange.places
    assert route is not None and route.hedge is not None and places is not None
    race = exchange.race
    if race is None:
        race = exchange.race = Race()
    race.lead = exchange.attempt
    policy, hedges = route.hedge, race.enter(places)
    if policy.quantile is not None and hedges.latencies is None:
        hedges.latencies = Quantiles()
    after = policy.due(hedges.latencies) if race.hedges - race.before < policy.most else 0.0
    return Connect(
        host.endpoint, exchange.attempt, route.timeouts.connect, route.head_limit, True, after
    )


# --- another attempt ------------------------------------------------------------------------


def due(exchange: "Exchange", now: float) -> Effect:
    """Nothing has come for as long as the route wants to wait: send the request once more."""
    race, route, places = exchange.race, exchange.route, exchange.places
    assert race is not None and route is not None and places is not None
    policy = route.hedge
    if policy is None or not exchange.replayable or race.hedges - race.before >= policy.most:
        return STAND_BY
    host = another(exchange)
    if host is None:
        places.hedges.alone += 1
        return STAND_BY
    if not has_place(exchange):
        places.hedges.full += 1
        return STAND_BY
    if not places.hedges.withdraw(policy, places.active):
        return STAND_BY
    race.hedges += 1
    after = policy.due(places.hedges.latencies) if race.hedges - race.before < policy.most else 0.0
    return _send(exchange, host, "hedge", after, now, hedged=True)


def _slow(exchange: "Exchange", now: float) -> Effect:
    """A per-try time-out, after which the attempt goes on: a retry beside it."""
    race, route = exchange.race, exchange.route
    assert race is not None and route is not None
    if (
        plain_attempts(exchange) > route.retry.attempts
        or not exchange.replayable
        or not has_place(exchange)
    ):
        return STAND_BY
    host = another(exchange)
    if host is None or not exchange.director.again(exchange):
        return STAND_BY
    return _send(exchange, host, "hedge on per-try time-out", 0.0, now, hedged=False)


def plain_attempts(exchange: "Exchange") -> int:
    """Attempts so far at the present cluster, but for hedges."""
    race, detour = exchange.race, exchange.detour
    elsewhere = 0 if detour is None else detour.attempts_before
    hedges = 0 if race is None else race.hedges - race.before
    return exchange.attempt - elsewhere - hedges


def another(exchange: "Exchange") -> HostState | None:
    """The least loaded endpoint that this request has not been to.

    The balancer is not asked: a conversation that it remembers must not move for a hedge.
    """
    traffic, rng = exchange.traffic, exchange.director.rng
    assert traffic is not None
    hosts = traffic.hosts.usable()
    if traffic.hosts.layered:
        hosts = traffic.group(exchange.request, rng).hosts
    untried = [
        host
        for host in hosts
        if host.endpoint.id not in exchange.tried
        and not (traffic.limit and host.active >= traffic.limit)
    ]
    return least_active(untried, rng) if untried else None


def has_place(exchange: "Exchange") -> bool:
    """Whether an attempt can start at once without taking a place that somebody waits for."""
    places = exchange.places
    assert places is not None
    most = min(places.limits.max_connections, places.limits.max_requests)
    return not places.queue.waiting and places.active < most


def _send(
    exchange: "Exchange", host: HostState, reason: str, after: float, now: float, *, hedged: bool
) -> Effect:
    race, route, places = exchange.race, exchange.route, exchange.places
    assert race is not None and route is not None and places is not None
    exchange.attempt += 1
    race.rivals[exchange.attempt] = Rival(exchange.new_lease(host, now), reason, hedged=hedged)
    places.take()
    exchange.tried += (host.endpoint.id,)
    exchange.trace.picked(host, reason, exchange.attempt)
    return SendToo(host.endpoint, exchange.attempt, route.timeouts.connect, route.head_limit, after)


# --- what happens to an attempt -------------------------------------------------------------


def of_attempt(exchange: "Exchange", event: Event, now: float) -> Effect:
    """An event of one attempt of a race."""
    assert isinstance(event, OfAttempt) and exchange.race is not None
    race, attempt, happened = exchange.race, event.attempt, event.event
    if isinstance(happened, TimedOut) and happened.stage is Stage.FIRST_BYTE and _soft(exchange):
        return _slow_attempt(exchange, attempt, now)
    if not race.rivals:
        return exchange.feed(happened, now)
    if isinstance(happened, Head):
        return _judged(exchange, attempt, happened, now)
    if happened.kind is EventKind.CONNECTED:
        return _connected(exchange, attempt, now)
    if happened.kind is EventKind.CONNECT_FAILED or (
        isinstance(happened, TimedOut) and happened.stage is Stage.CONNECT
    ):
        return _lost(exchange, attempt, Outcome.CONNECT_FAILURE, now)
    outcome = Outcome.RESET if happened.kind is EventKind.RESET else Outcome.TIMEOUT
    return _lost(exchange, attempt, outcome, now)


def _soft(exchange: "Exchange") -> bool:
    route = exchange.route
    assert route is not None and route.hedge is not None
    return route.hedge.on_per_try_timeout and route.retry.per_try_timeout > 0


def _slow_attempt(exchange: "Exchange", attempt: int, now: float) -> Effect:
    # Envoy counts it against the endpoint now; what becomes of the attempt later does not matter.
    lease = _lease(exchange, attempt)
    if lease.host.monitor is not None:
        lease.host.monitor.unanswered()
    return _slow(exchange, now)


def _lease(exchange: "Exchange", attempt: int) -> Lease:
    assert exchange.race is not None
    rival = exchange.race.rivals.get(attempt)
    lease = exchange.lease if rival is None else rival.lease
    assert lease is not None
    return lease


def _connected(exchange: "Exchange", attempt: int, now: float) -> Effect:
    assert exchange.race is not None
    rival = exchange.race.rivals.get(attempt)
    if rival is None:
        exchange.state = State.WAITING_FIRST_BYTE
    else:
        rival.state = State.WAITING_FIRST_BYTE
    monitor = _lease(exchange, attempt).host.monitor
    if monitor is not None and monitor.split:
        monitor.connected()
    return STAND_BY


def _judged(exchange: "Exchange", attempt: int, head: Head, now: float) -> Effect:
    """The first byte of an answer has come, while others are under way."""
    race, route = exchange.race, exchange.route
    assert race is not None and route is not None
    refused = head.status >= 500 or head.status == 429
    if refused or route.retry.retries_response(head.status, head.lines):
        lease = _lease(exchange, attempt)
        lease.answered(head.status, head.retry_after)
        assert lease.verdict is not None
        if lease.verdict is Outcome.PUSHED_BACK:
            lease.refused(now)
            exchange.director.pushed_back(exchange, lease.host, head.retry_after, now)
        return _lost(exchange, attempt, lease.verdict, now)
    others = [race.lead, *race.rivals]
    others.remove(attempt)
    if attempt != race.lead:
        _blameless(exchange, now)
        if race.rivals[attempt].hedged:
            _hedges(exchange).won += 1
        _take_the_lead(exchange, attempt)
    release_rivals(exchange, now)
    return Drop(tuple(others))


def _lost(exchange: "Exchange", attempt: int, outcome: Outcome, now: float) -> Effect:
    """An attempt has failed, and there are others."""
    race, places = exchange.race, exchange.places
    assert race is not None and places is not None
    if attempt == race.lead:
        exchange.end_attempt(outcome, now)
        _take_the_lead(exchange, next(iter(race.rivals)))
    else:
        rival = race.rivals.pop(attempt)
        rival.lease.release(outcome, now)
        places.give_back()
        if rival.hedged:
            _hedges(exchange).deposit()
    return Drop((attempt,))


def _blameless(exchange: "Exchange", now: float) -> None:
    """The lead is given up for a rival."""
    latencies, lease = _hedges(exchange).latencies, exchange.lease
    assert lease is not None
    if latencies is not None:
        # It would have taken longer still: without it, quantiles would forget the slow ones.
        latencies.observe(now - lease.since)
    exchange.end_attempt(Outcome.ABANDONED, now)


def _take_the_lead(exchange: "Exchange", attempt: int) -> None:
    race = exchange.race
    assert race is not None
    rival = race.rivals.pop(attempt)
    race.lead = attempt
    exchange.lease, exchange.reason, exchange.state = rival.lease, rival.reason, rival.state
    if rival.hedged:
        _hedges(exchange).deposit()
    # Who serves the request stands last, where logs look for it.
    id_ = rival.lease.host.endpoint.id
    exchange.tried = (*(one for one in exchange.tried if one != id_), id_)


def release_rivals(exchange: "Exchange", now: float) -> None:
    """Give up every attempt but the lead."""
    race, places = exchange.race, exchange.places
    assert race is not None and places is not None
    for rival in race.rivals.values():
        rival.lease.release(Outcome.ABANDONED, now)
        places.give_back()
        if rival.hedged:
            _hedges(exchange).deposit()
    race.rivals.clear()
    if exchange.lease is not None:
        id_ = exchange.lease.host.endpoint.id
        exchange.tried = (*(one for one in exchange.tried if one != id_), id_)


def _hedges(exchange: "Exchange") -> HedgeBudget:
    assert exchange.places is not None
    return exchange.places.hedges

"""A second attempt beside a slow one, told as timelines."""

import random

import pytest

from router.core.cluster import CircuitBreaker
from router.core.events import (
    CLIENT_GONE,
    COMPLETE,
    CONNECT_FAILED,
    CONNECTED,
    RESET,
    STAND_BY,
    START,
    Connect,
    Drop,
    Effect,
    Event,
    Finish,
    Head,
    OfAttempt,
    Reject,
    Relay,
    SendToo,
    Stage,
    TimedOut,
)
from router.core.exchange import Exchange
from router.core.health.outlier import Outlier
from router.core.host import Outcome
from router.core.retry.hedge import Hedge
from router.core.retry.policy import RetryOn, RetryPolicy
from router.core.retry.quantiles import Quantiles
from router.core.routing import Timeouts
from router.core.snapshot import Snapshot
from router.core.states import State
from router.core.trace import RecordingTrace
from tests.core.world import World, request, snapshot

DUE = TimedOut(Stage.HEDGE)
TRY = TimedOut(Stage.FIRST_BYTE)


def hedged(size: int = 2, hedge: Hedge | None = None, **fields: object) -> Snapshot:
    return snapshot(size, hedge=hedge or Hedge(after=2), **fields)  # type: ignore[arg-type]


def racing(world: World) -> Exchange:
    """Two attempts under way."""
    exchange, first = world.begin()
    assert isinstance(first, Connect)
    assert first.race
    assert first.hedge_after == 2
    of(world, exchange, 1, CONNECTED)
    second = world.feed(exchange, DUE)
    assert isinstance(second, SendToo)
    assert (second.attempt, second.hedge_after) == (2, 0)
    assert second.endpoint != first.endpoint
    of(world, exchange, 2, CONNECTED)
    assert sum(world.in_flight()) == 2
    return exchange


def of(world: World, exchange: Exchange, attempt: int, event: Event) -> Effect:
    return world.feed(exchange, OfAttempt(attempt, event))  # type: ignore[arg-type]


def served_by(exchange: Exchange) -> int:
    """Which attempt was at the endpoint that serves the request."""
    assert exchange.race is not None
    return exchange.race.lead


def outcomes(world: World) -> dict[str, int]:
    return {
        outcome.name: sum(host.outcomes[outcome] for host in world.fleet.hosts.values())
        for outcome in Outcome
        if any(host.outcomes[outcome] for host in world.fleet.hosts.values())
    }


def test_the_second_attempt_wins_and_the_first_is_given_up_without_blame() -> None:
    world = World(hedged(outlier=Outlier()))
    exchange = racing(world)
    slow = exchange.lease
    assert slow is not None
    assert of(world, exchange, 2, Head(200)) == Drop((1,))
    assert world.feed(exchange, Head(200)) == Relay(120)
    assert served_by(exchange) == 2
    assert (exchange.reason, sum(world.in_flight())) == ("hedge", 1)
    assert slow.host.outcomes[Outcome.ABANDONED] == 1
    assert world.feed(exchange, COMPLETE) == Finish(None)
    assert exchange.tried[-1] != slow.host.id
    assert outcomes(world) == {"SUCCESS": 1, "ABANDONED": 1}
    hedges = world.director.places("c").hedges
    assert (hedges.sent, hedges.won, hedges.in_flight) == (1, 1, 0)


def test_the_first_attempt_may_still_win() -> None:
    world = World(hedged())
    exchange = racing(world)
    assert of(world, exchange, 1, Head(200)) == Drop((2,))
    assert isinstance(world.feed(exchange, Head(200)), Relay)
    assert exchange.lease is not None
    assert exchange.tried[-1] == exchange.lease.host.id
    world.feed(exchange, COMPLETE)
    hedges = world.director.places("c").hedges
    assert (hedges.sent, hedges.won, hedges.in_flight) == (1, 0, 0)


@pytest.mark.parametrize("attempt", [1, 2])
@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (CONNECT_FAILED, "CONNECT_FAILURE"),
        (TimedOut(Stage.CONNECT), "CONNECT_FAILURE"),
        (RESET, "RESET"),
        (TRY, "TIMEOUT"),
        (Head(500), "STATUS_ERROR"),
        (Head(503, retry_after=1.0), "PUSHED_BACK"),
        (Head(429), "PUSHED_BACK"),
    ],
)
def test_an_attempt_that_fails_drops_out_and_the_other_goes_on(
    attempt: int, event: Event, outcome: str
) -> None:
    world = World(hedged(retry=RetryPolicy(attempts=0)))
    exchange = racing(world)
    assert of(world, exchange, attempt, event) == Drop((attempt,))
    assert exchange.state is State.WAITING_FIRST_BYTE
    assert served_by(exchange) == 3 - attempt
    assert sum(world.in_flight()) == 1
    assert isinstance(world.feed(exchange, Head(200)), Relay)
    world.feed(exchange, COMPLETE)
    assert outcomes(world) == {"SUCCESS": 1, outcome: 1}
    assert world.director.places("c").hedges.in_flight == 0


def test_when_both_have_failed_the_request_is_retried_and_a_hedge_is_no_retry() -> None:
    world = World(hedged(3, retry=RetryPolicy(attempts=1)))
    exchange = racing(world)
    of(world, exchange, 1, RESET)
    third = of(world, exchange, 2, RESET)
    assert isinstance(third, Connect)
    assert (third.attempt, third.race, third.hedge_after) == (3, True, 0)
    assert len(set(exchange.tried)) == 3
    effect = of(world, exchange, 3, CONNECT_FAILED)
    assert isinstance(effect, Reject)
    assert exchange.flag == "UF,URX"


@pytest.mark.parametrize("event", [CLIENT_GONE, TimedOut(Stage.TOTAL)])
def test_every_way_out_ends_both(event: Event) -> None:
    world = World(hedged())
    exchange = racing(world)
    world.feed(exchange, event)
    places = world.director.places("c")
    assert (world.in_flight(), places.in_flight, places.hedges.in_flight) == ([0, 0], 0, 0)


def test_the_budget_bounds_hedges_of_the_whole_cluster() -> None:
    world = World(hedged(2, Hedge(after=2, budget_percent=10, min_concurrency=1)))
    exchanges = [world.begin()[0] for _ in range(40)]
    effects = [world.feed(exchange, DUE) for exchange in exchanges]
    # Hedges are active requests, too: 4 of 40 to 44.
    assert sum(isinstance(effect, SendToo) for effect in effects) == 4
    hedges = world.director.places("c").hedges
    assert (hedges.sent, hedges.over_budget) == (4, 36)
    few = World(hedged(2, Hedge(after=2, budget_percent=10, min_concurrency=2)))
    assert isinstance(few.feed(few.begin()[0], DUE), SendToo)


def test_nothing_is_hedged_without_another_endpoint_a_place_or_the_body() -> None:
    alone = World(hedged(1))
    assert alone.feed(alone.begin()[0], DUE) == STAND_BY
    assert alone.director.places("c").hedges.alone == 1
    full = World(hedged(2, breaker=CircuitBreaker(max_connections=1)))
    assert full.feed(full.begin()[0], DUE) == STAND_BY
    assert full.director.places("c").hedges.full == 1
    streamed = World(hedged(2))
    exchange, _ = streamed.begin()
    exchange.replayable = False
    assert streamed.feed(exchange, DUE) == STAND_BY


def test_several_hedges_follow_each_other() -> None:
    world = World(hedged(4, Hedge(after=2, most=2, min_concurrency=9)))
    exchange, _ = world.begin()
    second = world.feed(exchange, DUE)
    assert isinstance(second, SendToo)
    assert second.hedge_after == 2
    third = world.feed(exchange, DUE)
    assert isinstance(third, SendToo)
    assert third.hedge_after == 0
    assert world.feed(exchange, DUE) == STAND_BY
    of(world, exchange, 3, CONNECTED)
    assert of(world, exchange, 3, Head(200)) == Drop((1, 2))
    world.feed(exchange, Head(200))
    assert sum(world.in_flight()) == 1


def test_a_quantile_decides_once_enough_is_known() -> None:
    world = World(hedged(2, Hedge(quantile=0.9, after=0.5)))
    exchange, effect = world.begin()
    assert isinstance(effect, Connect)
    assert effect.hedge_after == 0.5
    latencies = world.director.places("c").hedges.latencies
    assert latencies is not None
    for milliseconds in range(1, 1001):
        latencies.observe(milliseconds / 1000)
    _, effect = world.begin()
    assert isinstance(effect, Connect)
    assert effect.hedge_after == pytest.approx(0.9, rel=0.1)
    # What an answer took is one more sample; what a loser had taken so far is another.
    world.feed(exchange, DUE)
    of(world, exchange, 2, CONNECTED)
    of(world, exchange, 2, Head(200))
    world.feed(exchange, Head(200))
    exchange.first_byte(world.clock.now())
    assert latencies.seen == 1002


def test_envoys_hedge_on_per_try_timeout() -> None:
    """Observed: the first endpoint hangs, the second takes 250 ms, per try 200 ms: always 200."""
    policy = RetryPolicy(attempts=1, on=RetryOn.CONNECT_FAILURE, per_try_timeout=0.2)
    hedge = Hedge(on_per_try_timeout=True)
    world = World(hedged(2, hedge, retry=policy, timeouts=Timeouts(total=3), outlier=Outlier()))
    exchange, first = world.begin()
    assert isinstance(first, Connect)
    assert (first.race, first.hedge_after) == (True, 0)
    of(world, exchange, 1, CONNECTED)
    assert isinstance(of(world, exchange, 1, TRY), SendToo)
    of(world, exchange, 2, CONNECTED)
    assert world.director.places("c").budget.in_flight == 1
    # The second is slow, too, and no retry is left: both go on.
    assert of(world, exchange, 2, TRY) == STAND_BY
    assert sum(world.in_flight()) == 2
    assert of(world, exchange, 2, Head(200)) == Drop((1,))
    assert isinstance(world.feed(exchange, Head(200)), Relay)
    world.feed(exchange, COMPLETE)
    places = world.director.places("c")
    assert (exchange.attempt, places.budget.in_flight, places.hedges.sent) == (2, 0, 0)


def test_the_trace_tells_of_hedges() -> None:
    trace = RecordingTrace()
    world = World(hedged())
    exchange = world.director.begin(request(), 0.0, trace)
    world.feed(exchange, START)
    world.feed(exchange, DUE)
    assert [(attempt, reason) for attempt, _, reason in trace.picks][1] == (2, "hedge")


def test_quantiles_are_at_most_a_tenth_too_high_and_forget() -> None:
    quantiles = Quantiles()
    assert quantiles.at(0.5) is None
    rng = random.Random(3)
    for _ in range(2000):
        quantiles.observe(rng.uniform(0, 2))
    for share in (0.5, 0.9, 0.99):
        answer = quantiles.at(share)
        assert answer is not None
        assert 2 * share * 0.95 <= answer <= 2 * share * 1.15
    for _ in range(40_000):
        quantiles.observe(10)
    answer = quantiles.at(0.1)
    assert answer is not None
    assert 10 <= answer <= 11
    quantiles.observe(1e9)
    quantiles.observe(0)

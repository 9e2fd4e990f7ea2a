"""Another cluster for what the first cannot take, told as timelines."""

import pytest

from router.core import errors
from router.core.cluster import CircuitBreaker, Cluster
from router.core.events import (
    CLIENT_GONE,
    COMPLETE,
    CONNECT_FAILED,
    CONNECTED,
    GRANTED,
    RESET,
    Connect,
    Finish,
    Head,
    Reject,
    Relay,
    Stage,
    TimedOut,
    Wait,
)
from router.core.exchange import Exchange
from router.core.fallback import Fallback
from router.core.fault import Abort, Fault
from router.core.host import Outcome
from router.core.model import AdminState
from router.core.retry.policy import RetryOn, RetryPolicy
from router.core.routing import Timeouts
from router.core.snapshot import Snapshot
from tests.core.world import World, snapshot, spare

ONCE = RetryPolicy(attempts=0, on=RetryOn.NONE)
CHAIN = (Fallback("s"),)


def policy(size: int = 1, **fields: object) -> Snapshot:
    chain: tuple[Fallback, ...] = fields.pop("fallbacks", CHAIN)  # type: ignore[assignment]
    spares: tuple[Cluster, ...] = fields.pop("spares", (spare("s"),))  # type: ignore[assignment]
    terms = {"retry": ONCE} | fields
    return snapshot(size, fallbacks=chain, spares=spares, **terms)  # type: ignore[arg-type]


def went_to(effect: object, cluster: str) -> Connect:
    assert isinstance(effect, Connect), effect
    assert effect.endpoint.cluster == cluster
    return effect


def down(world: World, cluster: str) -> None:
    for host in world.fleet.hosts.values():
        if host.endpoint.cluster == cluster:
            world.fleet.set_health(host.id, False)


def finished(world: World, exchange: Exchange) -> None:
    world.feed(exchange, CONNECTED)
    assert isinstance(world.feed(exchange, Head(200)), Relay)
    assert world.feed(exchange, COMPLETE) == Finish(None)
    assert not any(world.in_flight())
    for name in world.director.snapshot.clusters:
        places = world.director.places(name)
        assert (places.in_flight, places.queue.waiting, places.budget.in_flight) == (0, 0, 0)


def test_nothing_is_there() -> None:
    world = World(policy())
    world.fleet.set_admin(world.host(0).id, AdminState.DRAIN)
    exchange, effect = world.begin()
    went_to(effect, "s")
    finished(world, exchange)
    assert str(exchange.detour) == "c (unavailable) -> s"
    assert (exchange.status, exchange.flag, exchange.attempt) == (200, "-", 1)
    assert world.director.steps.counts == {("all", "c", "s", "unavailable"): 1}


def test_nothing_is_healthy_and_panic_would_ask_it_all_the_same() -> None:
    world = World(policy(2))
    down(world, "c")
    assert len(world.director.traffic("c").hosts.usable()) == 2
    exchange, effect = world.begin()
    went_to(effect, "s")
    finished(world, exchange)


def test_nothing_is_healthy_anywhere_so_panic_it_is() -> None:
    world = World(policy(2))
    down(world, "c")
    down(world, "s")
    exchange, effect = world.begin()
    went_to(effect, "c")
    assert exchange.detour is None
    went_to(world.feed(exchange, CONNECT_FAILED), "s")


@pytest.mark.parametrize(
    "breaker",
    [CircuitBreaker(max_requests=1), CircuitBreaker(max_connections=1, max_pending=0)],
    ids=["breaker", "queue"],
)
def test_it_is_saturated(breaker: CircuitBreaker) -> None:
    world = World(policy(breaker=breaker))
    first, effect = world.begin()
    went_to(effect, "c")
    second, effect = world.begin()
    went_to(effect, "s")
    assert str(second.detour) == "c (saturated) -> s"
    world.feed(first, CLIENT_GONE)
    finished(world, second)


def test_a_request_waits_where_it_may_and_goes_on_when_it_waited_too_long() -> None:
    breaker = CircuitBreaker(max_connections=1)
    world = World(policy(breaker=breaker, timeouts=Timeouts(queue=2)))
    first, _ = world.begin()
    second, effect = world.begin()
    assert effect == Wait(2)
    world.clock.advance(2)
    went_to(world.feed(second, TimedOut(Stage.QUEUE)), "s")
    assert world.director.places("c").queue.waiting == 0
    assert second.queued_for == pytest.approx(2, abs=0.01)
    world.feed(first, CLIENT_GONE)
    finished(world, second)


def test_it_may_wait_in_the_line_of_the_fallback() -> None:
    narrow = CircuitBreaker(max_connections=1)
    world = World(
        policy(breaker=CircuitBreaker(max_requests=1), spares=(spare("s", breaker=narrow),))
    )
    exchanges = [world.begin() for _ in range(3)]
    assert [type(effect) for _, effect in exchanges] == [Connect, Connect, Wait]
    world.feed(exchanges[1][0], CLIENT_GONE)
    last = exchanges[2][0]
    assert world.director.next_granted() is last
    went_to(world.feed(last, GRANTED), "s")
    world.feed(exchanges[0][0], CLIENT_GONE)
    finished(world, last)


def test_it_fails_after_its_retries_and_the_fallback_has_retries_of_its_own() -> None:
    retry = RetryPolicy(attempts=1, on=RetryOn.RESET, back_off=None)
    world = World(policy(2, retry=retry, spares=(spare("s", 2),)))
    exchange, effect = world.begin()
    path = [went_to(effect, "c").endpoint.id]
    for _ in range(3):
        world.feed(exchange, CONNECTED)
        effect = world.feed(exchange, RESET)
        assert isinstance(effect, Connect)
        path.append(effect.endpoint.id)
    assert [id_.partition("/")[0] for id_ in path] == ["c", "c", "s", "s"]
    assert len(set(path)) == 4
    world.feed(exchange, CONNECTED)
    effect = world.feed(exchange, RESET)
    assert isinstance(effect, Reject)
    assert isinstance(effect.error, errors.UpstreamReset)
    assert (exchange.flag, exchange.attempt) == ("UC,URX", 4)
    assert str(exchange.detour) == "c (failed) -> s"
    assert world.director.places("c").budget.in_flight == 0
    assert world.director.places("s").budget.in_flight == 0


FAILURES = [
    (Head(500), True),
    (Head(503), True),
    (Head(429), True),
    (Head(404), False),
    (Head(400), False),
    (Head(200), False),
    (RESET, True),
    (TimedOut(Stage.FIRST_BYTE), True),
    (TimedOut(Stage.TOTAL), False),
]


@pytest.mark.parametrize(("event", "moves"), FAILURES)
def test_what_counts_as_a_failure(event: object, moves: bool) -> None:
    world = World(policy())
    exchange, _ = world.begin()
    world.feed(exchange, CONNECTED)
    effect = world.feed(exchange, event)  # type: ignore[arg-type]
    assert isinstance(effect, Connect) is moves
    if moves:
        assert world.host(0).in_flight == 0
        finished(world, exchange)


def test_the_engines_own_answer_is_kept_where_nobody_else_could_answer() -> None:
    world = World(policy())
    down(world, "s")
    exchange, _ = world.begin()
    world.feed(exchange, CONNECTED)
    assert isinstance(world.feed(exchange, Head(503)), Relay)
    assert (exchange.status, exchange.detour) == (503, None)


def test_never_after_the_head() -> None:
    world = World(policy())
    exchange, _ = world.begin()
    world.feed(exchange, CONNECTED)
    world.feed(exchange, Head(200))
    assert isinstance(world.feed(exchange, RESET), Finish)
    assert world.host(0).outcomes[Outcome.TRUNCATED] == 1


def test_a_body_that_was_streamed_cannot_be_sent_elsewhere() -> None:
    world = World(policy())
    exchange, _ = world.begin()
    exchange.replayable = False
    world.feed(exchange, CONNECTED)
    assert isinstance(world.feed(exchange, RESET), Reject)


def test_the_chain_is_tried_in_order_and_the_last_says_why_not() -> None:
    chain = (Fallback("s"), Fallback("t", model="small"), Fallback("u"))
    world = World(policy(fallbacks=chain, spares=(spare("s", 0), spare("t"), spare("u"))))
    exchange, effect = world.begin()
    went_to(effect, "c")
    went_to(world.feed(exchange, CONNECT_FAILED), "t")
    assert exchange.detour is not None
    assert exchange.detour.link.model == "small"
    went_to(world.feed(exchange, CONNECT_FAILED), "u")
    effect = world.feed(exchange, CONNECT_FAILED)
    assert isinstance(effect, Reject)
    assert "u0:80" in effect.error.message
    assert str(exchange.detour) == "c (failed) -> s (unavailable) -> t (failed) -> u"
    assert exchange.attempt == 3


def test_an_injected_error_is_for_the_client() -> None:
    world = World(policy(fault=Fault(abort=Abort(503))))
    assert isinstance(world.begin()[1], Reject)


def test_a_reload_may_take_the_fallback_away() -> None:
    world = World(policy())
    exchange, _ = world.begin()
    world.director.update(snapshot(1, retry=ONCE, generation=2))
    assert isinstance(world.feed(exchange, CONNECT_FAILED), Reject)

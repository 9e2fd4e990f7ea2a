"""When a failed attempt is followed by another, after how long, and where."""

import pytest

from router.core import errors
from router.core.cluster import CircuitBreaker
from router.core.events import (
    CLIENT_GONE,
    CONNECT_FAILED,
    CONNECTED,
    GRANTED,
    RESET,
    START,
    Connect,
    Event,
    Finish,
    Head,
    Reject,
    Relay,
    Stage,
    TimedOut,
    Wait,
)
from router.core.exchange import Exchange
from router.core.retry.back_off import BackOff, RateLimited
from router.core.retry.policy import RETRY_ON_NAMES, RetryOn, RetryPolicy
from router.core.routing import StringMatch, Timeouts
from router.core.states import State
from router.core.trace import RecordingTrace
from tests.core.world import World, request, snapshot

TRY = TimedOut(Stage.FIRST_BYTE)
DUE = TimedOut(Stage.BACK_OFF)


def head(status: int, **fields: str) -> Head:
    lines = [f"HTTP/1.1 {status} X"]
    lines += [f"{name.replace('_', '-').title()}: {value}" for name, value in fields.items()]
    return Head(status, lines="\r\n".join([*lines, ""]).encode())


LIMITED = {"x_envoy_ratelimited": "true"}
# Failures by name, and the causes that retry them (Envoy 1.40's retry matrix, observed).
FAILURES: list[tuple[Event, str]] = [
    (head(500), "5xx"),
    (head(502), "5xx gateway-error"),
    (head(503), "5xx gateway-error"),
    (head(504), "5xx gateway-error"),
    (head(409), "retriable-4xx"),
    (head(429), ""),
    (head(429, **LIMITED), "envoy-ratelimited"),
    (head(503, **LIMITED), "envoy-ratelimited"),
    (head(418), "retriable-status-codes"),
    (head(200, x_retry_me="1"), "retriable-headers"),
    (head(200, grpc_status="1"), "cancelled"),
    (head(200, grpc_status="4"), "deadline-exceeded"),
    (head(200, grpc_status="8"), "resource-exhausted"),
    (head(200, grpc_status="13"), "internal"),
    (head(200, grpc_status="14"), "unavailable"),
    (RESET, "5xx gateway-error reset"),
    (TRY, "5xx gateway-error reset"),
    (CONNECT_FAILED, "5xx gateway-error reset reset-before-request connect-failure"),
    (TimedOut(Stage.CONNECT), "5xx gateway-error reset reset-before-request connect-failure"),
    (TimedOut(Stage.TOTAL), ""),
]


@pytest.mark.parametrize("cause", RETRY_ON_NAMES)
def test_each_cause_covers_what_it_covers_in_envoy(cause: str) -> None:
    policy = RetryPolicy(
        on=RETRY_ON_NAMES[cause],
        status_codes=frozenset({418}),
        headers=(("x-retry-me", StringMatch("present")),),
    )
    for event, causes in FAILURES:
        world = World(snapshot(2, retry=policy))
        exchange, _ = world.begin()
        before_request = isinstance(event, TimedOut) and event.stage is Stage.CONNECT
        if event is not CONNECT_FAILED and not before_request:
            world.feed(exchange, CONNECTED)
        effect = world.feed(exchange, event)
        assert isinstance(effect, Connect) is (cause in causes.split()), (cause, event)


def test_a_wait_is_random_and_doubles_up_to_its_bound() -> None:
    """Envoy, measured with base 100 ms and maximum 400 ms: means of 47, 107, 201, 211 ms."""
    back_off = BackOff(base=0.1, maximum=0.4)
    policy = RetryPolicy(attempts=5, on=RetryOn.FIVE_XX, back_off=back_off)
    waits: list[list[float]] = [[] for _ in range(5)]
    for seed in range(400):
        world = World(snapshot(1, retry=policy), seed)
        exchange, _ = world.begin()
        for attempt in range(5):
            world.feed(exchange, CONNECTED)
            effect = world.feed(exchange, Head(500))
            if isinstance(effect, Wait):
                assert effect.stage is Stage.BACK_OFF
                waits[attempt].append(effect.timeout)
                effect = world.feed(exchange, DUE)
            else:  # shorter than what timers can tell
                waits[attempt].append(0.0)
            assert isinstance(effect, Connect)
    for drawn, ceiling in zip(waits, (0.1, 0.2, 0.4, 0.4, 0.4), strict=True):
        assert max(drawn) < ceiling
        assert max(drawn) > 0.95 * ceiling
        assert sum(drawn) / len(drawn) == pytest.approx(ceiling / 2, rel=0.1)


WAITS = RetryPolicy(back_off=BackOff(base=9, maximum=9))


def waiting(world: World, *events: Event) -> tuple[Exchange, Wait]:
    exchange, _ = world.begin()
    for event in events or (CONNECT_FAILED,):
        effect = world.feed(exchange, event)
    assert isinstance(effect, Wait)
    assert exchange.state is State.BACKING_OFF
    return exchange, effect


def test_who_waits_holds_no_endpoint_and_no_place_but_a_part_of_the_budget() -> None:
    world = World(snapshot(1, retry=WAITS, breaker=CircuitBreaker(max_connections=1)))
    exchange, _ = waiting(world)
    places = world.director.places("c")
    assert (world.in_flight(), places.in_flight, places.budget.in_flight) == ([0], 0, 1)
    # Somebody else takes the place meanwhile, so the retry has to stand in line.
    other, effect = world.begin()
    assert isinstance(effect, Connect)
    assert isinstance(world.feed(exchange, DUE), Wait)
    assert exchange.queued
    world.feed(other, CLIENT_GONE)
    assert world.director.next_granted() is exchange
    assert isinstance(world.feed(exchange, GRANTED), Connect)
    assert exchange.attempt == 2
    assert exchange.queued_for == pytest.approx(0.002)
    world.feed(exchange, CLIENT_GONE)
    assert (places.in_flight, places.budget.in_flight) == (0, 0)


def test_a_client_that_leaves_ends_the_wait_at_once() -> None:
    world = World(snapshot(1, retry=WAITS))
    exchange, _ = waiting(world)
    assert world.feed(exchange, CLIENT_GONE) == Finish(None)
    assert (exchange.flag, world.director.places("c").budget.in_flight) == ("DC", 0)


def test_the_total_ends_a_wait() -> None:
    world = World(snapshot(1, retry=WAITS, timeouts=Timeouts(total=1)))
    exchange, _ = waiting(world)
    effect = world.feed(exchange, TimedOut(Stage.TOTAL))
    assert isinstance(effect, Reject)
    assert isinstance(effect.error, errors.UpstreamTimeout)
    assert world.director.places("c").budget.in_flight == 0


def test_there_is_no_wait_before_an_endpoint_that_has_not_been_asked() -> None:
    world = World(snapshot(2, retry=WAITS))
    exchange, _ = world.begin()
    assert isinstance(world.feed(exchange, CONNECT_FAILED), Connect)
    assert isinstance(world.feed(exchange, CONNECT_FAILED), Wait)
    assert len(set(exchange.tried)) == 2
    always = World(snapshot(2, retry=RetryPolicy(back_off=BackOff(base=9, maximum=9, always=True))))
    waiting(always)
    anyone = World(snapshot(2, retry=RetryPolicy(back_off=WAITS.back_off, previous_hosts=False)))
    waiting(anyone)


def test_without_previous_hosts_the_balancer_decides_alone() -> None:
    policy = RetryPolicy(attempts=1, previous_hosts=False, back_off=None)
    world = World(snapshot(2, retry=policy))
    second: list[bool] = []
    for _ in range(4):
        exchange, _ = world.begin()
        world.feed(exchange, CONNECT_FAILED)
        second.append(exchange.tried[0] == exchange.tried[1])
        world.begin()  # shifts the rotation by one, so that a retry lands where the first try did
        world.feed(exchange, CLIENT_GONE)
    assert not all(second)
    one = World(snapshot(1, retry=policy))
    exchange, _ = one.begin()
    assert isinstance(one.feed(exchange, CONNECT_FAILED), Connect)


SENT = {"date": "Sat, 21 Nov 2026 12:00:00 GMT"}
ASKED: list[tuple[dict[str, str], float | None]] = [
    ({"retry_after": "2"}, 2),
    ({"retry_after": "0"}, None),
    ({"retry_after": "400"}, None),  # longer than the maximum: not heeded
    ({"retry_after": "soon"}, None),
    ({"retry_after": "Sat, 21 Nov 2026 12:00:07 GMT", **SENT}, 7),
    ({"retry_after": "Sat, 21 Nov 2026 12:00:07 GMT"}, None),
    ({"retry_after_ms": "1500"}, 1.5),
    ({"x_ratelimit_reset": "1795262410", **SENT}, 10),
    ({"x_ratelimit_reset": "1795262410"}, None),
    ({"retry_after": "inf", "retry_after_ms": "30"}, 0.03),
    ({}, None),
]


@pytest.mark.parametrize(("fields", "seconds"), ASKED)
def test_what_an_endpoint_asks_for(fields: dict[str, str], seconds: float | None) -> None:
    limited = RateLimited(
        headers=(
            ("retry-after", "seconds"),
            ("retry-after-ms", "milliseconds"),
            ("x-ratelimit-reset", "unix_timestamp"),
        ),
        maximum=300,
    )
    assert limited.asked(head(503, **fields).lines) == seconds


def test_a_retry_at_the_same_endpoint_heeds_its_retry_after() -> None:
    """Envoy: between once and one and a half times what was asked for."""
    policy = RetryPolicy(attempts=1, on=RetryOn.FIVE_XX)
    waits = []
    for seed in range(100):
        world = World(snapshot(1, retry=policy), seed)
        _, effect = waiting(world, CONNECTED, head(503, retry_after="2"))
        waits.append(effect.timeout)
        assert world.director.places("c").budget.named_waits == 1
    assert 2 <= min(waits) < 2.1
    assert 2.9 < max(waits) < 3
    # Another endpoint has asked for nothing.
    world = World(snapshot(2, retry=policy))
    exchange, _ = world.begin()
    world.feed(exchange, CONNECTED)
    assert isinstance(world.feed(exchange, head(503, retry_after="2")), Connect)


def test_a_wait_that_the_total_does_not_allow_is_not_begun() -> None:
    policy = RetryPolicy(attempts=1, on=RetryOn.FIVE_XX)
    world = World(snapshot(1, retry=policy, timeouts=Timeouts(total=2)))
    exchange, _ = world.begin()
    world.feed(exchange, CONNECTED)
    assert isinstance(world.feed(exchange, head(503, retry_after="2")), Relay)
    assert (exchange.status, exchange.flag) == (503, "-")


def test_requests_that_lack_the_header_are_not_retried() -> None:
    policy = RetryPolicy(request_headers=(("x-again", StringMatch("exact", "yes")),))
    for headers, retried in [(((b"x-again", b"yes"),), True), (((b"x-again", b"no"),), False)]:
        world = World(snapshot(2, retry=policy))
        exchange, _ = world.begin(headers=headers)
        effect = world.feed(exchange, CONNECT_FAILED)
        assert isinstance(effect, Connect) is retried
        assert exchange.flag == ("-" if retried else "UF")


def test_max_retries_takes_the_place_of_the_budget() -> None:
    """Envoy, observed: of eight that fail at once with max_retries 2, two are retried."""
    policy = RetryPolicy(
        attempts=1, on=RetryOn.FIVE_XX, budget_percent=100, back_off=WAITS.back_off
    )
    world = World(snapshot(1, retry=policy, breaker=CircuitBreaker(max_retries=2)))
    exchanges = [world.begin()[0] for _ in range(8)]
    for exchange in exchanges:
        world.feed(exchange, CONNECTED)
    effects = [world.feed(exchange, Head(503)) for exchange in exchanges]
    assert [isinstance(effect, Wait) for effect in effects] == [True] * 2 + [False] * 6
    assert [exchange.flag for exchange in exchanges] == ["-"] * 2 + ["UO"] * 6


def test_a_streamed_body_is_not_sent_again_and_the_trace_says_so() -> None:
    trace = RecordingTrace()
    world = World(snapshot(2))
    exchange = world.director.begin(request(), 0.0, trace)
    exchange.feed(START, 0.0)
    exchange.replayable = False
    assert isinstance(world.feed(exchange, CONNECT_FAILED), Reject)
    assert trace.refusals == ["the body was streamed: it is larger than limits.buffer_body"]
    assert world.director.places("c").budget.unreplayable == 1


def test_an_idle_attempt_is_retried_before_the_head_and_cut_after_it() -> None:
    """Envoy's per_try_idle_timeout, observed: 504 UT before the head, 200 UT cut in the body."""
    policy = RetryPolicy(attempts=1, on=RetryOn.FIVE_XX, per_try_idle_timeout=0.2)
    world = World(snapshot(2, retry=policy, timeouts=Timeouts(first_byte=60, idle=20)))
    exchange, effect = world.begin()
    assert isinstance(effect, Connect)
    assert effect.first_byte_timeout == 0.2
    world.feed(exchange, CONNECTED)
    assert isinstance(world.feed(exchange, TRY), Connect)
    world.feed(exchange, CONNECTED)
    assert world.feed(exchange, Head(200)) == Relay(0.2)
    effect = world.feed(exchange, TimedOut(Stage.IDLE))
    assert isinstance(effect, Finish)
    assert isinstance(effect.error, errors.UpstreamTimeout)
    assert (exchange.status, exchange.flag) == (200, "UT")


def test_the_ceiling_stays_finite() -> None:
    assert BackOff(base=1, maximum=3).ceiling(2000) == 3

"""The life of a request, told as timelines."""

import pytest

from router.core import errors
from router.core.admission.breaker import CircuitBreaker
from router.core.balancers.prefix_hash import PrefixHash
from router.core.errors import LeaseError
from router.core.events import (
    CANCEL,
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
    Reset,
    Stage,
    TimedOut,
    Wait,
)
from router.core.exchange import Exchange
from router.core.host import Lease, Outcome
from router.core.model import AdminState
from router.core.retry.policy import RetryOn, RetryPolicy
from router.core.routing import Destination, Matcher, Route, RouteTable, Timeouts
from router.core.snapshot import Snapshot
from router.core.states import TERMINAL, IllegalEvent, State
from router.core.transitions import TRANSITIONS
from tests.core.world import World, hosts, request, snapshot


def connected(world: World) -> Exchange:
    exchange, effect = world.begin()
    assert isinstance(effect, Connect)
    world.feed(exchange, CONNECTED)
    return exchange


def test_a_request_that_goes_well() -> None:
    world = World(snapshot(1, timeouts=Timeouts(connect=2, first_byte=60, idle=20)))
    exchange, effect = world.begin()
    assert effect == Connect(world.host(0).endpoint, 1, 2, 60)
    assert world.in_flight() == [1]
    assert isinstance(world.feed(exchange, CONNECTED), Wait)
    assert world.feed(exchange, Head(200)) == Relay(20)
    assert repr(exchange) == "<Exchange r STREAMING attempt=1 status=200 flag=->"
    assert world.feed(exchange, COMPLETE) == Finish(None)
    assert exchange.state is State.DONE
    assert world.in_flight() == [0]
    assert world.host(0).outcomes[Outcome.SUCCESS] == 1
    assert not world.director.active


def test_a_dead_endpoint_is_passed_over_for_another() -> None:
    world = World(snapshot(3))
    exchange, first = world.begin()
    second = world.feed(exchange, CONNECT_FAILED)
    third = world.feed(exchange, CONNECT_FAILED)
    assert isinstance(first, Connect)
    assert isinstance(second, Connect)
    assert isinstance(third, Connect)
    assert len({first.endpoint.id, second.endpoint.id, third.endpoint.id}) == 3
    assert sum(world.in_flight()) == 1
    # Two retries by default; the third failure is final.
    effect = world.feed(exchange, CONNECT_FAILED)
    assert isinstance(effect, Reject)
    assert isinstance(effect.error, errors.ConnectFailure)
    assert exchange.flag == "UF,URX"
    assert world.in_flight() == [0, 0, 0]
    assert world.director.places("c").budget.in_flight == 0


RETRIED = [
    # retry_on, event before the head, retried?   (Envoy 1.40's retry matrix, observed)
    (RetryOn.FIVE_XX, Head(500), True),
    (RetryOn.GATEWAY_ERROR, Head(500), False),
    (RetryOn.GATEWAY_ERROR, Head(503), True),
    (RetryOn.FIVE_XX, Head(503), True),
    (RetryOn.RESET, Head(503), False),
    (RetryOn.CONNECT_FAILURE, Head(503), False),
    (RetryOn.FIVE_XX, Head(409), False),
    (RetryOn.FIVE_XX, Head(429), False),
    (RetryOn.RETRIABLE_STATUS_CODES, Head(418), True),
    (RetryOn.RETRIABLE_STATUS_CODES, Head(500), False),
    (RetryOn.FIVE_XX, RESET, True),
    (RetryOn.GATEWAY_ERROR, RESET, True),
    (RetryOn.RESET, RESET, True),
    (RetryOn.CONNECT_FAILURE, RESET, False),
    (RetryOn.FIVE_XX, CONNECT_FAILED, True),
    (RetryOn.GATEWAY_ERROR, CONNECT_FAILED, True),
    (RetryOn.RESET, CONNECT_FAILED, True),
    (RetryOn.CONNECT_FAILURE, CONNECT_FAILED, True),
    (RetryOn.RETRIABLE_STATUS_CODES, CONNECT_FAILED, False),
    (RetryOn.FIVE_XX, TimedOut(Stage.FIRST_BYTE), True),
    (RetryOn.GATEWAY_ERROR, TimedOut(Stage.FIRST_BYTE), True),
    (RetryOn.RESET, TimedOut(Stage.FIRST_BYTE), True),
    (RetryOn.CONNECT_FAILURE, TimedOut(Stage.FIRST_BYTE), False),
    (RetryOn.FIVE_XX, TimedOut(Stage.TOTAL), False),
    (RetryOn.NONE, RESET, False),
]


@pytest.mark.parametrize(("on", "event", "retried"), RETRIED)
def test_retry_matrix(on: RetryOn, event: Head | Reset | TimedOut, retried: bool) -> None:
    policy = RetryPolicy(on=on, status_codes=frozenset({418}))
    world = World(snapshot(2, retry=policy))
    exchange, _ = world.begin()
    if event is not CONNECT_FAILED:
        world.feed(exchange, CONNECTED)
    effect = world.feed(exchange, event)
    assert isinstance(effect, Connect) is retried
    assert exchange.attempt == 1 + retried


def test_the_last_attempts_response_goes_down_as_it_is() -> None:
    world = World(snapshot(2, retry=RetryPolicy(attempts=1, on=RetryOn.FIVE_XX)))
    exchange = connected(world)
    assert isinstance(world.feed(exchange, Head(503)), Connect)
    world.feed(exchange, CONNECTED)
    assert isinstance(world.feed(exchange, Head(503)), Relay)
    assert (exchange.status, exchange.flag) == (503, "URX")
    world.feed(exchange, COMPLETE)
    assert sum(host.outcomes[Outcome.STATUS_ERROR] for host in world.fleet.hosts.values()) == 2


def test_a_body_that_is_gone_cannot_be_sent_again() -> None:
    world = World(snapshot(2))
    exchange = connected(world)
    exchange.replayable = False
    assert isinstance(world.feed(exchange, RESET), Reject)


def test_the_budget_bounds_retries_that_fail_together() -> None:
    """Envoy's arithmetic: with 39 others active and 20 percent, 7 retries at one time."""
    world = World(snapshot(2, retry=RetryPolicy(attempts=1, budget_percent=20)))
    exchanges = [connected(world) for _ in range(40)]
    effects = [world.feed(exchange, RESET) for exchange in exchanges]
    assert sum(isinstance(effect, Connect) for effect in effects) == 7
    places = world.director.places("c")
    assert places.budget.in_flight == 7
    assert places.budget.overflow == 33
    assert sum(exchange.flag == "UC,UO" for exchange in exchanges) == 33
    for exchange in exchanges:
        if not exchange.over:
            world.feed(exchange, CLIENT_GONE)
    assert places.budget.in_flight == 0


def test_after_the_first_byte_nothing_is_retried() -> None:
    world = World(snapshot(2, retry=RetryPolicy(on=RetryOn.FIVE_XX)))
    exchange = connected(world)
    world.feed(exchange, Head(200))
    effect = world.feed(exchange, RESET)
    assert isinstance(effect, Finish)
    assert isinstance(effect.error, errors.UpstreamReset)
    assert (exchange.status, exchange.flag) == (200, "UC")
    assert world.in_flight() == [0, 0]


@pytest.mark.parametrize(
    ("event", "error", "flag"),
    [
        (TimedOut(Stage.IDLE), errors.StreamIdle, "SI"),
        (TimedOut(Stage.TOTAL), errors.UpstreamTimeout, "UT"),
        (Reset(protocol=True), errors.UpstreamProtocolError, "UPE"),
        (CANCEL, errors.Cancelled, "LR"),
    ],
)
def test_a_stream_that_is_cut_ends_as_an_error(
    event: TimedOut | Reset, error: type[errors.RouterError], flag: str
) -> None:
    world = World(snapshot(1))
    exchange = connected(world)
    world.feed(exchange, Head(200))
    effect = world.feed(exchange, event)
    assert isinstance(effect, Finish)
    assert isinstance(effect.error, error)
    assert exchange.flag == flag


def test_the_pending_queue_is_served_in_order_and_bounded() -> None:
    breaker = CircuitBreaker(max_connections=1, max_pending=2)
    world = World(snapshot(2, breaker=breaker, timeouts=Timeouts(queue=9)))
    running, _ = world.begin(id="a")
    second, effect = world.begin(id="b")
    assert effect == Wait(9)
    third, _ = world.begin(id="c")
    fourth, effect = world.begin(id="d")
    assert isinstance(effect, Reject)
    assert (effect.error.status, effect.error.flag) == (503, "UO")
    assert "max_pending of 2" in effect.error.message
    assert world.director.next_granted() is None

    # The one in front leaves: its place in line goes to the next.
    world.feed(second, CLIENT_GONE)
    world.feed(running, CLIENT_GONE)
    granted = world.director.next_granted()
    assert granted is third
    assert isinstance(world.feed(third, GRANTED), Connect)
    assert third.queued_for > 0
    assert world.director.next_granted() is None
    assert world.director.places("c").queue.waiting == 0
    assert fourth.over


def test_waiting_too_long_in_line() -> None:
    world = World(snapshot(1, breaker=CircuitBreaker(max_connections=1)))
    world.begin()
    exchange, _ = world.begin()
    effect = world.feed(exchange, TimedOut(Stage.QUEUE))
    assert isinstance(effect, Reject)
    assert effect.error.code == "queue_timeout"
    assert world.director.places("c").queue.waiting == 0


def test_max_requests_refuses_at_once() -> None:
    world = World(snapshot(1, breaker=CircuitBreaker(max_requests=3)))
    effects = [world.begin()[1] for _ in range(6)]
    assert [isinstance(effect, Connect) for effect in effects] == [True] * 3 + [False] * 3


def test_nobody_up_is_503_with_retry_after_and_drained_is_never_used() -> None:
    world = World(snapshot(2))
    world.fleet.set_admin(world.host(0).id, AdminState.DRAIN)
    for _ in range(10):
        world.begin()
    assert world.in_flight() == [0, 10]
    world.fleet.set_admin(world.host(1).id, AdminState.MAINT)
    exchange, effect = world.begin()
    assert isinstance(effect, Reject)
    assert isinstance(effect.error, errors.NoHealthyUpstream)
    assert (exchange.flag, effect.error.retry_after) == ("UH", 1)


def test_panic_ignores_health_below_the_threshold() -> None:
    world = World(snapshot(3))
    world.fleet.set_health(world.host(0).id, False)
    hosts_ = world.director.traffic("c").hosts
    assert [h.id for h in hosts_.usable()] == ["c/h1:80", "c/h2:80"]
    world.fleet.set_health(world.host(1).id, False)
    assert len(hosts_.usable()) == 3
    assert hosts_.panic
    never = World(snapshot(3, panic_threshold=0.0))
    for index in range(3):
        never.fleet.set_health(never.host(index).id, False)
    assert isinstance(never.begin()[1], Reject)


def test_unknown_models_and_paths_are_told_apart() -> None:
    to = (Destination("c"),)
    host = Route(name="h", match=Matcher(host="inner"), destinations=to)
    route = Route(name="m", match=Matcher(model="llama", methods=("POST",)), destinations=to)
    plain = snapshot(1)
    world = World(Snapshot(generation=1, clusters=plain.clusters, routes=RouteTable([host, route])))
    assert isinstance(world.begin(model="llama")[1], Connect)
    assert isinstance(world.begin(model="lama", authority="inner")[1], Connect)
    for fields, code, param in [
        ({"model": "lama"}, "model_not_found", "model"),
        ({"model": "llama", "method": "PUT"}, "route_not_found", None),
        ({"model": None, "body_bytes": 2}, None, "model"),
        ({"model": None, "path": "/x", "method": "GET"}, "route_not_found", None),
    ]:
        effect = world.begin(**fields)[1]
        assert isinstance(effect, Reject)
        assert (effect.error.code, effect.error.param) == (code, param)


def test_a_reload_keeps_what_was_learned_and_who_waits() -> None:
    breaker = CircuitBreaker(max_connections=1, max_pending=5)
    world = World(snapshot(1, balancer=PrefixHash.Spec(), breaker=breaker))
    running, _ = world.begin(prefix_hash=1 << 50)
    waiting, _ = world.begin(prefix_hash=2 << 50)
    world.director.update(snapshot(3, balancer=PrefixHash.Spec(), breaker=breaker, generation=2))
    assert world.in_flight() == [1, 0, 0]
    world.feed(running, CLIENT_GONE)
    assert world.director.next_granted() is waiting
    effect = world.feed(waiting, GRANTED)
    assert isinstance(effect, Connect)
    assert sum(world.in_flight()) == 1


def test_endpoints_that_leave_keep_their_leases_and_find_them_when_back() -> None:
    world = World(snapshot(2))
    exchange = connected(world)
    assert exchange.lease is not None
    host = exchange.lease.host
    world.director.update(snapshot(0, generation=2))
    assert world.fleet.leaving == {host.id: host}
    world.director.update(snapshot(2, generation=3))
    assert world.fleet.hosts[host.id] is host
    assert host.in_flight == 1
    world.feed(exchange, Head(200))
    world.feed(exchange, COMPLETE)
    assert world.in_flight() == [0, 0]


def test_a_lease_is_released_once() -> None:
    host = hosts(1)[0]
    lease = Lease(host, 0.0)
    lease.release(Outcome.SUCCESS)
    assert repr(lease) == "<Lease c/h0:80 released since=0>"
    with pytest.raises(LeaseError):
        lease.release(Outcome.SUCCESS)
    assert (host.in_flight, host.total) == (0, 1)


def test_the_table_has_no_way_out_of_an_end_and_every_state_can_lose_its_client() -> None:
    assert not [state for state, _ in TRANSITIONS if state in TERMINAL]
    for state in set(State) - TERMINAL - {State.NEW}:
        assert (state, CLIENT_GONE.kind) in TRANSITIONS
        assert (state, CANCEL.kind) in TRANSITIONS


def test_an_illegal_event_raises() -> None:
    world = World(snapshot(1))
    exchange = world.director.begin(request(), 0.0)
    with pytest.raises(IllegalEvent, match="HEAD in NEW"):
        exchange.feed(Head(200), 0.0)

"""Faults on purpose, told as timelines; order and flags are those of Envoy's fault filter."""

import pytest

from router.core import errors
from router.core.cluster import CircuitBreaker
from router.core.events import (
    CANCEL,
    CLIENT_GONE,
    COMPLETE,
    CONNECTED,
    GRANTED,
    MARK,
    STAND_BY,
    Connect,
    Finish,
    Head,
    Hold,
    Reject,
    Relay,
    Reset,
    Stage,
    Stall,
    TimedOut,
    Wait,
)
from router.core.exchange import Exchange
from router.core.fault import Abort, Cut, Delay, Fault
from router.core.fault import Stall as StallFault
from router.core.health.outlier import Outlier
from router.core.host import Outcome
from router.core.routing import StringMatch, Timeouts
from router.core.states import State
from tests.core.world import World, snapshot

HELD = TimedOut(Stage.HOLD)


def streaming(world: World, status: int = 200, **fields: bool) -> tuple[Exchange, object]:
    exchange, effect = world.begin(**({"stream": True} | fields))
    assert isinstance(effect, Connect)
    world.feed(exchange, CONNECTED)
    return exchange, world.feed(exchange, Head(status))


def test_a_delay_comes_before_the_search_for_a_place() -> None:
    world = World(snapshot(1, fault=Fault(delay=Delay(5.0))))
    exchange, effect = world.begin()
    assert effect == Hold(5.0)
    assert exchange.state is State.DELAYED
    assert world.in_flight() == [0]
    assert world.director.faults("all").active == 1

    world.clock.advance(5)
    assert isinstance(world.feed(exchange, HELD), Connect)
    assert world.director.faults("all").active == 0
    world.feed(exchange, CONNECTED)
    world.feed(exchange, Head(200))
    world.feed(exchange, COMPLETE)
    assert (exchange.status, exchange.flag) == (200, "DI")
    assert world.director.faults("all").injected == {"delay": 1, "abort": 0, "cut": 0, "stall": 0}


def test_the_wait_in_line_does_not_count_the_delay() -> None:
    breaker = CircuitBreaker(max_connections=1)
    world = World(snapshot(1, breaker=breaker, fault=Fault(delay=Delay(5.0))))
    first, _ = world.begin()
    second, _ = world.begin()
    world.clock.advance(5)
    assert isinstance(world.feed(first, HELD), Connect)
    assert isinstance(world.feed(second, HELD), Wait)
    world.clock.advance(2)
    world.feed(first, CLIENT_GONE)
    world.feed(second, GRANTED)
    assert second.queued_for == pytest.approx(2.0, abs=0.01)


def test_a_delay_is_followed_by_the_abort() -> None:
    world = World(snapshot(1, fault=Fault(delay=Delay(1.0), abort=Abort(555))))
    exchange, effect = world.begin()
    assert effect == Hold(1.0)
    effect = world.feed(exchange, HELD)
    assert isinstance(effect, Reject)
    assert effect.error.status == 555
    assert (exchange.status, exchange.flag) == (555, "DI,FI")
    assert world.host(0).total == 0
    assert not world.director.active


def test_an_abort_asks_no_endpoint() -> None:
    world = World(snapshot(1, fault=Fault(abort=Abort(503))))
    exchange, effect = world.begin()
    assert isinstance(effect, Reject)
    assert isinstance(effect.error, errors.InjectedAbort)
    assert "fault.abort" in effect.error.message
    assert (exchange.status, exchange.flag) == (503, "FI")
    assert world.host(0).total == 0


def test_percentages_are_drawn_each_for_itself() -> None:
    fault = Fault(delay=Delay(1.0, 30), abort=Abort(500, 50), max_active=10_000)
    world = World(snapshot(1, fault=fault, breaker=CircuitBreaker(max_requests=10_000)))
    delayed = aborted = both = 0
    for _ in range(2000):
        exchange, effect = world.begin()
        held = isinstance(effect, Hold)
        if held:
            effect = world.feed(exchange, HELD)
        delayed += held
        aborted += isinstance(effect, Reject)
        both += held and isinstance(effect, Reject)
        if not exchange.over:
            world.feed(exchange, CLIENT_GONE)
    assert delayed / 2000 == pytest.approx(0.3, abs=0.04)
    assert aborted / 2000 == pytest.approx(0.5, abs=0.04)
    assert both / 2000 == pytest.approx(0.15, abs=0.03)


def test_only_requests_that_meet_the_condition() -> None:
    condition = (("x-chaos", StringMatch("exact", "on")),)
    world = World(snapshot(1, fault=Fault(abort=Abort(500), headers=condition)))
    assert isinstance(world.begin(headers=((b"x-chaos", b"on"),))[1], Reject)
    exchange, effect = world.begin(headers=((b"x-chaos", b"off"),))
    assert isinstance(effect, Connect)
    assert exchange.injection is None
    assert isinstance(world.begin()[1], Connect)


def test_no_more_than_max_active_are_held_at_a_time() -> None:
    world = World(snapshot(1, fault=Fault(delay=Delay(9.0), max_active=2)))
    held = [world.begin() for _ in range(2)]
    assert [effect for _, effect in held] == [Hold(9.0)] * 2
    exchange, effect = world.begin()
    assert isinstance(effect, Connect)
    assert world.director.faults("all").overflow == 1
    world.feed(exchange, CLIENT_GONE)
    assert exchange.flag == "DC"
    world.feed(held[0][0], CLIENT_GONE)
    assert held[0][0].flag == "DC,DI"
    assert world.begin()[1] == Hold(9.0)


@pytest.mark.parametrize("event", [CLIENT_GONE, CANCEL])
def test_who_leaves_during_the_delay_holds_nothing(event: object) -> None:
    world = World(snapshot(1, fault=Fault(delay=Delay(60.0))))
    exchange, _ = world.begin()
    world.feed(exchange, event)  # type: ignore[arg-type]
    assert exchange.over
    assert world.director.faults("all").active == 0
    assert not world.director.active


def test_a_clock_that_was_set_before_does_not_end_the_delay() -> None:
    world = World(snapshot(1, fault=Fault(delay=Delay(60.0))))
    exchange, _ = world.begin()
    assert world.feed(exchange, TimedOut(Stage.FIRST_BYTE)) is STAND_BY
    assert exchange.state is State.DELAYED


# --- streams ----------------------------------------------------------------------------------


def test_a_stream_is_cut_and_the_endpoint_is_not_blamed() -> None:
    world = World(snapshot(1, fault=Fault(cut=Cut(3)), outlier=Outlier(consecutive_truncated=1)))
    exchange, effect = streaming(world)
    assert effect == Relay(120.0, 3)
    effect = world.feed(exchange, MARK)
    assert isinstance(effect, Finish)
    assert isinstance(effect.error, errors.UpstreamReset)
    assert (exchange.status, exchange.flag) == (200, "FI")
    host = world.host(0)
    assert host.outcomes[Outcome.ABANDONED] == 1
    assert host.outcomes[Outcome.TRUNCATED] == 0
    assert not any(world.fleet.failures.values())  # type: ignore[attr-defined]


def test_a_stream_stalls_and_goes_on_to_its_cut() -> None:
    world = World(snapshot(1, fault=Fault(stall=StallFault(2, 7.0), cut=Cut(5))))
    exchange, effect = streaming(world)
    assert effect == Relay(120.0, 2)
    assert world.feed(exchange, MARK) == Stall(7.0)
    assert world.director.faults("all").active == 1
    assert world.feed(exchange, HELD) == Relay(120.0, 5)
    assert world.director.faults("all").active == 0
    assert isinstance(world.feed(exchange, MARK), Finish)
    assert exchange.flag == "DI,FI"


def test_a_stalled_stream_is_still_bound_by_the_total_and_by_its_engine() -> None:
    fault = Fault(stall=StallFault(1, 60.0))
    world = World(snapshot(1, fault=fault, timeouts=Timeouts(total=10)))
    for event, flag in ((TimedOut(Stage.TOTAL), "UT,DI"), (Reset(), "UC,DI")):
        exchange, _ = streaming(world)
        assert isinstance(world.feed(exchange, MARK), Stall)
        assert isinstance(world.feed(exchange, event), Finish)
        assert exchange.flag == flag
        assert world.director.faults("all").active == 0


def test_without_room_a_stream_is_not_stalled() -> None:
    world = World(snapshot(1, fault=Fault(stall=StallFault(1, 60.0), max_active=0)))
    exchange, _ = streaming(world)
    assert world.feed(exchange, MARK) == Relay(120.0, 0)
    assert world.director.faults("all").overflow == 1
    world.feed(exchange, COMPLETE)
    assert exchange.flag == "-"


@pytest.mark.parametrize(("status", "stream"), [(500, True), (200, False)])
def test_only_good_streams_are_tampered_with(status: int, stream: bool) -> None:
    world = World(snapshot(1, fault=Fault(cut=Cut(1))))
    assert streaming(world, status, stream=stream)[1] == Relay(120.0)


def test_counts_survive_a_reload_as_long_as_the_route_does() -> None:
    fault = Fault(abort=Abort(500))
    world = World(snapshot(1, fault=fault))
    world.begin()
    world.director.update(snapshot(1, fault=fault, generation=2))
    assert world.director.faults("all").injected["abort"] == 1

"""An engine that says it is full is spared until the time it named, and never more than that."""

from collections import Counter

import pytest

from router.core.balancers.least_request import LeastRequest
from router.core.balancers.round_robin import RoundRobin
from router.core.events import COMPLETE, CONNECTED, Connect, Head
from router.core.fleet import Fleet
from router.core.health.strain import BackPressure
from tests.core.world import World, endpoint, snapshot

FULL = [Head(429, retry_after=5.0), Head(503, retry_after=5.0)]


def serve(world: World, head: Head) -> int:
    """One request, answered with ``head``; returns which endpoint it went to."""
    exchange, effect = world.begin()
    assert isinstance(effect, Connect)
    for event in (CONNECTED, head, COMPLETE):
        world.feed(exchange, event)
    return int(effect.endpoint.host[1:])


def picks(world: World, count: int) -> Counter[int]:
    return Counter(serve(world, Head(200)) for _ in range(count))


@pytest.mark.parametrize("full", FULL)
@pytest.mark.parametrize("balancer", [RoundRobin.Spec(), LeastRequest.Spec()])
def test_it_gets_nothing_until_the_time_it_named(full, balancer) -> None:
    world = World(snapshot(3, balancer=balancer))
    first = serve(world, full)
    assert set(picks(world, 100)) == {0, 1, 2} - {first}
    world.clock.advance(5)
    assert set(picks(world, 100)) == {0, 1, 2}


def test_what_the_engine_says_is_bounded_and_has_a_default() -> None:
    policy = BackPressure(default=2.0, minimum=0.5, maximum=10.0)
    assert [policy.spared(said) for said in (None, 0.0, 3.0, 3600.0)] == [2.0, 0.5, 3.0, 10.0]


@pytest.mark.parametrize(
    "head", [Head(503), Head(500, retry_after=5.0), Head(404, retry_after=5.0), Head(200)]
)
def test_other_answers_are_no_push_back(head) -> None:
    world = World(snapshot(3))
    for _ in range(3):
        serve(world, head)
    assert not any(host.pushed_until for host in world.fleet.hosts.values())


def test_when_all_push_back_the_one_that_comes_back_first_serves() -> None:
    """Never an outage by itself: somebody is always asked, and it need not be the same one."""
    world = World(snapshot(3))
    for seconds in (20.0, 10.0, 15.0):
        serve(world, Head(429, retry_after=seconds))
    soonest = min(world.fleet.hosts.values(), key=lambda host: host.pushed_until)
    assert set(picks(world, 20)) == {int(soonest.endpoint.host[1:])}
    # It pushes back again, for longer: then the next one is the least pushed.
    serve(world, Head(429, retry_after=30.0))
    assert soonest.pushed_until > 29
    assert int(soonest.endpoint.host[1:]) not in picks(world, 20)


def test_off_means_that_nothing_is_spared() -> None:
    world = World(snapshot(3, back_pressure=None))
    serve(world, Head(429, retry_after=5.0))
    assert set(picks(world, 30)) == {0, 1, 2}


def test_a_later_time_is_told_on_once_not_with_every_answer() -> None:
    told: list[float] = []
    fleet = Fleet(tell_pushed=lambda id_, until: told.append(until))
    fleet.reconcile(iter([endpoint("h0"), endpoint("h1")]))
    host = next(iter(fleet.hosts.values()))
    for until in (1.0, 1.1, 1.2, 2.0, 1.5):
        fleet.push_back(host, until)
    assert told == [1.0, 2.0]
    assert host.pushed_until == 2.0


def test_what_another_worker_was_told_holds_here_too() -> None:
    world = World(snapshot(2))
    world.fleet.set_pushed(world.host(0).id, 5.0)
    assert picks(world, 10) == {1: 10}
    world.clock.advance(5)
    assert set(picks(world, 10)) == {0, 1}


def test_the_time_that_is_due_is_always_that_of_the_next_end() -> None:
    world = World(snapshot(2))
    world.fleet.set_pushed(world.host(0).id, 5.0)
    world.fleet.set_pushed(world.host(0).id, 9.0)
    world.fleet.pass_time(5.0)
    assert world.host(0).pushed_until == 9.0 and world.fleet.strain.due == 9.0
    world.fleet.pass_time(9.0)
    assert world.host(0).pushed_until == 0.0 and world.fleet.strain.due == float("inf")

"""Circuit breakers: by priority, for each endpoint, of retries; and what the refused are told."""

from typing import Any

import pytest

from router.core import errors
from router.core.admission.breaker import CircuitBreaker, EndpointLimits, QueuePolicy, Thresholds
from router.core.balancers.least_request import LeastRequest
from router.core.balancers.ring_hash import RingHash
from router.core.events import (
    CLIENT_GONE,
    COMPLETE,
    CONNECTED,
    DISPLACED,
    GRANTED,
    Connect,
    Effect,
    Head,
    Reject,
    Stage,
    TimedOut,
    Wait,
)
from router.core.exchange import Exchange
from router.core.model import AdminState, Priority
from router.core.retry.policy import RetryOn, RetryPolicy
from router.core.shared_load import KnownLoad
from tests.core.world import World, snapshot


def world(size: int = 2, **fields: Any) -> World:
    return World(snapshot(size, **fields))


def refusal(effect: Effect) -> errors.RouterError:
    assert isinstance(effect, Reject)
    return effect.error


def grants(world: World) -> list[Exchange]:
    granted = []
    while (exchange := world.director.next_granted(world.clock.now())) is not None:
        world.feed(exchange, GRANTED)
        granted.append(exchange)
    return granted


def finish(world: World, exchange: Exchange) -> None:
    world.feed(exchange, CONNECTED)
    world.feed(exchange, Head(200))
    world.feed(exchange, COMPLETE)


class TestEachEndpoint:
    def test_as_envoys_per_host_thresholds(self) -> None:
        """One endpoint, two connections, four at once: all are served, two of them wait."""
        breaker = CircuitBreaker(per_endpoint=EndpointLimits(max_connections=2))
        scene = world(1, breaker=breaker)
        exchanges = [scene.begin() for _ in range(4)]
        assert [type(effect) for _, effect in exchanges] == [Connect, Connect, Wait, Wait]
        finish(scene, exchanges[0][0])
        assert grants(scene) == [exchanges[2][0]]
        assert scene.in_flight() == [2]

    def test_a_full_endpoint_is_no_candidate(self) -> None:
        breaker = CircuitBreaker(per_endpoint=EndpointLimits(max_connections=1))
        scene = world(3, breaker=breaker, balancer=RingHash.Spec())
        _, effect = scene.begin(prefix_hash=5, headers=((b"x", b"y"),))
        begun = [scene.begin(prefix_hash=5, headers=((b"x", b"y"),)) for _ in range(3)]
        assert isinstance(effect, Connect)
        assert scene.in_flight() == [1, 1, 1]
        assert "others are full" in begun[0][0].reason
        assert isinstance(begun[2][1], Wait)

    def test_max_requests_refuses_when_all_are_full(self) -> None:
        scene = world(2, breaker=CircuitBreaker(per_endpoint=EndpointLimits(max_requests=1)))
        scene.begin()
        scene.begin()
        error = refusal(scene.begin()[1])
        assert (error.status, error.flag) == (503, "UO")
        assert "max_requests of 1 at every endpoint" in error.message

    def test_other_workers_count(self) -> None:
        scene = world(1, breaker=CircuitBreaker(per_endpoint=EndpointLimits(max_connections=3)))
        host = scene.host(0)
        host.shared = KnownLoad({host.slot: 2})
        assert isinstance(scene.begin()[1], Connect)
        assert isinstance(scene.begin()[1], Wait)

    def test_an_unhealthy_cluster_refuses_instead_of_waiting(self) -> None:
        scene = world(1, breaker=CircuitBreaker(per_endpoint=EndpointLimits(max_connections=1)))
        scene.fleet.set_admin(scene.host(0).id, AdminState.MAINT)
        assert refusal(scene.begin()[1]).flag == "UH"

    def test_a_retry_takes_the_place_that_its_attempt_gave_back(self) -> None:
        scene = world(
            2,
            breaker=CircuitBreaker(per_endpoint=EndpointLimits(max_connections=1)),
            retry=RetryPolicy(on=RetryOn.FIVE_XX, attempts=1),
            balancer=LeastRequest.Spec(),
        )
        first, _ = scene.begin()
        scene.begin()
        scene.feed(first, CONNECTED)
        assert isinstance(scene.feed(first, Head(500)), Connect)
        assert scene.in_flight() == [1, 1]


class TestPriorities:
    BREAKER = CircuitBreaker(max_connections=1, max_pending=1, high=Thresholds(max_connections=2))

    def test_high_has_places_of_its_own(self) -> None:
        scene = world(breaker=self.BREAKER)
        effects = [scene.begin(priority=Priority.HIGH)[1] for _ in range(3)]
        assert [type(effect) for effect in effects] == [Connect, Connect, Wait]
        effects = [scene.begin(priority=Priority.NORMAL)[1] for _ in range(3)]
        assert [type(effect) for effect in effects] == [Connect, Wait, Reject]
        assert scene.director.places("c").in_flight == 1
        assert scene.director.places("c", high=True).in_flight == 2

    def test_without_thresholds_of_its_own_it_goes_first(self) -> None:
        scene = world(breaker=CircuitBreaker(max_connections=1))
        running, _ = scene.begin()
        low, _ = scene.begin(priority=Priority.LOW)
        normal, _ = scene.begin()
        high, _ = scene.begin(priority=Priority.HIGH)
        order = []
        while running is not low:
            scene.feed(running, CLIENT_GONE)
            [running] = grants(scene)
            order.append(running)
        assert order == [high, normal, low]

    def test_thresholds_come_and_go_with_reloads(self) -> None:
        scene = world(breaker=self.BREAKER)
        high = [scene.begin(priority=Priority.HIGH)[0] for _ in range(3)]
        plain = snapshot(2, breaker=CircuitBreaker(max_connections=1), generation=2)
        scene.director.update(plain)
        assert isinstance(scene.begin(priority=Priority.HIGH)[1], Connect)
        for exchange in high:
            scene.feed(exchange, CLIENT_GONE)
        assert scene.director.places("c").in_flight == 1
        scene.director.update(snapshot(2, breaker=self.BREAKER, generation=3))
        assert scene.director.places("c", high=True).in_flight == 0


def test_max_retries_bounds_retries_beside_the_budget() -> None:
    """As observed of Envoy: max_retries 2, eight failing at once: two are tried again."""
    scene = world(
        breaker=CircuitBreaker(max_retries=2),
        retry=RetryPolicy(on=RetryOn.FIVE_XX, attempts=1, budget_percent=100),
    )
    exchanges = [scene.begin()[0] for _ in range(8)]
    for exchange in exchanges:
        scene.feed(exchange, CONNECTED)
    effects = [scene.feed(exchange, Head(503)) for exchange in exchanges]
    assert sum(isinstance(effect, Connect) for effect in effects) == 2


class TestRefusals:
    def saturated(self, **policy: Any) -> World:
        """One place, given free four times at one second each, while somebody waits."""
        scene = world(
            1,
            breaker=CircuitBreaker(max_connections=1, max_pending=6),
            queue=QueuePolicy(**policy),
        )
        exchanges = [scene.begin(tenant=f"earlier {n}")[0] for n in range(5)]
        for exchange in exchanges[:4]:
            scene.clock.advance(1.0)
            finish(scene, exchange)
            grants(scene)
            scene.director.places("c").rate(scene.clock.now())
        return scene

    def test_retry_after_is_the_place_in_line_by_the_measured_rate(self) -> None:
        scene = self.saturated()
        for _ in range(6):
            scene.begin()
        error = refusal(scene.begin()[1])
        assert error.status == 503 and b"x-envoy-overloaded: true" in error.headers
        assert error.retry_after == pytest.approx(7, abs=1)

    def test_it_is_clamped(self) -> None:
        scene = self.saturated(max_retry_after=3.0)
        for _ in range(6):
            scene.begin()
        assert refusal(scene.begin()[1]).retry_after == 3
        fresh = world(breaker=CircuitBreaker(max_pending=0, max_connections=1))
        fresh.begin()
        assert refusal(fresh.begin()[1]).retry_after == 1

    def test_429_where_configured(self) -> None:
        scene = self.saturated(refuse_with=429)
        waiting = [scene.begin()[0] for _ in range(6)]
        error = refusal(scene.begin()[1])
        assert (error.status, error.flag, error.code) == (429, "UO", "overloaded")
        error = refusal(scene.feed(waiting[0], TimedOut(Stage.QUEUE)))
        assert (error.status, error.flag, error.code) == (429, "UT", "queue_timeout")
        assert error.retry_after == pytest.approx(7, abs=1)

    def test_shedding(self) -> None:
        scene = self.saturated(shed_above=2.5)
        effects = [scene.begin()[1] for _ in range(4)]
        assert [type(effect) for effect in effects] == [Wait, Wait, Reject, Reject]
        error = refusal(effects[2])
        assert "a wait of" in error.message and error.flag == "UO"
        # A tenant that has nobody waiting would wait less.
        assert isinstance(scene.begin(tenant="other")[1], Wait)
        assert scene.director.places("c").rejected == {"shed": 2}

    def test_the_routes_deadline_bounds_what_is_promised(self) -> None:
        scene = self.saturated(shed_above=25.0)
        # Thirty seconds in the queue are the default; with two, the third in line is in vain.
        assert isinstance(scene.begin()[1], Wait)

    def test_max_per_tenant(self) -> None:
        scene = self.saturated(max_per_tenant=2)
        effects = [scene.begin(tenant="a")[1] for _ in range(3)]
        assert [type(effect) for effect in effects] == [Wait, Wait, Reject]
        assert "max_per_tenant of 2" in refusal(effects[2]).message
        assert isinstance(scene.begin(tenant="b")[1], Wait)

    def test_the_displaced_are_told(self) -> None:
        scene = self.saturated()
        flood = [scene.begin(tenant="flood")[0] for _ in range(6)]
        _, effect = scene.begin(tenant="b")
        assert isinstance(effect, Wait)
        loser = scene.director.next_displaced()
        assert loser is flood[-1] and scene.director.next_displaced() is None
        error = refusal(scene.feed(loser, DISPLACED))
        assert (error.status, error.flag) == (503, "UO") and error.retry_after == pytest.approx(
            7, abs=1
        )
        assert scene.director.places("c").queue.waiting == 6

    def test_who_left_before_being_told_is_not(self) -> None:
        scene = self.saturated()
        flood = [scene.begin(tenant="flood")[0] for _ in range(6)]
        scene.begin(tenant="b")
        scene.feed(flood[-1], CLIENT_GONE)
        assert scene.director.next_displaced() is None
        assert scene.director.places("c").queue.waiting == 6

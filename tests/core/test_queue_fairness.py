"""A flooding tenant delays itself: a simulation in virtual time.

Four places, each request holds one for half a second to a second and a half: about four grants a
second. Three tenants send a request every two seconds, a fourth twenty a second for a minute.

The bound for a tenant that never has more than one request waiting: before it go at most one
request of each other tenant, and a turn by age after every three of those.
"""

import heapq
import random
from collections import defaultdict
from itertools import count
from statistics import mean
from typing import Any

import pytest

from router.core.admission.breaker import CircuitBreaker, QueuePolicy
from router.core.admission.fair_queue import AGED_TURN
from router.core.director import Director
from router.core.events import (
    COMPLETE,
    CONNECTED,
    DISPLACED,
    GRANTED,
    START,
    Connect,
    Effect,
    Head,
    Reject,
    Stage,
    TimedOut,
    Wait,
)
from router.core.exchange import Exchange
from router.core.fleet import Fleet
from router.core.model import Priority
from router.core.routing import Timeouts
from tests.core.world import request, snapshot

PLACES = 4
POLITE = ("a", "b", "c")
DEADLINE = 30.0


class Simulation:
    """Arrivals, answers and deadlines in the order of their times."""

    def __init__(self, policy: QueuePolicy, max_pending: int = 200, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.director = Director(
            snapshot(
                2,
                breaker=CircuitBreaker(max_connections=PLACES, max_pending=max_pending),
                queue=policy,
                timeouts=Timeouts(queue=DEADLINE),
            ),
            Fleet(),
            self.rng,
        )
        self.now = 0.0
        self.waits: dict[str, list[float]] = defaultdict(list)
        self.refused: dict[str, int] = defaultdict(int)
        self.overtaken: dict[int, int] = {}
        self.worst: dict[str, int] = defaultdict(int)
        self._agenda: list[tuple[float, int, Any]] = []
        self._serial = count()

    def at(self, time: float, action: Any) -> None:
        heapq.heappush(self._agenda, (time, next(self._serial), action))

    def run(self) -> "Simulation":
        while self._agenda:
            self.now, _, action = heapq.heappop(self._agenda)
            action()
            self._grant()
        assert not self.director.active
        assert self.director.places("c").in_flight == 0
        assert self.director.places("c").queue.waiting == 0
        return self

    def arrivals(self, tenant: str, per_second: float, until: float, **fields: Any) -> None:
        moment = self.rng.random() / per_second
        while moment < until:
            self.at(moment, lambda: self._arrive(tenant=tenant, **fields))
            moment += 1 / per_second

    def _arrive(self, **fields: Any) -> None:
        exchange = self.director.begin(request(**fields), self.now)
        self._follow(exchange, exchange.feed(START, self.now))
        while (loser := self.director.next_displaced()) is not None:
            self._follow(loser, loser.feed(DISPLACED, self.now))

    def _follow(self, exchange: Exchange, effect: Effect) -> None:
        tenant = str(exchange.request.tenant)
        if isinstance(effect, Wait):
            self.overtaken[exchange.serial] = 0
            self.at(self.now + effect.timeout, lambda: self._deadline(exchange))
        elif isinstance(effect, Reject):
            assert effect.error.retry_after is not None and effect.error.retry_after >= 1
            self.refused[tenant] += 1
        elif isinstance(effect, Connect):
            self.waits[tenant].append(exchange.queued_for)
            exchange.feed(CONNECTED, self.now)
            exchange.feed(Head(200), self.now)
            service = 0.5 + self.rng.random()
            self.at(self.now + service, lambda: exchange.feed(COMPLETE, self.now))

    def _deadline(self, exchange: Exchange) -> None:
        if exchange.queued:
            self._follow(exchange, exchange.feed(TimedOut(Stage.QUEUE), self.now))

    def _grant(self) -> None:
        while (exchange := self.director.next_granted(self.now)) is not None:
            tenant = str(exchange.request.tenant)
            self.worst[tenant] = max(self.worst[tenant], self.overtaken.pop(exchange.serial))
            for serial in self.overtaken:
                self.overtaken[serial] += 1
            self._follow(exchange, exchange.feed(GRANTED, self.now))


def flooded(policy: QueuePolicy, seed: int, **options: Any) -> Simulation:
    simulation = Simulation(policy, seed=seed, **options)
    for tenant in POLITE:
        simulation.arrivals(tenant, 0.5, until=60.0)
    simulation.arrivals("flood", 20.0, until=60.0)
    return simulation.run()


@pytest.mark.parametrize("seed", range(5))
def test_a_flooding_tenant_delays_itself(seed: int) -> None:
    seen = flooded(QueuePolicy(), seed)
    others = len(POLITE)  # the flood and the other two
    bound = others + others // (AGED_TURN - 1) + 1
    for tenant in POLITE:
        assert not seen.refused[tenant]
        assert len(seen.waits[tenant]) == 30
        assert seen.worst[tenant] <= bound
        assert max(seen.waits[tenant]) < 3.0
    assert seen.refused["flood"] > 500
    assert mean(seen.waits["flood"]) > 10 * max(mean(seen.waits[t]) for t in POLITE)


def test_without_shares_everybody_waits_for_the_flood() -> None:
    seen = flooded(QueuePolicy(fair_by=()), 1)
    assert max(max(seen.waits[tenant]) for tenant in POLITE) > 20.0


@pytest.mark.parametrize("policy", [QueuePolicy(), QueuePolicy(max_per_tenant=5)])
def test_a_flood_cannot_fill_the_queue(policy: QueuePolicy) -> None:
    seen = flooded(policy, 3, max_pending=12)
    assert not any(seen.refused[tenant] for tenant in POLITE)


def test_low_priority_does_not_starve_below_a_flood_of_high() -> None:
    """Once they are five seconds old its requests share every fourth grant with aged others."""
    simulation = Simulation(QueuePolicy(), max_pending=1000, seed=2)
    simulation.arrivals("urgent", 8.0, until=60.0, priority=Priority.HIGH)
    simulation.arrivals("batch", 0.4, until=60.0, priority=Priority.LOW)
    seen = simulation.run()
    assert not seen.refused["batch"]
    assert min(seen.waits["batch"][5:]) > 4.0
    assert max(seen.waits["batch"]) < DEADLINE


def test_shedding_refuses_those_who_would_wait_in_vain() -> None:
    """Low priority stands behind all others, and so is refused first."""
    simulation = Simulation(QueuePolicy(shed_above=3.0, refuse_with=429), seed=4)
    simulation.arrivals("normal", 4.0, until=60.0)
    simulation.arrivals("batch", 4.0, until=60.0, priority=Priority.LOW)
    seen = simulation.run()
    assert seen.refused["batch"] > 5 * seen.refused["normal"]
    assert simulation.director.places("c").rejected["deadline"] == 0
    assert max(seen.waits["normal"]) < 3.0 * 2

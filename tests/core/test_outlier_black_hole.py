"""An endpoint that fails at once has nothing in flight, and so looks least loaded.

Unless its failures go on counting it draws the traffic to itself: a black hole. Simulated in
virtual time: 20 requests a second, three engines that take a second for each, one that answers 500
at once.
"""

import heapq
import random
from collections import Counter
from itertools import count
from typing import Any

import pytest

from router.core.balancers.least_request import LeastRequest
from router.core.balancers.maglev import Maglev
from router.core.balancers.peak_ewma import PeakEwma
from router.core.balancers.prefix_hash import PrefixHash
from router.core.balancers.random import RandomChoice
from router.core.balancers.ring_hash import RingHash
from router.core.balancers.round_robin import RoundRobin
from router.core.director import Director
from router.core.events import COMPLETE, CONNECTED, START, Connect, Effect, Finish, Head, Relay
from router.core.exchange import Exchange
from router.core.fleet import Fleet
from router.core.health.detector import OutlierDetector, OutlierEvent
from router.core.health.outlier import Detector, Outlier
from router.core.health.strain import MAX_SCARS
from router.core.model import EndpointId
from router.core.retry.policy import RetryOn, RetryPolicy
from tests.core.world import endpoint, request, snapshot

BAD = endpoint("h0").id
RATE = 20.0


class Simulation:
    """Arrivals, answers and ticks in the order of their times."""

    def __init__(self, policy: Outlier | None, seed: int = 1, **cluster: Any) -> None:
        self.rng = random.Random(seed)
        self.fleet = Fleet(suspect=self.suspect)
        self.director = Director(snapshot(4, outlier=policy, **cluster), self.fleet, self.rng)
        self.detector = None if policy is None else OutlierDetector(policy, self.rng)
        if self.detector is not None and policy is not None:
            self.detector.reconcile(self.fleet.hosts, policy)
            self.interval = policy.interval
        self.now = 0.0
        self.bad = {BAD}
        self.attempts: Counter[EndpointId] = Counter()
        self.answers: Counter[int] = Counter()
        self._agenda: list[tuple[float, int, Any]] = []
        self._serial = count()
        self._at(0.0, self._arrive)
        if self.detector is not None:
            self._at(self.interval, self._tick)

    def _at(self, time: float, action: Any) -> None:
        heapq.heappush(self._agenda, (time, next(self._serial), action))

    def run(self, until: float) -> "Simulation":
        while self._agenda[0][0] <= until:
            self.now, _, action = heapq.heappop(self._agenda)
            action()
        return self

    def _arrive(self) -> None:
        exchange = self.director.begin(request(prefix_hash=self.rng.getrandbits(64)), self.now)
        self._do(exchange, exchange.feed(START, self.now))
        self._at(self.now + self.rng.expovariate(RATE), self._arrive)

    def _do(self, exchange: Exchange, effect: Effect) -> None:
        if isinstance(effect, Connect):
            self.attempts[effect.endpoint.id] += 1
            exchange.feed(CONNECTED, self.now)
            bad = effect.endpoint.id in self.bad
            head = Head(500 if bad else 200)
            self._at(
                self.now + (0.001 if bad else self.rng.uniform(0.5, 1.5)),
                lambda: self._do(exchange, exchange.feed(head, self.now)),
            )
        elif isinstance(effect, Relay):
            self._do(exchange, exchange.feed(COMPLETE, self.now))
        elif isinstance(effect, Finish):
            self.answers[exchange.status] += 1

    def suspect(self, id_: EndpointId, detector: Detector) -> None:
        assert self.detector is not None
        self._enforce(self.detector.suspected(id_, detector, self.now))

    def _tick(self) -> None:
        assert self.detector is not None
        self._enforce(self.detector.tick({}, self.now))
        self._at(self.now + self.interval, self._tick)

    def _enforce(self, events: list[OutlierEvent]) -> None:
        for event in events:
            if event.action == "uneject":
                self.fleet.failures[self.fleet.hosts[event.endpoint].slot] = 0
            if event.action == "uneject" or event.enforced:
                self.fleet.set_ejected(event.endpoint, event.action == "eject")

    def share(self, id_: EndpointId) -> float:
        return self.attempts[id_] / self.attempts.total()


SELECTIONS = ["n_choices", "full_scan"]


# The most of the traffic that an endpoint may get which answers nothing but 500, outlier detection
# being off: its fair share is a quarter.
WITHOUT_DETECTION = [
    (LeastRequest.Spec(), 0.09),  # 1 in 16 draws finds nobody else
    (LeastRequest.Spec(selection="full_scan"), 0.05),
    (PeakEwma.Spec(), 0.03),
    (PrefixHash.Spec(), 0.05),
    (PrefixHash.Spec(new_sessions="hash"), 0.27),
    (RoundRobin.Spec(), 0.26),
    (RandomChoice.Spec(), 0.27),
    (RingHash.Spec(hash_balance_factor=125), 0.27),
    (Maglev.Spec(table_size=1009), 0.27),
]


@pytest.mark.parametrize(("balancer", "most"), WITHOUT_DETECTION)
def test_without_detection_too_the_broken_one_is_no_black_hole(balancer, most):
    simulation = Simulation(None, balancer=balancer).run(300)
    assert simulation.share(BAD) < most


def test_without_detection_it_gets_its_share_again_once_it_works():
    simulation = Simulation(None, balancer=LeastRequest.Spec(selection="full_scan")).run(120)
    simulation.bad = set()
    simulation.run(200)
    simulation.attempts.clear()
    simulation.run(300)
    assert 0.22 < simulation.share(BAD) < 0.28
    assert not simulation.fleet.hosts[BAD].scars


def test_failures_that_still_count_are_bounded():
    simulation = Simulation(None, balancer=RoundRobin.Spec()).run(300)
    host = simulation.fleet.hosts[BAD]
    assert host.scars == MAX_SCARS
    assert len(simulation.fleet.strain._heap) == MAX_SCARS


@pytest.mark.parametrize("selection", SELECTIONS)
def test_with_the_defaults_it_gets_next_to_nothing(selection):
    simulation = Simulation(Outlier(), balancer=LeastRequest.Spec(selection=selection)).run(600)
    assert simulation.share(BAD) < 0.005
    assert simulation.answers[500] < 0.005 * simulation.answers.total()
    # What it gets is five at a time, ever more rarely.
    assert simulation.attempts[BAD] == 5 * simulation.detector.records[BAD].ejections
    others = [simulation.share(id_) for id_ in simulation.fleet.hosts if id_ != BAD]
    assert all(0.30 < share < 0.36 for share in others)


def test_with_retries_too_no_client_sees_it():
    simulation = Simulation(
        Outlier(),
        balancer=LeastRequest.Spec(),
        retry=RetryPolicy(on=RetryOn.FIVE_XX, min_retry_concurrency=10),
    ).run(600)
    assert simulation.answers[500] == 0
    assert simulation.answers[200] > 11_000


def test_once_it_works_again_it_gets_its_share_again():
    simulation = Simulation(Outlier(), balancer=LeastRequest.Spec()).run(100)
    assert simulation.fleet.hosts[BAD].ejected
    simulation.bad = set()
    simulation.run(250)
    assert not simulation.fleet.hosts[BAD].ejected
    simulation.attempts.clear()
    simulation.run(350)
    assert 0.22 < simulation.share(BAD) < 0.28


def test_when_all_fail_at_once_half_of_them_stay():
    """No more are ejected than the policy allows, and clients get the engines' own answer."""
    simulation = Simulation(Outlier(), balancer=LeastRequest.Spec())
    simulation.bad = set(simulation.fleet.hosts)
    simulation.run(100)
    assert sum(host.ejected for host in simulation.fleet.hosts.values()) == 2
    assert set(simulation.answers) == {500}


def test_an_engine_that_says_it_is_full_is_not_at_fault():
    """429, or 503 with Retry-After, thousands of times: neither a failure nor a success."""
    simulation = Simulation(Outlier(consecutive_5xx=3), balancer=LeastRequest.Spec())
    for head in [Head(429), Head(503, retry_after=1.0)] * 50:
        for _ in range(4):
            exchange = simulation.director.begin(request(), 0.0)
            exchange.feed(START, 0.0)
            exchange.feed(CONNECTED, 0.0)
            exchange.feed(head, 0.0)
            exchange.feed(COMPLETE, 0.0)
    assert simulation.detector.detected == {}
    assert not any(simulation.fleet.failures[host.slot] for host in simulation.fleet.hosts.values())

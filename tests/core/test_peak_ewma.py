"""Peak EWMA: one endpoint's latency over time, then whole clusters by a discrete-event run."""

import heapq
import random
from collections import Counter
from itertools import count

import pytest

from router.core.balancers.base import Balancer, BalancerSpec
from router.core.balancers.least_request import LeastRequest
from router.core.balancers.peak_ewma import PeakEwma
from router.core.duration import Interval
from router.core.events import (
    CLIENT_GONE,
    COMPLETE,
    CONNECT_FAILED,
    CONNECTED,
    RESET,
    START,
    Connect,
    Head,
    Stage,
    TimedOut,
)
from router.core.exchange import Exchange
from router.core.host import HostState, Latency, Lease, Outcome
from router.core.memory import ClusterMemory
from router.core.retry.policy import RetryPolicy
from tests.core.world import World, hosts, request, snapshot

SPEC = PeakEwma.Spec(tau=Interval(10), initial=Interval(0.1), penalty=Interval(10))
ONCE = RetryPolicy(attempts=0)


def build(spec: BalancerSpec = SPEC) -> Balancer:
    return spec.build(random.Random(1), ClusterMemory.alone(64))


# --- one endpoint ------------------------------------------------------------------------------

TIMELINES = [
    # (time, sample or None), what is expected after each
    ("unknown", [(0, None, 0.1), (1000, None, 0.1)]),
    ("a peak counts at once", [(1, 0.2, 0.2), (1.1, 5.0, 5.0)]),
    ("a good sample hardly helps at once", [(1, 5.0, 5.0), (1.1, 0.2, 4.952)]),
    ("after tau it counts for 63 %", [(1, 5.0, 5.0), (11, 0.2, 1.966)]),
    (
        "a peak is forgotten",
        [(1, 5.0, 5.0), (11, None, 1.903), (31, None, 0.344), (101, None, 0.1)],
    ),
    ("a fast one stays", [(100, 0.01, 0.01), (110, None, 0.01), (200, None, 0.01)]),
    ("two samples at one time: the higher", [(50, 0.4, 0.4), (50, 0.3, 0.4), (50, 0.5, 0.5)]),
]


@pytest.mark.parametrize(("name", "steps"), TIMELINES, ids=[name for name, _ in TIMELINES])
def test_latency(name: str, steps: list[tuple[float, float | None, float]]) -> None:
    latency = Latency(tau=10, initial=0.1, penalty=10)
    for now, sample, expected in steps:
        if sample is not None:
            latency.observe(sample, now)
        assert latency.estimate(now) == pytest.approx(expected, abs=0.001)


def alone(world: World) -> Latency:
    latency = world.host(0).latency
    assert latency is not None
    return latency


def started(world: World, wait: float) -> Exchange:
    """An attempt that has waited so long; the world is 1000 s old, the past is forgotten."""
    world.clock.advance(1000)
    exchange, effect = world.begin()
    assert isinstance(effect, Connect)
    world.feed(exchange, CONNECTED)
    world.clock.advance(wait)
    return exchange


def test_the_first_byte_of_the_body_is_the_sample_not_the_head() -> None:
    world = World(snapshot(1, balancer=SPEC))
    exchange = started(world, 0.2)
    world.feed(exchange, Head(200))
    world.clock.advance(3)
    exchange.first_byte(world.clock.now())
    assert alone(world).estimate(world.clock.now()) == pytest.approx(3.2, abs=0.01)
    world.clock.advance(60)  # how long the stream is says nothing
    before = alone(world).estimate(world.clock.now())
    exchange.first_byte(world.clock.now())
    world.feed(exchange, COMPLETE)
    assert alone(world).estimate(world.clock.now()) == pytest.approx(before, abs=0.01)


AFTER = [
    # what ends the attempt after 0.5 s, the latency it counts for
    ("an answer without a body", [Head(200), COMPLETE], 0.5),
    ("404 says nothing", [Head(404), COMPLETE], 0.1),
    ("429 is a penalty", [Head(429), COMPLETE], 10),
    ("500 is a penalty", [Head(500), COMPLETE], 10),
    ("a reset is a penalty", [RESET], 10),
    ("a stream that is cut is a penalty", [Head(200), RESET], 10),
    ("a client that leaves says nothing", [CLIENT_GONE], 0.1),
    ("a time-out is a penalty", [TimedOut(Stage.FIRST_BYTE)], 10),
]


@pytest.mark.parametrize(("name", "events", "expected"), AFTER, ids=[row[0] for row in AFTER])
def test_what_an_attempt_teaches(name: str, events: list[Head], expected: float) -> None:
    world = World(snapshot(1, balancer=SPEC, retry=ONCE))
    exchange = started(world, 0.5)
    for event in events:
        world.feed(exchange, event)
    assert exchange.over
    assert alone(world).estimate(world.clock.now()) == pytest.approx(expected, abs=0.01)


def test_waiting_longer_than_the_penalty_counts_for_what_it_was() -> None:
    world = World(snapshot(1, balancer=SPEC, retry=ONCE))
    world.feed(started(world, 300), TimedOut(Stage.FIRST_BYTE))
    assert alone(world).estimate(world.clock.now()) == pytest.approx(300, abs=0.1)


def test_what_was_learned_survives_a_reload_with_other_settings() -> None:
    world = World(snapshot(1, balancer=SPEC))
    exchange = started(world, 4)
    world.feed(exchange, Head(200))
    world.feed(exchange, COMPLETE)
    other = PeakEwma.Spec(tau=Interval(1))
    world.director.update(snapshot(1, balancer=other, generation=2))
    started(world, 0)
    assert alone(world).estimate(1004.0) == pytest.approx(4, abs=0.05)


def test_hosts_of_other_balancers_keep_no_latency() -> None:
    world = World(snapshot(1))
    world.feed(started(world, 1), RESET)
    assert world.host(0).latency is None


def test_weights_divide_the_cost() -> None:
    ring = hosts(4, 1)
    balancer, rng = build(), random.Random(1)
    for _ in range(500):
        balancer.pick(request(), ring, rng)[0].in_flight += 1
    assert ring[0].in_flight == 400


def test_the_explanation_shows_what_is_compared() -> None:
    ring = hosts(1, 2)
    balancer = build()
    assert isinstance(balancer, PeakEwma)
    balancer.pick(request(), ring, random.Random(1))
    assert ring[0].latency is not None
    ring[0].latency.observe(0.4, 5.0)
    ring[0].in_flight = 2
    scores = balancer.explain(request(), ring)
    assert scores.hosts[ring[0].id] == {"first_byte": 0.4, "cost": pytest.approx(1.2)}
    assert scores.hosts[ring[1].id] == {"first_byte": 0.1, "cost": pytest.approx(0.1)}


def test_a_retry_goes_elsewhere() -> None:
    ring = hosts(1, 1, 1)
    balancer, rng = build(), random.Random(1)
    for _ in range(50):
        tried = (ring[0].id, ring[2].id)
        assert balancer.pick(request(), ring, rng, tried)[0] is ring[1]


# --- clusters ----------------------------------------------------------------------------------


def run(
    balancer: Balancer,
    ring: tuple[HostState, ...],
    seconds: dict[int, float],
    *,
    rate: float = 20,
    until: float = 300,
    failing: int | None = None,
    begin: float = 0,
) -> tuple[Counter[int], float]:
    """Requests by chance at ``rate``; each host takes about ``seconds``, ``failing`` fails in 1 ms.

    Returns what each host got, and the mean time of the requests.
    """
    rng, picks, serial = random.Random(12345), Counter[int](), count()
    finishing: list[tuple[float, int, Lease]] = []
    now, spent = begin, 0.0
    while now < begin + until:
        now += rng.expovariate(rate)
        while finishing and finishing[0][0] <= now:
            end, _, lease = heapq.heappop(finishing)
            if lease.host.slot == failing:
                lease.release(Outcome.CONNECT_FAILURE, end)
            else:
                lease.first_byte(end)
                lease.release(Outcome.SUCCESS, end)
        host, _ = balancer.pick(request(), ring, rng, (), now)
        picks[host.slot] += 1
        took = 0.001 if host.slot == failing else seconds[host.slot] * rng.uniform(0.8, 1.2)
        spent += took
        heapq.heappush(finishing, (now + took, next(serial), Lease(host, now)))
    for _, _, lease in finishing:
        lease.release(Outcome.ABANDONED, now)
    return picks, spent / picks.total()


SLOW = {0: 0.1, 1: 0.1, 2: 0.1, 3: 0.5}


def test_an_endpoint_five_times_slower_gets_less_than_by_least_request() -> None:
    by_latency, mean = run(build(), hosts(1, 1, 1, 1), SLOW)
    by_load, other_mean = run(build(LeastRequest.Spec()), hosts(1, 1, 1, 1), SLOW)
    assert by_latency[3] < 0.6 * by_load[3]
    assert by_latency[3] > 20, "or nobody would see that it got better"
    assert mean < 0.93 * other_mean
    # Those that are alike share alike.
    fast = [by_latency[slot] for slot in range(3)]
    assert max(fast) - min(fast) < 0.15 * sum(fast)


def test_an_endpoint_that_fails_fast_is_no_black_hole() -> None:
    """Least request takes it for idle: a quarter and more. Here it is tried now and then."""
    seconds = dict.fromkeys(range(4), 0.3)
    by_latency, _ = run(build(), hosts(1, 1, 1, 1), seconds, failing=2)
    by_load, _ = run(build(LeastRequest.Spec()), hosts(1, 1, 1, 1), seconds, failing=2)
    assert by_load[2] / by_load.total() > 0.25
    assert 5 <= by_latency[2] < 0.01 * by_latency.total()


def test_an_endpoint_that_recovers_gets_its_share_again() -> None:
    ring, balancer = hosts(1, 1, 1, 1), build()
    during, _ = run(balancer, ring, SLOW | {3: 5.0}, until=60)
    after, _ = run(balancer, ring, SLOW | {3: 0.1}, begin=60, until=60)
    later, _ = run(balancer, ring, SLOW | {3: 0.1}, begin=120, until=120)
    assert during[3] / during.total() < 0.05
    assert after[3] / after.total() > 0.08
    assert 0.2 < later[3] / later.total() < 0.3


def test_a_new_endpoint_is_tried_but_does_not_get_everything() -> None:
    ring, balancer = hosts(1, 1, 1, 1), build()
    seconds = dict.fromkeys(range(4), 1.0)
    run(balancer, ring[:3], seconds, until=60)
    first, _ = run(balancer, ring, seconds, begin=60, until=1, rate=200)
    assert 0.2 < first[3] / first.total() < 0.55


def test_the_exchange_asks_again_when_a_connection_fails() -> None:
    world = World(snapshot(3, balancer=SPEC))
    exchange = world.director.begin(request(), 5.0)
    first = exchange.feed(START, 5.0)
    second = exchange.feed(CONNECT_FAILED, 5.1)
    assert isinstance(first, Connect)
    assert isinstance(second, Connect)
    assert first.endpoint != second.endpoint
    failed = world.fleet.hosts[first.endpoint.id].latency
    assert failed is not None
    assert failed.estimate(5.1) == pytest.approx(10)

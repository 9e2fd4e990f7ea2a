"""Endpoints that have just come, by a hand clock."""

import random
from collections import Counter

import pytest

from router.core.balancers.base import Balancer, BalancerSpec
from router.core.balancers.least_request import LeastRequest
from router.core.balancers.round_robin import RoundRobin
from router.core.balancers.slow_start import SlowStart, WarmUp
from router.core.duration import Interval
from router.core.host import HostState
from router.core.memory import ClusterMemory
from tests.core.world import hosts, request

SLOW = SlowStart(window=Interval(100))
SPECS: list[BalancerSpec] = [RoundRobin.Spec(slow_start=SLOW), LeastRequest.Spec(slow_start=SLOW)]
BOTH = pytest.mark.parametrize("spec", SPECS, ids=["round_robin", "least_request"])


def build(spec: BalancerSpec) -> Balancer:
    return spec.build(random.Random(1), ClusterMemory.alone(64))


def shares(
    balancer: Balancer, ring: tuple[HostState, ...], begin: float, end: float, rate: int = 20
) -> list[float]:
    """What each host got of evenly spaced requests that end at once."""
    rng, picks = random.Random(12345), Counter[int]()
    for number in range(round((end - begin) * rate)):
        picks[balancer.pick(request(), ring, rng, (), begin + number / rate)[0].slot] += 1
    return [picks[host.slot] / picks.total() for host in ring]


GROWTH = [
    # aggression, least percent, seconds since it came, expected share of the weight
    (1, 10, 0, 0.1),
    (1, 10, 5, 0.1),
    (1, 10, 50, 0.5),
    (1, 50, 25, 0.5),
    (2, 10, 25, 0.5),
    (0.5, 10, 50, 0.25),
    (1, 10, 100, 1.0),
    (1, 10, 500, 1.0),
]


@pytest.mark.parametrize(("aggression", "least", "since", "expected"), GROWTH)
def test_growth(aggression: float, least: float, since: float, expected: float) -> None:
    ring = hosts(1, 4)
    spec = SlowStart(window=Interval(100), aggression=aggression, min_weight_percent=least)
    warm_up = WarmUp(spec)
    warm_up.follow(ring[:1], 1000)
    warm_up.follow(ring, 2000)
    warm_up.over(2000 + since)
    assert warm_up.weight(ring[0]) == 1
    assert warm_up.weight(ring[1]) == pytest.approx(4 * expected)


@BOTH
def test_a_new_endpoint_grows_into_its_share(spec: BalancerSpec) -> None:
    ring, balancer = hosts(1, 1, 1), build(spec)
    assert shares(balancer, ring[:2], 0, 10) == pytest.approx([0.5, 0.5], abs=0.1)
    at_first = shares(balancer, ring, 10, 20)[2]
    halfway = shares(balancer, ring, 20, 70)[2]
    assert at_first == pytest.approx(0.1 / 2.1, abs=0.02)
    assert at_first < 0.5 * halfway < 0.2
    shares(balancer, ring, 70, 111)
    assert shares(balancer, ring, 111, 200)[2] == pytest.approx(1 / 3, abs=0.05)
    assert balancer.pick(request(), ring, random.Random(1), (), 200)[1] in (
        "its turn",
        "less loaded",
    ), "the plain way is taken again"


@BOTH
def test_those_there_at_the_start_are_not_new(spec: BalancerSpec) -> None:
    balancer = build(spec)
    assert shares(balancer, hosts(1, 1), 0, 50) == pytest.approx([0.5, 0.5], abs=0.1)


@BOTH
def test_a_host_that_turns_healthy_starts_slowly(spec: BalancerSpec) -> None:
    ring, balancer = hosts(1, 1, 1), build(spec)
    shares(balancer, ring, 0, 10)
    shares(balancer, ring[:2], 10, 20)
    assert shares(balancer, ring, 20, 30)[2] < 0.1


def test_in_panic_unhealthy_hosts_are_not_new_but_they_are_when_they_recover() -> None:
    ring, balancer = hosts(1, 1, 1), build(SPECS[0])
    shares(balancer, ring, 0, 10)
    ring[2].healthy = False
    shares(balancer, ring[:2], 10, 20)
    assert shares(balancer, (*ring,), 20, 30)[2] == pytest.approx(1 / 3, abs=0.02)
    ring[2].healthy = True
    assert shares(balancer, (*ring,), 30, 40)[2] < 0.1


def test_another_change_does_not_begin_the_window_anew() -> None:
    ring, balancer = hosts(1, 1, 1), build(SPECS[0])
    shares(balancer, ring[:1], 0, 10)
    shares(balancer, ring[:2], 10, 100)
    got = shares(balancer, ring, 100, 105)
    assert got[1] > 0.7 * got[0]
    assert got[2] < 0.2 * got[0]

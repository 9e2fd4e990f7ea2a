"""Routers in front of modelled engines."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.core.admission.breaker import CircuitBreaker
from router.core.balancers.least_request import LeastRequest
from router.core.balancers.prefix_hash import PrefixHash
from router.core.routing import Timeouts
from router.sim.incident import Fail
from router.sim.measures import measure
from router.sim.outcome import End, Outcome
from router.sim.profile import OFF, PICOSECONDS
from router.sim.scenario import Policy
from router.sim.world import World
from tests.sim.worlds import ORACLE, ROUND_ROBIN, run, scenario, traffic

LEAST = Policy("least_request", LeastRequest.Spec(selection="full_scan"))
AFFINE = Policy("prefix_hash", PrefixHash.Spec())


def check(outcomes: list[Outcome], requests: int) -> None:
    """Every request ended once, in an order that can be."""
    assert sorted(one.arrival.key for one in outcomes) == list(range(1, requests + 1))
    for one in outcomes:
        assert one.crowd >= 1
        if one.end is End.DONE:
            assert one.arrival.at < one.first <= one.done
            assert 0 <= one.cached < one.arrival.prompt
            assert (one.first == one.done) == (one.arrival.answer == 1)
        else:
            assert one.done == -1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    policy=st.sampled_from([ROUND_ROBIN, LEAST, AFFINE, ORACLE]),
    rate=st.sampled_from([0.5, 4.0, 30.0]),
    routers=st.integers(1, 3),
    streaming=st.sampled_from([0.0, 0.5, 1.0]),
    limit=st.sampled_from([None, 6]),
    seed=st.integers(0, 5),
)
def test_every_request_ends_exactly_once(
    policy: Policy, rate: float, routers: int, streaming: float, limit: int | None, seed: int
) -> None:
    fields: dict[str, Any] = {}
    if limit is not None:
        fields["breaker"] = CircuitBreaker(max_connections=limit, max_pending=limit)
        fields["timeouts"] = Timeouts(queue=2.0, first_byte=0.0, idle=0.0)
    world = World(
        scenario(policy=policy, routers=routers, streaming=streaming, seed=seed, **fields),
        traffic(60, rate, seed),
    )
    check(world.run(), 60)
    for router in world.routers:
        assert not router.director.active
        assert all(host.in_flight == 0 for host in router.fleet.hosts.values())
    assert all(replica.engine.load == 0 for replica in world.replicas)


def test_a_seed_gives_the_same_run_again() -> None:
    fields = {"policy": LEAST, "routers": 2, "streaming": 0.5}
    asked = traffic(80, 6.0)
    once = run(asked, **fields)
    assert once == run(asked, **fields)
    assert once != run(asked, **fields | {"seed": 2})


@pytest.mark.parametrize("policy", [LEAST, AFFINE, ORACLE], ids=lambda policy: policy.name)
def test_jumping_over_steps_changes_no_outcome(policy: Policy) -> None:
    asked = traffic(80, 6.0)
    assert run(asked, policy=policy) == run(asked, policy=policy, jump=False)


def test_turns_go_where_their_history_is_with_affinity_and_not_without() -> None:
    asked = traffic(200, 0.02)  # never two at a time: nobody is sent elsewhere for the load
    homes = {
        policy.name: [
            len({one.replica for one in outcomes if one.arrival.conversation == session})
            for session in range(20)
        ]
        for policy in (ROUND_ROBIN, AFFINE)
        for outcomes in [run(asked, policy=policy)]
    }
    assert sorted(homes["round_robin"])[10] == 3
    assert sorted(homes["prefix_hash"])[10] == 1


def test_policies_come_out_in_their_order() -> None:
    asked = traffic(600, 11.0, sessions=60)
    figures = {
        policy.name: measure(run(asked, policy=policy), OFF, 10.0)
        for policy in (ROUND_ROBIN, LEAST, AFFINE, ORACLE)
    }
    ttft = {name: figure.ttft_mean for name, figure in figures.items()}
    assert ttft["oracle"] < min(ttft["least_request"], ttft["prefix_hash"])
    assert max(ttft["least_request"], ttft["prefix_hash"]) < ttft["round_robin"]
    hits = {name: figure.hit_rate for name, figure in figures.items()}
    assert hits["prefix_hash"] > 1.5 * hits["least_request"]


def test_the_queue_of_the_core_is_the_queue_here() -> None:
    # One at a time, and one may wait: of four that come together two are refused at once.
    asked = traffic(4, 1e6)
    limits = CircuitBreaker(max_connections=1, max_pending=1)
    outcomes = run(asked, breaker=limits)
    check(outcomes, 4)
    assert [one.end for one in outcomes].count(End.REFUSED) == 2
    first, second = (one for one in outcomes if one.end is End.DONE)
    assert second.first > first.done


def test_waiting_too_long_in_the_queue_is_a_refusal() -> None:
    asked = traffic(2, 1e6)
    outcomes = run(
        asked,
        breaker=CircuitBreaker(max_connections=1),
        timeouts=Timeouts(queue=0.01, first_byte=0.0, idle=0.0),
    )
    assert Counter(one.end for one in outcomes) == {End.DONE: 1, End.REFUSED: 1}


def test_a_prompt_beyond_an_engines_memory_is_the_engines_error() -> None:
    outcomes = run(traffic(3, 1.0), replicas=(OFF.scaled(1, 0.001),) * 2)
    assert {one.end for one in outcomes} == {End.FAILED}


def test_routers_read_the_engines_load() -> None:
    world = World(scenario(scrape=0.5), traffic(40, 50.0))
    seen = []
    for at in (1.0, 2.0):
        world.at(
            round(at * 1e12),
            lambda: seen.append([host.load for host in world.routers[0].fleet.hosts.values()]),
        )
    world.run()
    for at, loads in zip((1.0, 2.0), seen, strict=True):
        for load in loads:
            assert load is not None
            assert load.at == pytest.approx(at, abs=0.5)
            assert load.running > 0
            assert load.kv_usage is not None and 0 < load.kv_usage < 1


def test_shares_are_of_the_time_until_the_last_request_is_over() -> None:
    """A replica that comes back when nobody asks any more changes nothing."""
    arrivals = traffic(60, 2.0)
    calm = World(scenario(), arrivals)
    calm.run()
    end = calm.now / PICOSECONDS
    late = World(scenario(incidents=(Fail(end + 1, 3600.0, 0),)), arrivals)
    late.run()
    assert late.now > 10 * calm.now
    assert late.shares == calm.shares
    busy, prefilling = calm.shares
    assert 0 < prefilling < busy <= 1

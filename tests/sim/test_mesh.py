"""Several routers that tell each other where they sent prompts."""

import random
from statistics import fmean

import pytest

from router.core.forecast import unheard
from router.core.forecast.forecast import Forecast
from router.sim.incident import Join
from router.sim.outcome import End, Outcome
from router.sim.policies import parse
from router.sim.profile import PICOSECONDS
from router.sim.replica import CLUSTER
from router.sim.workload import Arrival
from router.sim.world import World
from tests.sim.worlds import ROUND_ROBIN, run, scenario, traffic

PREDICTED = parse("predicted_ttft")


def ttft(outcomes: list[Outcome]) -> float:
    return fmean(one.first - one.arrival.at for one in outcomes if one.end is End.DONE) / 1e12


def test_what_they_hear_is_worth_hearing_and_worth_less_when_late() -> None:
    asked = traffic(1500, 11.0, sessions=60)
    alone = ttft(run(asked, policy=PREDICTED))
    soon, late, never = (
        ttft(run(asked, policy=PREDICTED, routers=3, gossip=gossip))
        for gossip in (0.001, 1.0, None)
    )
    assert alone < 1.1 * soon
    assert soon < late < never


def test_each_knows_of_the_others_prompts_until_they_are_over() -> None:
    world = World(scenario(policy=PREDICTED, routers=2, gossip=0.01), traffic(60, 10.0))
    decoding: list[list[int]] = []

    def look() -> None:
        counts = []
        for router in world.routers:
            forecast = router.director.traffic(CLUSTER).accounts
            assert isinstance(forecast, Forecast)
            counts.append(sum(outlook.decoding for _, outlook in forecast.outlooks()))
        decoding.append(counts)

    world.at(int(4e12), look)
    world.run()
    world.now += int(1e12)
    look()
    during, after = decoding
    # A note or two may be on their way.
    assert min(during) > 10
    assert abs(during[0] - during[1]) <= 2
    assert after == [0, 0]


def test_balancers_that_predict_nothing_have_nothing_to_tell() -> None:
    asked = traffic(80, 6.0)
    silent = run(asked, policy=ROUND_ROBIN, routers=2)
    assert run(asked, policy=ROUND_ROBIN, routers=2, gossip=0.01) == silent


def test_replicas_that_join_are_told_of_as_well() -> None:
    fields = {"policy": PREDICTED, "routers": 2, "gossip": 0.01}
    outcomes = run(traffic(400, 12.0), **fields, incidents=(Join(10.0, 2),))
    assert all(one.end is End.DONE for one in outcomes)
    assert {one.replica for one in outcomes} == {0, 1, 2, 3, 4}


def test_a_seed_gives_the_same_run_again() -> None:
    asked = traffic(200, 9.0)
    fields = {"policy": PREDICTED, "routers": 2, "gossip": 0.05}
    assert run(asked, **fields) == run(asked, **fields)


def test_held_requests_wait_in_the_router() -> None:
    asked = traffic(600, 14.0, sessions=60)
    outcomes = run(asked, policy=parse("predicted_ttft:hold_above=150ms"))
    assert len(outcomes) == 600
    assert all(one.end is End.DONE for one in outcomes)
    assert outcomes != run(asked, policy=PREDICTED)


def test_two_that_hear_late_do_better_where_they_reckon_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = random.Random(1)
    asked, at = [], 0.0
    for key in range(1, 1501):
        at += rng.expovariate(8.0)
        blocks = tuple(range(100 * key, 100 * key + rng.choice([1, 4, 16])))
        asked.append(
            Arrival(key, round(at * PICOSECONDS), 512 * len(blocks), 20, blocks, conversation=key)
        )
    fields = {"policy": PREDICTED, "routers": 2, "gossip": 0.1}
    apart = ttft(run(asked, **fields))
    monkeypatch.setattr(unheard, "lean", lambda origin, others, endpoint: 0.0)
    assert apart < 0.98 * ttft(run(asked, **fields))

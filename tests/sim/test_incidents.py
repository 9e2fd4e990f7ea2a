"""Replicas die, drain and join while requests come."""

import pytest

from router.core.balancers.least_request import LeastRequest
from router.core.retry.policy import RetryPolicy
from router.sim.incident import DOWN_AFTER, UP_AFTER, Drain, Fail, Join
from router.sim.outcome import End, Outcome
from router.sim.profile import PICOSECONDS
from router.sim.scenario import Policy, Scenario
from router.sim.study import Study, Traffic
from router.sim.world import World
from tests.sim.worlds import OFF, ORACLE, ROUND_ROBIN, run, scenario, traffic

ALWAYS = RetryPolicy(budget_percent=100.0)
LEAST = Policy("least_request", LeastRequest.Spec(selection="full_scan"))


def at(outcomes: list[Outcome], replica: int, begin: float, end: float) -> int:
    """Requests that came in this time and were answered there."""
    return sum(
        one.replica == replica and begin <= one.arrival.at / PICOSECONDS < end
        for one in outcomes
        if one.end is End.DONE
    )


@pytest.mark.parametrize("policy", [ROUND_ROBIN, LEAST, ORACLE], ids=lambda policy: policy.name)
def test_a_replica_dies_and_comes_back(policy: Policy) -> None:
    outcomes = run(traffic(400, 8.0), policy=policy, retry=ALWAYS, incidents=(Fail(10.0, 15.0, 1),))
    assert len(outcomes) == 400
    assert at(outcomes, 1, 0, 9) > 0
    assert at(outcomes, 1, 10, 25) == 0
    assert at(outcomes, 1, 25 + UP_AFTER, 50) > 20
    # Streams are lost that had begun: their heads were out. Whoever came later went elsewhere.
    lost = [one for one in outcomes if one.end is not End.DONE]
    assert lost
    assert all(one.replica == 1 and one.arrival.at < 10 * PICOSECONDS for one in lost)


def test_answers_that_had_not_begun_are_asked_for_again() -> None:
    outcomes = run(traffic(400, 8.0), streaming=0.0, retry=ALWAYS, incidents=(Fail(10.0, 15.0, 1),))
    assert all(one.end is End.DONE for one in outcomes)
    assert max(one.attempts for one in outcomes) == 2


def test_the_retry_budget_of_the_core_is_the_budget_here() -> None:
    # Every third request finds nobody listening; 3 retries at a time, and no more.
    few = RetryPolicy(budget_percent=0.0)
    outcomes = run(traffic(400, 8.0), retry=few, incidents=(Fail(10.0, 15.0, 1),))
    refused = [one for one in outcomes if one.end is End.REFUSED]
    assert refused
    assert all(10 < one.arrival.at / PICOSECONDS < 10 + DOWN_AFTER for one in refused)


def test_until_they_know_routers_try_in_vain_and_go_elsewhere() -> None:
    outcomes = run(traffic(400, 8.0), incidents=(Fail(10.0, 15.0, 1),))
    tried = [one.arrival.at / PICOSECONDS for one in outcomes if one.attempts > 1]
    assert tried
    assert min(tried) > 9
    assert max(tried) < 10 + DOWN_AFTER


def test_what_came_back_is_empty() -> None:
    asked = traffic(300, 4.0)
    replicas = (OFF.scaled(1, 0.1),)  # where else could they go
    whole = run(asked, replicas=replicas)
    broken = run(asked, replicas=replicas, incidents=(Fail(30.0, 0.0, 0),))
    hits = [
        sum(one.cached for one in outcomes if 30 <= one.arrival.at / PICOSECONDS < 36)
        for outcomes in (whole, broken)
    ]
    assert hits[1] < hits[0]


def test_a_drained_replica_finishes_what_it_has() -> None:
    outcomes = run(traffic(200, 8.0), incidents=(Drain(10.0, 2),))
    assert all(one.end is End.DONE for one in outcomes)
    assert at(outcomes, 2, 0, 10) > 0
    assert at(outcomes, 2, 10, 99) == 0


@pytest.mark.parametrize("policy", [ROUND_ROBIN, ORACLE], ids=lambda policy: policy.name)
def test_replicas_join(policy: Policy) -> None:
    outcomes = run(traffic(300, 8.0), policy=policy, routers=2, incidents=(Join(10.0, 2),))
    assert all(one.end is End.DONE for one in outcomes)
    assert at(outcomes, 3, 0, 10) == at(outcomes, 4, 0, 10) == 0
    assert at(outcomes, 3, 10, 99) > 3
    assert at(outcomes, 4, 10, 99) > 3


def test_a_dead_replicas_load_is_unknown_once_it_is_old() -> None:
    world = World(scenario(incidents=(Fail(10.0, 30.0, 1),)), traffic(300, 8.0))
    seen = []
    for second in (14, 20):
        world.at(
            second * PICOSECONDS,
            lambda: seen.append([host.load for host in world.routers[0].fleet.hosts.values()]),
        )
    world.run()
    early, late = seen
    assert early[1] is not None and early[1].at <= 10
    assert late[1] is None and late[0] is not None


def test_incidents_have_phases_of_their_own() -> None:
    def phases(*incidents: Fail | Join) -> list[tuple[str, float, float]]:
        one: Scenario = scenario(incidents=incidents)
        traffic = Traffic(trace=__file__, rate=1, duration=500)  # type: ignore[arg-type]
        study = Study(traffic=traffic, base=OFF, scenarios=(one,))
        return [(phase.name, phase.begin, phase.end) for phase in study.phases()]

    assert phases() == [("all", 200, 500)]
    assert phases(Fail(300, 60, 0), Join(400, 1)) == [
        ("all", 200, 500),
        ("before", 200, 300),
        ("300 to 360 s", 300, 360),
        ("400 to 460 s", 400, 460),
    ]
    assert [name for name, _, _ in phases(Join(100, 1))] == ["all", "100 to 160 s"]

"""Filters, scorers and a picker together, told as timelines."""

from collections import Counter
from typing import Any

import pytest

from router.core.balancers.scored import Scored
from router.core.filters.prefix_affinity import PrefixAffinity
from router.core.host import Outcome
from router.core.load import LoadReport
from router.core.prefix.placements import Placements
from router.core.scorers.in_flight import InFlight
from router.core.scorers.kv_utilization import KvUtilization
from router.core.scorers.prefix_match import PrefixMatch
from router.core.scorers.queue_depth import QueueDepth
from router.core.scorers.session import SessionScorer
from router.core.scorers.token_load import TokenLoad
from tests.core.rivals import Stage, prompt
from tests.core.world import hosts, request


def stage(*weights: int, **fields: Any) -> Stage:
    return Stage(Scored.Spec(**fields), hosts(*(weights or (1, 1, 1))))


def loaded(world: Stage, *reports: tuple[int, float] | None) -> None:
    """Waiting requests and KV usage of each endpoint, as scraped."""
    for host, known in zip(world.hosts, reports, strict=True):
        host.load = None if known is None else LoadReport(0.0, 0, *known)


def test_the_default_is_three_to_two_to_two() -> None:
    world = stage()
    loaded(world, (0, 0.5), (10, 0.0), (5, 0.5))
    world.serve(prompt(1, 8), to=world.hosts[1])
    # Nothing matches: 2 * 1 + 2 * 0.5 is more than 2 * 0 + 2 * 1, and than 2 * 0.5 + 2 * 0.5.
    assert world.pick(prompt(2, 8)) is world.hosts[0]
    # All of it matches: 3 more.
    assert world.pick(prompt(1, 8)) is world.hosts[1]
    assert world.column(prompt(1, 8), "score") == [3.0, 5.0, 2.0]
    # A quarter matches: 0.75 more is not enough.
    assert world.pick(prompt(1, 32)) is world.hosts[0]


def test_before_anything_is_known_requests_go_by_weight() -> None:
    world = stage(3, 1)
    picks = Counter(world.pick(prompt(seed, 4)).slot for seed in range(4000))
    assert abs(picks[0] - 3000) < 150
    assert world.reason == "no score"


def test_an_endpoint_that_is_not_scraped_is_neither_shunned_nor_flooded() -> None:
    world = stage(1, 1, 1, scorers=(QueueDepth.Spec(),))
    loaded(world, (0, 0.0), None, (10, 0.0))
    assert world.column(request(), "queue_depth") == [1.0, 0.5, 0.0]
    assert world.pick(request()) is world.hosts[0]
    loaded(world, (4, 0.0), None, (4, 0.0))
    picks = Counter(world.pick(request()).slot for _ in range(3000))
    assert all(abs(count - 1000) < 130 for count in picks.values())


def test_between_two_scrapes_all_go_where_it_was_best() -> None:
    """Herding, which the scorers of what is in flight do not know."""
    world = stage(scorers=(QueueDepth.Spec(), KvUtilization.Spec()))
    loaded(world, (0, 0.1), (1, 0.1), (1, 0.1))
    assert {world.send(prompt(seed, 8)).host for seed in range(30)} == {world.hosts[0]}
    known = stage(scorers=(TokenLoad.Spec(),))
    spread = Counter(known.send(prompt(seed, 8)).host.slot for seed in range(30))
    assert sorted(spread.values()) == [10, 10, 10]


def test_token_load_levels_work_not_requests() -> None:
    world = stage(1, 1, scorers=(TokenLoad.Spec(),))
    large = world.send(prompt(0, 50))
    small = Counter(world.send(prompt(seed, 5)).host.slot for seed in range(1, 11))
    assert small == {1 - large.host.slot: 10}


def test_a_draw_in_proportion_to_the_scores() -> None:
    world = stage(1, 1, 1, scorers=(InFlight.Spec(weight=5.0),), picker="weighted_random")
    for host, count in zip(world.hosts, (0, 5, 10), strict=True):
        host.in_flight = count
    picks = Counter(world.pick(request()).slot for _ in range(6000))
    assert (abs(picks[0] - 4000) < 150, abs(picks[1] - 2000) < 150, picks[2]) == (True, True, 0)
    assert world.reason == "drawn by score"
    weighted = stage(1, 3, scorers=(InFlight.Spec(),), picker="weighted_random")
    picks = Counter(weighted.pick(request()).slot for _ in range(4000))
    assert abs(picks[1] - 3000) < 150


def test_a_gate_before_the_scores() -> None:
    """llm-d's advice where prefill is the bottleneck: stay until it is swamped, then by work."""
    world = stage(filters=(PrefixAffinity.Spec(prefill_rate=128.0),), scorers=(TokenLoad.Spec(),))
    first = world.serve(prompt(1, 8))
    for seed in range(5):
        world.send(prompt(seed + 10, 8, shared=0), to=first)
    # Five prompts of 8 blocks are ahead, 40 s of work against none: more than the 18 s.
    assert world.pick(prompt(1, 8)) is not first
    assert world.column(prompt(1, 8), "token_load")[first.slot] < 1.0
    world.memory.lost(first.id)
    fresh = stage(filters=(PrefixAffinity.Spec(),), scorers=(TokenLoad.Spec(),))
    holder = fresh.serve(prompt(1, 8))
    fresh.send(prompt(10, 8), to=holder)
    assert fresh.pick(prompt(1, 8)) is holder
    scores = fresh.balancer.explain(prompt(1, 8), fresh.hosts)  # type: ignore[attr-defined]
    assert [id_ for id_, row in scores.hosts.items() if "score" in row] == [holder.id]


def test_a_session_is_a_preference() -> None:
    world = stage(scorers=(SessionScorer.Spec(key="user"), InFlight.Spec(weight=2.0)))
    asked = request(user="alice")
    home = world.pick(asked)
    assert {world.pick(asked) for _ in range(20)} == {home}
    home.in_flight = 1
    moved = world.pick(asked)
    assert moved is not home, "idle elsewhere is worth 2"
    home.in_flight = 0
    assert {world.pick(asked) for _ in range(20)} == {moved}


def test_a_retry_goes_to_the_next_best() -> None:
    world = stage(scorers=(PrefixMatch.Spec(),))
    one, two, three = world.hosts
    world.serve(prompt(1, 8), to=one)
    world.serve(prompt(1, 5), to=two)
    asked = prompt(1, 8)
    assert [world.pick(asked), world.pick(asked, one), world.pick(asked, one, two)] == [
        one,
        two,
        three,
    ]
    assert world.pick(asked, one, two, three) is one


def test_only_what_looks_at_prompts_asks_for_them() -> None:
    assert Scored.Spec().reads_prompt
    assert not Scored.Spec(scorers=(InFlight.Spec(),)).reads_prompt
    gate = Scored.Spec(scorers=(InFlight.Spec(),), filters=(PrefixAffinity.Spec(),))
    assert gate.reads_prompt


def test_what_another_balancer_wanted_of_the_memory_is_not_kept() -> None:
    world = stage()
    world.memory.keep(Placements).tune(capacity=1, ttl=1.0)
    again = Scored.Spec(scorers=(TokenLoad.Spec(),)).build(world.rng, world.memory)
    lease = world.send(prompt(1, 20), to=world.hosts[0])
    lease.release(Outcome.SUCCESS, 1.0)
    assert world.memory.keep(Placements).index.blocks(world.hosts[0].id) == 20
    assert repr(again) == "<Scored token_load>"


def test_the_explanation_names_the_weights() -> None:
    world = stage()
    scores = world.balancer.explain(request(), world.hosts)  # type: ignore[attr-defined]
    assert scores.notes == {"weights": "queue_depth 2, kv_utilization 2, prefix_match 3"}
    assert scores.hosts == {host.id: {} for host in world.hosts}


@pytest.mark.parametrize("picker", ["max_score", "weighted_random"])
def test_all_scores_zero(picker: str) -> None:
    world = stage(1, 1, scorers=(KvUtilization.Spec(),), picker=picker)
    loaded(world, (0, 1.0), (0, 1.0))
    assert {world.pick(request()) for _ in range(50)} == set(world.hosts)

"""SGLang's cache-aware routing, told as timelines."""

from collections import Counter

import pytest

from router.core.balancers.cache_aware import CacheAware
from router.core.host import Outcome
from tests.core.rivals import Stage, prompt
from tests.core.world import hosts


def test_a_conversation_stays_where_it_was_sent_and_others_spread() -> None:
    stage = Stage(CacheAware.Spec(), hosts(1, 1, 1, 1))
    first = stage.send(prompt(1, 8)).host
    assert stage.reason == "no match, least loaded"
    # Its next turn is longer, and its prefix is there: busier or not.
    assert stage.pick(prompt(1, 12)) is first
    assert stage.reason == "prefix match"
    # Three more conversations find the idle endpoints.
    others = {stage.send(prompt(seed, 8)).host for seed in (2, 3, 4)}
    assert others == set(stage.hosts) - {first}


MATCHES = [
    # (blocks sent before, blocks asked, threshold, whether that is enough)
    (8, 10, 0.3, True),
    (3, 10, 0.3, False),  # 0.3 is not more than 0.3
    (3, 9, 0.3, True),
    (4, 10, 0.5, False),
    (5, 9, 0.5, True),
    (1, 64, 0.0, True),
]


@pytest.mark.parametrize(("before", "blocks", "threshold", "enough"), MATCHES)
def test_the_share_of_the_prompt_decides(
    before: int, blocks: int, threshold: float, enough: bool
) -> None:
    stage = Stage(CacheAware.Spec(cache_threshold=threshold), hosts(1, 1))
    stage.send(prompt(1, before), to=stage.hosts[1])
    host = stage.pick(prompt(1, blocks))
    assert (host is stage.hosts[1], stage.reason == "prefix match") == (enough, enough)


def test_affinity_yields_when_loads_are_unlike_in_both_senses() -> None:
    stage = Stage(
        CacheAware.Spec(balance_abs_threshold=4, balance_rel_threshold=2.0), hosts(1, 1, 1)
    )
    busy, idle, _ = stage.hosts
    busy.in_flight, idle.in_flight, stage.hosts[2].in_flight = 0, 10, 10
    leases = [stage.send(prompt(1, 8), to=busy)]
    # Ten to one is unlike: 9 more, and 10 times as many.
    assert stage.pick(prompt(1, 8)) is busy
    assert stage.reason == "least loaded, loads differ"
    # With 14 against 10 it is four more, which is not more than four.
    busy.in_flight = 14
    assert (stage.pick(prompt(1, 8)), stage.reason) == (busy, "prefix match")
    # 15 against 10 is five more, but not twice as many.
    busy.in_flight = 15
    assert (stage.pick(prompt(1, 8)), stage.reason) == (busy, "prefix match")
    # 21 are more than twice as many.
    busy.in_flight = 21
    assert stage.pick(prompt(1, 8)) is not busy
    # What went elsewhere meanwhile is known there too: the least loaded of the two has it.
    leases.append(stage.send(prompt(1, 8), to=idle))
    busy.in_flight = 15
    assert (stage.pick(prompt(1, 8)), stage.reason) == (idle, "prefix match")
    for lease in leases:
        lease.release(Outcome.SUCCESS, 1.0)


def test_with_few_requests_one_prompt_keeps_one_endpoint_busy() -> None:
    """What users of the default thresholds found: below 64 nothing is unlike."""
    stage = Stage(CacheAware.Spec(), hosts(1, 1))
    counts = Counter(stage.send(prompt(n, 10, shared=8)).host.slot for n in range(64))
    assert sorted(counts.values()) == [64]
    assert len({stage.send(prompt(n, 10, shared=8)).host.slot for n in range(64, 70)}) == 2


def test_the_smallest_tree_floods_who_has_just_come() -> None:
    stage = Stage(CacheAware.Spec(fallback="smallest_tree"), hosts(1, 1, 1))
    old, young = stage.hosts[:2], stage.hosts[2]
    for seed in range(100):
        stage.serve(prompt(seed, 8), to=old[seed % 2])
    assert [stage.serve(prompt(seed, 8)) for seed in range(200, 250)] == [young] * 50
    assert stage.reason == "no match, smallest tree"
    by_load = Stage(CacheAware.Spec(), hosts(1, 1, 1))
    for seed in range(100):
        by_load.serve(prompt(seed, 8), to=by_load.hosts[seed % 2])
    shares = Counter(by_load.serve(prompt(seed, 8)).slot for seed in range(200, 500))
    assert all(70 < count < 130 for count in shares.values())


def test_trees_are_compared_by_weight_and_bounded() -> None:
    stage = Stage(CacheAware.Spec(fallback="smallest_tree"), hosts(3, 1))
    for seed in range(60):
        stage.serve(prompt(seed, 8))
    assert stage.column(prompt(0, 8), "tree") == [45 * 8 * 512, 15 * 8 * 512]
    small = Stage(CacheAware.Spec(max_tree_size=1 << 16), hosts(1, 1))
    for seed in range(60):
        small.serve(prompt(seed, 8))
    assert small.column(prompt(0, 8), "tree") == [1 << 16, 1 << 16]


def test_a_retry_goes_to_the_next_best_match() -> None:
    stage = Stage(CacheAware.Spec(), hosts(1, 1, 1))
    one, two, three = stage.hosts
    stage.send(prompt(1, 8), to=one)
    stage.send(prompt(1, 5), to=two)
    assert stage.pick(prompt(1, 8)) is one
    assert stage.pick(prompt(1, 8), one) is two
    assert stage.pick(prompt(1, 8), one, two) is three
    assert stage.pick(prompt(1, 8), one, two, three) in stage.hosts


def test_an_endpoint_that_was_lost_comes_back_empty() -> None:
    stage = Stage(CacheAware.Spec(), hosts(1, 1))
    holder = stage.serve(prompt(1, 8))
    stage.memory.lost(holder.id)
    stage.pick(prompt(1, 8))
    assert stage.reason == "no match, least loaded"


def test_the_explanation_shows_what_is_compared() -> None:
    stage = Stage(CacheAware.Spec(), hosts(2, 1, 1))
    stage.send(prompt(1, 8), to=stage.hosts[0])
    asked = prompt(1, 20.5)
    assert stage.column(asked, "matched") == [8 * 512, 0, 0]
    assert stage.column(asked, "load") == pytest.approx([1 / 1.5, 0, 0])
    assert stage.column(asked, "tree") == [8 * 512, 0, 0]
    notes = stage.balancer.explain(asked, stage.hosts).notes  # type: ignore[attr-defined]
    assert notes == {"prompt": 20.5 * 512, "balanced": "yes: by match"}

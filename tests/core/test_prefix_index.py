"""The approximate prefix index: what it finds, what it forgets, and that it stays within bounds."""

import functools
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.prefix import index as module
from router.core.prefix.blocks import BLOCK, DEPTHS, GAINS, checkpoints
from router.core.prefix.index import PrefixIndex
from tests.core.world import hosts

THREE = hosts(1, 1, 1)
A, B, C = (host.id for host in THREE)


@functools.cache
def prompt(seed: int, blocks: int, shared: int = 0) -> tuple[int, ...]:
    """Checkpoints of random bytes, the first ``shared`` blocks being everybody's."""
    common = random.Random(0).randbytes(shared * BLOCK)
    own = random.Random(seed + 1).randbytes((blocks - shared) * BLOCK)
    return checkpoints([common, own], 0)


def test_a_prompt_is_found_as_deep_as_it_is_the_same() -> None:
    index = PrefixIndex(1000)
    rows = index.rows(THREE)
    assert index.match(prompt(1, 8), rows) is None
    index.record(prompt(1, 8, shared=4), A, 0.0)
    index.record(prompt(2, 8, shared=4), B, 0.0)
    assert index.match(prompt(1, 8, shared=4), rows) == [8, 4, 0]
    assert index.match(prompt(2, 12, shared=4), rows) == [4, 8, 0]
    assert index.match(prompt(3, 3, shared=3), rows) == [3, 3, 0]
    assert index.match((), rows) is None
    assert [index.held(prompt(1, 8, shared=4), one) for one in (A, B, C)] == [8, 4, 0]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 70)), min_size=1, max_size=20))
def test_matching_all_at_once_is_matching_each(sent: list[tuple[int, int]]) -> None:
    many = hosts(*[1] * 9)
    index = PrefixIndex(10_000)
    draw = random.Random(3)
    longest = prompt(0, 70)
    for where, blocks in sent:
        depth = sum(one <= blocks for one in DEPTHS)
        index.record(longest[:depth], many[where * 2].id, draw.random())
    expected = [index.held(longest, host.id) for host in many]
    rows = index.rows(many)
    assert (index.match(longest, rows) or [0] * 9) == expected
    assert index.match(longest, index.rows(many[3:6])) in (expected[3:6], None)


def test_the_least_recently_used_goes_first_and_its_tail_before_its_head() -> None:
    index = PrefixIndex(capacity=16)
    first, second = prompt(1, 8), prompt(2, 8)
    index.record(first, A, 0.0)
    index.record(second, A, 1.0)
    assert index.blocks(A) == 16
    index.record(first, A, 2.0)
    index.record(prompt(3, 3), A, 3.0)
    assert [index.held(one, A) for one in (first, second)] == [8, 5]
    index.record(prompt(4, 8), A, 4.0)
    assert index.blocks(A) == 16
    assert [index.held(one, A) for one in (first, second)] == [5, 0]


def test_room_that_is_known_takes_the_place_of_the_capacity() -> None:
    index = PrefixIndex(capacity=1000)
    for seed in range(10):
        index.record(prompt(seed, 8), A, 0.0, room=20)
        index.record(prompt(seed, 8), B, 0.0)
    assert (index.blocks(A), index.blocks(B)) == (20, 80)


def test_what_is_not_used_again_ages() -> None:
    index = PrefixIndex(1000, ttl=120)
    rows = index.rows(THREE)
    index.record(prompt(1, 4), A, 0.0)
    index.record(prompt(2, 4), B, 60.0)
    assert index.match(prompt(1, 4), rows, 119.0) == [4, 0, 0]
    index.record(prompt(1, 4), A, 119.0)
    assert index.match(prompt(2, 4), rows, 182.0) is None
    assert index.match(prompt(1, 4), rows, 182.0) == [4, 0, 0]
    assert index.match(prompt(1, 4), rows, 242.0) is None
    assert len(index) == 0


def test_ageing_takes_a_bounded_step_at_a_time() -> None:
    index = PrefixIndex(1 << 20, ttl=1)
    rows = index.rows(THREE)
    for seed in range(400):
        index.record(prompt(seed, 4), THREE[seed % 3].id, 0.0)
    sizes = [len(index)]
    while index.entries:
        index.match(prompt(0, 4), rows, 5.0)
        sizes.append(len(index))
    steps = [before - after for before, after in pairwise(sizes)]
    assert steps == [module.BATCH, module.BATCH, module.BATCH, 64]


def test_a_lost_endpoint_holds_nothing_and_its_seat_is_given_again() -> None:
    index = PrefixIndex(1000)
    rows = index.rows(THREE)
    for seed in range(3):
        index.record(prompt(seed, 8), A, 0.0)
        index.record(prompt(seed, 8), B, 0.0)
    index.lost(A)
    rows = index.rows(THREE, rows)
    assert index.match(prompt(1, 8), rows) == [0, 8, 0]
    index.record(prompt(9, 1), C, 0.0)  # others' records clear what it held, step by step
    assert index.entries == 3 * 8 + 1
    index.record(prompt(1, 4), A, 0.0)
    assert index.match(prompt(1, 8), rows) == [4, 8, 0]
    for n in range(200):
        index.lost(A)
        index.record(prompt(n, 2), A, 0.0)
    assert max(index.rows(THREE).bits) <= 1 << 5


def test_rows_are_made_anew_for_other_hosts_and_after_a_loss() -> None:
    index = PrefixIndex(1000)
    rows = index.rows(THREE)
    assert index.rows(THREE, rows) is rows
    assert index.rows(THREE[:2], rows) is not rows
    index.lost(B)
    assert index.rows(THREE, rows) is not rows


def test_all_entries_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENTRIES", 4000)
    index = PrefixIndex(1 << 20)
    for seed in range(2000):
        index.record(prompt(seed, 8), A if seed % 4 else B, 0.0)
        assert len(index) <= 4000
    assert index.held(prompt(1999, 8), A) == 8
    assert index.held(prompt(1996, 8), B) == 8


def test_lower_bounds_take_hold_step_by_step() -> None:
    index = PrefixIndex(1 << 20)
    for seed in range(1000):
        index.record(prompt(seed, 4), A, 0.0)
    index.tune(100, 0.0)
    for _ in range(1 + 4000 // module.BATCH):
        index.record(prompt(1, 4), A, 0.0)
    assert index.blocks(A) <= 100


@settings(deadline=None)
@given(st.data())
def test_the_counts_are_true(data: st.DataObject) -> None:
    index = PrefixIndex(capacity=40, ttl=10)
    rows = index.rows(THREE)
    now = 0.0
    for _ in range(data.draw(st.integers(1, 40))):
        now += data.draw(st.floats(0, 4))
        host = data.draw(st.sampled_from(THREE))
        match data.draw(st.sampled_from(["record", "record", "lost", "match"])):
            case "record":
                index.record(prompt(data.draw(st.integers(0, 5)), 20, shared=6), host.id, now)
            case "lost":
                index.lost(host.id)
            case "match":
                index.match(prompt(1, 20, shared=6), index.rows(THREE, rows), now)
        held = index._held
        assert index.entries == sum(map(len, held))
        assert index._blocks == [sum(GAINS[v & 63] for v in one.values()) for one in held]
        assert all(mask for mask in index._holders.values())
        assert index.entries == sum(mask.bit_count() for mask in index._holders.values())

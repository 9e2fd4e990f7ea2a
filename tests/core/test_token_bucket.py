"""Token buckets: Envoy's timelines, and what no sequence of requests can do."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.control.board import Board, create_file
from router.control.shared_buckets import OWED
from router.core.admission.ledger import BucketStore
from router.core.admission.token_bucket import (
    BucketSpec,
    Draw,
    LocalBuckets,
    Verdict,
)


def shared() -> BucketStore:
    return Board(create_file(1, 1, 4), 1, 1, 4).buckets()


STORES = pytest.mark.parametrize("store", [LocalBuckets, shared], ids=["local", "shared"])


def take(store: BucketStore, key: int, spec: BucketSpec, amount: float, now: float) -> Verdict:
    [verdict] = store.take([Draw(key, spec, amount)], now)
    return verdict


def codes(store: BucketStore, spec: BucketSpec, count: int, now: float, key: int = 7) -> str:
    verdicts = [take(store, key, spec, 1.0, now).allowed for _ in range(count)]
    return "".join("." if allowed else "x" for allowed in verdicts)


@STORES
def test_envoys_timeline(store: type[BucketStore]) -> None:
    """5 at most, 2 a second, as Envoy 1.40 was seen to fill it: continuously."""
    buckets, spec = store(), BucketSpec(5, 2)
    assert codes(buckets, spec, 8, 100.0) == ".....xxx"
    assert codes(buckets, spec, 3, 100.6) == ".xx"
    assert codes(buckets, spec, 7, 103.6) == ".....xx"


@STORES
def test_each_key_has_its_own_and_a_reload_keeps_what_was_used(store: type[BucketStore]) -> None:
    buckets = store()
    assert codes(buckets, BucketSpec(2, 1), 3, 0.0, key=1) == "..x"
    assert codes(buckets, BucketSpec(2, 1), 3, 0.0, key=2) == "..x"
    # More generous from now on: what is missing comes at the new rate.
    assert codes(buckets, BucketSpec(10, 5), 6, 1.0, key=1) == ".....x"


@STORES
def test_the_wait_is_when_it_will_be_allowed(store: type[BucketStore]) -> None:
    buckets, spec = store(), BucketSpec(1, 0.25)
    assert take(buckets, 3, spec, 1.0, 0.0) == Verdict(True, 0.0, 0.0)
    refused = take(buckets, 3, spec, 1.0, 1.0)
    assert refused == Verdict(False, 0.25, 3.0)
    assert take(buckets, 3, spec, 1.0, 1.0 + refused.wait).allowed


@STORES
@settings(max_examples=100, deadline=None)
@given(
    capacity=st.integers(1, 20),
    rate=st.floats(0.01, 50),
    gaps=st.lists(st.floats(0, 5), min_size=1, max_size=60),
)
def test_never_more_than_rate_times_time_and_the_burst(
    store: type[BucketStore], capacity: int, rate: float, gaps: list[float]
) -> None:
    buckets, spec, now, allowed = store(), BucketSpec(capacity, rate), 1000.0, []
    for gap in gaps:
        now += gap
        if take(buckets, 9, spec, 1.0, now).allowed:
            allowed.append(now)
    for first, start in enumerate(allowed):
        for last in range(first, len(allowed)):
            span = allowed[last] - start
            assert last - first + 1 <= capacity + rate * span + 1e-6


def test_local_buckets_are_bounded_and_forget_the_longest_untouched() -> None:
    buckets, spec = LocalBuckets(limit=3), BucketSpec(2, 0.001)
    for key in (1, 2, 3, 1, 4):
        take(buckets, key, spec, 1.0, 0.0)
    assert repr(buckets) == "<LocalBuckets 3/3 forgotten=1>"
    assert take(buckets, 2, spec, 1.0, 0.0).remaining == 1  # it was the one forgotten
    assert not take(buckets, 1, spec, 1.0, 0.0).allowed


def test_processes_share_one_bucket_exactly() -> None:
    fd = create_file(1, 4, 4)
    spec = BucketSpec(500, 1e-9)
    ends = []
    for _ in range(4):
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            buckets = Board(fd, 1, 4, 4).buckets()
            granted = sum(take(buckets, 42, spec, 1.0, 5.0).allowed for _ in range(300))
            os.write(write, granted.to_bytes(4, "big"))
            os._exit(0)
        os.close(write)
        ends.append((child, read))
    granted = []
    for child, read in ends:
        granted.append(int.from_bytes(os.read(read, 4), "big"))
        os.close(read)
        os.waitpid(child, 0)
    os.close(fd)
    assert sum(granted) == 500


def test_processes_reserve_and_settle_in_shared_buckets_exactly() -> None:
    """Each reserves of three buckets in an order of its own, and charges half of it in the end."""
    fd = create_file(1, 4, 4)
    spec = BucketSpec(1_000_000, 1e-12)
    children = []
    for number in range(4):
        if (child := os.fork()) == 0:
            buckets = Board(fd, 1, 4, 4).buckets()
            keys = [1, 2, 3][number % 3 :] + [1, 2, 3][: number % 3]
            for _ in range(500):
                taken = buckets.take([Draw(key, spec, 10) for key in keys], 5.0)
                buckets.charge([Draw(key, spec, -5) for key in reversed(keys)], 5.0)
                assert all(verdict.allowed for verdict in taken)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    buckets = Board(fd, 1, 4, 4).buckets()
    assert [round(buckets.level(key, spec, 5.0)) for key in (1, 2, 3)] == [990_000] * 3
    os.close(fd)


@STORES
def test_several_buckets_give_together_or_not_at_all(store: type[BucketStore]) -> None:
    buckets, wide, tight = store(), BucketSpec(10, 0.1), BucketSpec(1, 0.1)
    both = [Draw(1, wide, 1), Draw(2, tight, 1)]
    assert [v.allowed for v in buckets.take(both, 0.0)] == [True, True]
    refused = buckets.take(both, 0.0)
    assert [v.allowed for v in refused] == [True, False]
    assert refused[1].wait == pytest.approx(10)
    assert take(buckets, 1, wide, 0.0, 0.0).remaining == 9, "the refused one took nothing"


@STORES
def test_what_does_not_bind_stands_in_nobodys_way(store: type[BucketStore]) -> None:
    buckets, spec = store(), BucketSpec(1, 0.1)
    draws = [Draw(1, BucketSpec(9, 1), 1), Draw(2, spec, 1, binding=False)]
    assert [v.allowed for v in buckets.take(draws, 0.0)] == [True, True]
    assert [v.allowed for v in buckets.take(draws, 0.0)] == [True, False]
    assert take(buckets, 1, BucketSpec(9, 1), 0.0, 0.0).remaining == 7


@STORES
def test_charges_go_below_zero_down_to_the_bound_and_come_back(store: type[BucketStore]) -> None:
    buckets, spec = store(), BucketSpec(10, 1, debt=5)
    assert buckets.charge([Draw(1, spec, 12)], 0.0) == 0
    assert take(buckets, 1, spec, 1, 0.0) == Verdict(False, -2, 3)
    assert buckets.charge([Draw(1, spec, 10)], 0.0) == 7, "forgiven: the bound is -5"
    assert not take(buckets, 1, spec, 1, 5.9).allowed
    assert take(buckets, 1, spec, 1, 6.0).allowed
    buckets.charge([Draw(1, spec, -100)], 6.0)
    assert take(buckets, 1, spec, 0, 6.0).remaining == 10, "never more than full"


def test_a_full_set_gives_up_what_will_be_full_soonest() -> None:
    """Six keys in a table of one set of four ways: those owing most are kept."""
    board = Board(create_file(1, 1, 4), 1, 1, 4)
    buckets = board.buckets()
    sets = 1 << 12
    keys = [7 + sets * n for n in range(6)]
    slow, quick = BucketSpec(10, 0.001), BucketSpec(10, 100)
    for key in keys[:3]:
        buckets.charge([Draw(key, slow, 10)], 0.0)
    for key in keys[3:]:
        buckets.charge([Draw(key, quick, 10)], 0.0)
    assert buckets.forgotten == 2
    assert [round(buckets.level(key, slow, 0.0)) for key in keys[:3]] == [0, 0, 0]
    assert [round(buckets.level(key, quick, 0.0)) for key in keys[3:]] == [10, 10, 0]
    # One that is full again is no loss.
    buckets.charge([Draw(keys[3], quick, 1)], 60.0)
    assert buckets.forgotten == 2


def test_one_step_never_writes_two_buckets_to_one_place() -> None:
    board = Board(create_file(1, 1, 4), 1, 1, 4)
    buckets, spec = board.buckets(), BucketSpec(10, 1e-9)
    keys = [9 + (n << 12) for n in range(8)]
    for key in keys[:4]:
        buckets.charge([Draw(key, spec, 5)], 0.0)
    buckets.take([Draw(key, spec, 1) for key in keys[4:]], 0.0)
    assert [buckets.level(key, spec, 0.0) for key in keys[4:]] == [9.0] * 4


@STORES
def test_what_is_owed_is_charged_once_at_the_flush(store: type[BucketStore]) -> None:
    buckets, spec = store(), BucketSpec(10, 0.001, debt=5)
    buckets.owe(1, spec, 4, 0.0)
    buckets.owe(1, spec, -1, 0.0)
    buckets.owe(2, spec, 18, 0.0)
    assert buckets.flush(0.0) == 3, "of the second: the bound is -5"
    assert buckets.flush(0.0) == 0
    assert take(buckets, 1, spec, 0, 0.0).remaining == 7
    assert take(buckets, 2, spec, 1, 0.0).remaining == -5


@STORES
def test_nobody_is_refused_for_what_has_been_given_back(store: type[BucketStore]) -> None:
    buckets, spec = store(), BucketSpec(1000, 1e-9)
    most, some = ([Draw(key, spec, amount) for key in (1, 2)] for amount in (995, 10))
    assert all(verdict.allowed for verdict in buckets.take(most, 0.0))
    assert not any(verdict.allowed for verdict in buckets.take(some, 0.0))
    for key in (1, 2):
        buckets.owe(key, spec, -8, 0.0)
    assert [round(verdict.remaining) for verdict in buckets.take(some, 0.0)] == [3, 3]
    buckets.owe(1, spec, -8, 0.0)
    assert take(buckets, 1, spec, 10, 0.0).allowed


def test_more_than_a_little_is_seen_by_others_at_once() -> None:
    fd = create_file(1, 1, 4)
    mine, other = Board(fd, 1, 1, 4).buckets(), Board(fd, 1, 1, 4).buckets()
    spec = BucketSpec(1000, 1e-9)
    for charged, seen in ((6, 1000), (4, 1000), (1, 989), (-9, 989), (-2, 1000)):
        mine.owe(1, spec, charged, 0.0)
        assert round(other.level(1, spec, 0.0)) == seen
    os.close(fd)


def test_what_is_owed_is_bounded() -> None:
    """Somebody else sees the charges of many buckets without a flush."""
    fd = create_file(1, 1, 4)
    mine, other = Board(fd, 1, 1, 4).buckets(), Board(fd, 1, 1, 4).buckets()
    spec = BucketSpec(1000, 1e-9)
    for key in range(1, OWED + 1):
        mine.owe(key, spec, 1, 0.0)
    assert other.level(1, spec, 0.0) == 1000
    mine.owe(OWED + 1, spec, 1, 0.0)
    assert {other.level(key, spec, 0.0) for key in range(1, OWED + 2)} == {999}
    os.close(fd)


def test_processes_that_charge_behind_lose_nothing() -> None:
    fd = create_file(1, 4, 4)
    spec = BucketSpec(1_000_000, 1e-12)
    children = []
    for number in range(4):
        if (child := os.fork()) == 0:
            buckets = Board(fd, 1, 4, 4).buckets()
            for turn in range(500):
                keys = (1, 2, 3) if turn % 2 else (3, 2, 1)
                assert all(v.allowed for v in buckets.take([Draw(k, spec, 10) for k in keys], 5.0))
                for key in keys:
                    buckets.owe(key, spec, -5, 5.0)
                if turn % (7 + number) == 0:
                    buckets.flush(5.0)
            buckets.flush(5.0)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    buckets = Board(fd, 1, 4, 4).buckets()
    assert [round(buckets.level(key, spec, 5.0)) for key in (1, 2, 3)] == [990_000] * 3
    os.close(fd)

"""The block pool against a plain shadow, under any order of events."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.emulator.kv import KvCache, Reservation, chain_hashes

BLOCKS = 12


def test_chains_share_names_exactly_as_far_as_the_text_is_equal() -> None:
    one = chain_hashes(b"a" * 64 + b"b" * 64 + b"c" * 64, 16)
    two = chain_hashes(b"a" * 64 + b"x" * 64 + b"c" * 64, 16)
    assert len(one) == len(two) == 3
    assert [a == b for a, b in zip(one, two, strict=True)] == [True, False, False]


def test_only_full_blocks_have_names() -> None:
    assert len(chain_hashes(b"a" * 63, 16)) == 0
    assert len(chain_hashes(b"a" * 65, 16)) == 1


def test_a_chain_can_be_continued() -> None:
    text = bytes(range(256))
    head = chain_hashes(text[:128], 16)
    assert chain_hashes(text, 16) == head + chain_hashes(text[128:], 16, head[-1])


def test_the_least_recently_used_tail_goes_first() -> None:
    kv = KvCache(4)
    for names in ([1, 2], [3, 4]):
        held = kv.reserve([], 2)
        assert held is not None
        kv.register(held, names)
        kv.release(held)
    assert kv.hits([1, 2]) == 2
    held = kv.reserve([], 1)
    assert (kv.hits([1, 2]), kv.hits([3, 4])) == (1, 2)
    assert held is not None


def test_hits_are_not_counted_as_room_for_fresh_blocks() -> None:
    kv = KvCache(2)
    held = kv.reserve([], 2)
    assert held is not None
    kv.register(held, [1, 2])
    kv.release(held)
    assert kv.reserve([1], 2) is None
    assert kv.in_use == 0
    assert kv.reserve([1], 1) is not None


def fill(kv: KvCache, names: list[int]) -> None:
    """A sequence with these blocks comes and goes."""
    hits = kv.hits(names)
    held = kv.reserve(names[:hits], len(names) - hits)
    assert held is not None
    kv.register(held, names[hits:])
    kv.release(held)


def test_what_is_evicted_can_be_loaded_from_the_host_tier() -> None:
    kv = KvCache(2, host_blocks=2)
    fill(kv, [1, 2])
    fill(kv, [3, 4])
    assert (kv.cached, kv.hosted, kv.hits([1, 2])) == (2, 2, 2)
    # The loads need room, so what was there is evicted into the places that they leave.
    held = kv.reserve([1, 2], 0)
    assert held is not None
    assert held.reloaded == 2
    assert (kv.in_use, kv.hosted, kv.hits([3, 4])) == (2, 2, 2)


def test_the_host_tier_drops_the_least_recently_used() -> None:
    kv = KvCache(2, host_blocks=3)
    for names in ([1, 2], [3, 4], [5, 6]):
        fill(kv, names)
    # In the host tier came 2, 1, 4, 3, tails first; 2 had to go again.
    assert [kv.hits([name]) for name in (1, 2, 3, 4, 5, 6)] == [1, 0, 1, 1, 1, 1]


def test_a_batch_larger_than_the_host_tier_leaves_its_newest_there() -> None:
    kv = KvCache(4, host_blocks=1)
    fill(kv, [1, 2, 3, 4])
    fill(kv, [5, 6, 7, 8])
    assert [kv.hits([name]) for name in (1, 2, 3, 4)] == [1, 0, 0, 0]


def test_what_is_computed_anew_is_not_kept_twice() -> None:
    """A hole before it makes a block in the host tier useless: it is computed and lives above."""
    kv = KvCache(2, host_blocks=1)
    fill(kv, [1, 2])
    fill(kv, [3, 4])
    assert (kv.hits([1]), kv.hosted) == (1, 1)
    held = kv.reserve([], 2)
    assert held is not None
    kv.register(held, [9, 1])
    assert kv.hits([1]) == 1
    kv.release(held)
    assert kv.cached + kv.hosted == len({n for n in range(10) if kv.hits([n])})


def test_loads_need_room_like_new_blocks() -> None:
    kv = KvCache(2, host_blocks=4)
    fill(kv, [1, 2])
    fill(kv, [3, 4])
    assert kv.reserve([1, 2], 1) is None
    assert (kv.in_use, kv.hosted) == (0, 2)


class PoolMachine(RuleBasedStateMachine):
    """Sequences over a small alphabet of chains come, fill blocks and go."""

    def __init__(self) -> None:
        super().__init__()
        self.kv = KvCache(BLOCKS)
        self.held: list[tuple[Reservation, list[int], int]] = []

    @rule(family=st.integers(0, 2), length=st.integers(1, 6), extra=st.integers(0, 4))
    def arrive(self, family: int, length: int, extra: int) -> None:
        chain = [family * 100 + i for i in range(length)]
        hits = self.kv.hits(chain)
        before = self.kv.in_use
        held = self.kv.reserve(chain[:hits], length - hits + extra)
        if held is None:
            assert self.kv.in_use == before
        else:
            self.held.append((held, chain, length + extra))

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 100))
    def fill(self, which: int) -> None:
        held, chain, _ = self.held[which % len(self.held)]
        self.kv.register(held, chain[len(held.named) :])

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 100))
    def leave(self, which: int) -> None:
        held, _, _ = self.held.pop(which % len(self.held))
        self.kv.release(held)

    @invariant()
    def every_block_is_somewhere_once(self) -> None:
        named = {name for held, _, _ in self.held for name in held.named}
        anonymous = sum(held.anonymous for held, _, _ in self.held)
        assert self.kv.in_use == len(named) + anonymous
        assert 0 <= self.kv.in_use <= BLOCKS
        assert self.kv.cached >= len(named)

    @invariant()
    def nobody_lost_blocks(self) -> None:
        for held, _, size in self.held:
            assert len(held.named) + held.anonymous == size
            assert self.kv.hits(held.named[:1]) == len(held.named[:1])

    def teardown(self) -> None:
        for held, _, _ in self.held:
            self.kv.release(held)
        assert self.kv.in_use == 0


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_reservation_says_what_it_holds() -> None:
    assert repr(Reservation([1], 2)) == "Reservation(named=1, anonymous=2)"
    assert repr(KvCache(3)) == "KvCache(in_use=0, idle=0, of=3, hosted=0)"


@pytest.mark.parametrize("size", [1, 16, 128])
def test_an_empty_prompt_has_no_blocks(size: int) -> None:
    assert chain_hashes(b"", size) == []

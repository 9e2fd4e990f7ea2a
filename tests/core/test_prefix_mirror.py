"""What the mirror believes of engines' caches, against an LRU cache that knows."""

import random
from collections import OrderedDict
from itertools import accumulate

import pytest

from router.core.prefix.blocks import BLOCK, DEPTHS, GAINS, checkpoints
from router.core.prefix.mirror import SLICE, SMALLEST, CacheMirror
from router.core.prefix.trust import ENOUGH, PROBATION, Trust
from tests.core.mirrored import pairs

ALL = (1 << 64) - 1


def prompt(blocks: int, seed: int = 0) -> tuple[int, ...]:
    return checkpoints([random.Random(seed).randbytes(blocks * BLOCK)], 0)


def test_a_prompt_is_held_where_it_was_computed() -> None:
    mirror = CacheMirror()
    one, other = mirror.open(), mirror.open()
    mirror.use(one, prompt(16), 16, 0, 16)
    assert mirror.held(prompt(16), 16, 0, ALL) == {one.index: 16}
    assert mirror.held(prompt(16), 16, 0, 1 << other.index) == {}
    assert mirror.held(prompt(16, seed=1), 16, 0, ALL) == {}


def test_each_endpoint_has_its_own_depth() -> None:
    mirror = CacheMirror()
    one, other = mirror.open(), mirror.open()
    long = prompt(40)
    mirror.use(one, long, 40, 0, 40)
    mirror.use(other, long[:4], 4, 0, 4)
    assert mirror.held(long, 40, 0, ALL) == {one.index: 40, other.index: 4}


def test_a_conversations_next_turn_begins_with_all_of_the_last() -> None:
    """38 blocks lie between the checkpoints at 32 and 40; the end is remembered."""
    mirror = CacheMirror()
    page = mirror.open()
    text = random.Random(0).randbytes(45 * BLOCK)
    last, next_ = checkpoints([text[: 38 * BLOCK]], 0), checkpoints([text], 0)
    mirror.use(page, last, 38.0, 7, 38)
    assert mirror.held(next_, 45.0, 7, ALL) == {page.index: 38.0}
    assert mirror.held(next_, 45.0, 8, ALL) == {page.index: 32.0}, "another conversation"


def test_a_short_prompt_is_known_by_its_conversation() -> None:
    mirror = CacheMirror()
    page = mirror.open()
    mirror.use(page, (), 0.4, 7, 0.4)
    assert mirror.held((), 0.9, 7, ALL) == {page.index: 0.4}
    assert mirror.held(prompt(3), 3.2, 7, ALL) == {page.index: 0.4}, "it has grown since"
    assert mirror.held((), 0.9, 8, ALL) == {}
    assert mirror.held((), 0.9, 0, ALL) == {}


def test_what_was_used_long_ago_is_half_believed_and_then_forgotten() -> None:
    mirror = CacheMirror()
    page = mirror.open()
    mirror.start_with(100)
    wanted = prompt(8)
    mirror.use(page, wanted, 8, 0, 8)
    for number in range(1, 100):
        mirror.use(page, prompt(8, seed=number), 8, 0, 8)
        age = 8 * number + 8
        expected = 8 if age <= 100 else 4 if age <= 200 else 0
        assert mirror.held(wanted, 8, 0, ALL).get(page.index, 0) == expected, age
    assert mirror.entries < 2.5 * 100 + SLICE


def test_using_it_again_keeps_it() -> None:
    mirror = CacheMirror()
    page = mirror.open()
    mirror.start_with(100)
    wanted = prompt(8)
    mirror.use(page, wanted, 8, 0, 8)
    for number in range(1, 100):
        mirror.use(page, prompt(8, seed=number), 8, 0, 8)
        mirror.use(page, wanted, 8, 0)
    assert mirror.held(wanted, 8, 0, ALL) == {page.index: 8}


class Engine:
    """An LRU cache of so many blocks, whose users come back, some often and some hardly ever."""

    def __init__(self, size: int) -> None:
        self._rng = random.Random(1)
        self._size = size
        self._cache: OrderedDict[int, int] = OrderedDict()
        self._sessions = [prompt(self._rng.choice((4, 8, 16)), seed) for seed in range(120)]

    def ask(self) -> tuple[tuple[int, ...], int]:
        """A prompt, and the blocks of it that were found."""
        asked = self._sessions[min(119, int(self._rng.expovariate(1 / 30)))]
        found = 0
        for checkpoint, depth in zip(asked, accumulate(GAINS), strict=False):
            if checkpoint not in self._cache:
                break
            found = depth
        for checkpoint, gain in reversed(list(zip(asked, GAINS, strict=False))):
            self._cache.pop(checkpoint, None)
            self._cache[checkpoint] = gain
        while sum(self._cache.values()) > self._size:
            self._cache.popitem(last=False)
        return asked, found


def mean_error(capacity: float, *, learn: bool) -> tuple[float, float]:
    """Of what is expected of an engine of 400 blocks; and the capacity in the end."""
    mirror, engine = CacheMirror(), Engine(400)
    page = mirror.open()
    mirror.capacity = capacity
    errors: list[float] = []
    for _ in range(6000):
        asked, found = engine.ask()
        blocks = float(DEPTHS[len(asked) - 1])
        known, age = mirror.deepest(page, asked)
        expected = mirror.held(asked, blocks, 0, ALL).get(page.index, 0.0)
        errors.append(abs(expected - found) / blocks)
        mirror.use(page, asked, blocks, 0, blocks - found)
        if known >= 0 and learn:
            mirror.learn(age, found >= 0.9 * DEPTHS[known])
    return sum(errors[3000:]) / 3000, mirror.capacity


@pytest.mark.parametrize("start", [SMALLEST, 50.0, 400.0, 40_000.0])
def test_capacity_is_learned_from_what_engines_find(start: float) -> None:
    told, _ = mean_error(400, learn=False)
    ignorant, _ = mean_error(40_000, learn=False)
    learned, capacity = mean_error(start, learn=True)
    assert 200 < capacity < 800
    assert learned < 1.25 * told
    assert learned < 0.5 * ignorant


def test_a_flood_of_unique_prompts_stays_within_its_room() -> None:
    mirror = CacheMirror()
    mirror.max_entries = 5000
    pages = [mirror.open() for _ in range(4)]
    hot, rng = prompt(64), random.Random(3)
    for number in range(3000):
        page = pages[number % 4]
        mirror.use(page, tuple(rng.getrandbits(64) for _ in range(20)), 20, 0, 20)
        mirror.use(pages[0], hot, 64, 0)
        assert mirror.entries <= 5000
    assert mirror.entries == sum(map(len, pages)) == pairs(mirror)
    assert mirror.shed > 0
    assert mirror.held(hot, 64, 0, ALL)[pages[0].index] == 64, "what is in use stays"


def test_a_lost_endpoint_holds_nothing_and_its_place_is_given_on() -> None:
    mirror = CacheMirror()
    lost, other = mirror.open(), mirror.open()
    for number in range(300):
        mirror.use(lost, prompt(40, number), 40, 0, 40)
    mirror.close(lost)
    again = mirror.open()
    assert again.index not in (lost.index, other.index), "not while its bits are still set"
    assert mirror.held(prompt(40, 0), 40, 0, 1 << again.index) == {}
    for _ in range(20):
        mirror.use(other, prompt(2), 2, 0)
    assert mirror.entries == len(other)
    assert mirror.open().index == lost.index


def test_what_was_never_read_is_taken_back() -> None:
    mirror = CacheMirror()
    page = mirror.open()
    mirror.use(page, prompt(20)[:6], 6, 0, 6)
    mirror.use(page, prompt(20), 20, 0, 14)
    mirror.unlearn(page, prompt(20)[6:])
    assert mirror.held(prompt(20), 20, 0, ALL) == {page.index: 6}


def test_a_mirror_that_is_wrong_for_long_is_not_believed_until_it_is_right_again() -> None:
    trust = Trust()
    for answer in range(ENOUGH):
        trust.compare(900, 900, 1000, answer)
    assert trust.believed
    answer = ENOUGH
    while trust.believed:
        trust.compare(900, 0, 1000, answer)
        answer += 1
    assert 10 < answer - ENOUGH < 40
    assert trust.lost == 1
    lost_at = answer
    while not trust.believed:
        trust.compare(0, 0, 1000, answer)
        answer += 1
    assert answer - lost_at > PROBATION

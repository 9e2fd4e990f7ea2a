"""What an engine's events say of its cache, step by step."""

from collections.abc import Callable

import pytest

from router.core.engine_cache import cache as cache_module
from router.core.engine_cache.blocks import DEVICE, HOST, Blocks
from router.core.engine_cache.cache import MOST_WAITING, EngineCache, Tip
from router.core.engine_cache.view import EngineView
from router.core.forecast.notes import unpack

Step = tuple[str, object]
# Blocks 1-2-3-4 are a chain, 5 follows 2. What is found is what a prompt can be found by.
CHAIN = ("store", ([1, 2, 3, 4], None))
BRANCH = ("store", ([5], 2))
SEQUENCES: dict[str, tuple[list[Step], set[int], int]] = {
    "a chain": ([CHAIN], {1, 2, 3, 4}, 4),
    "chunk by chunk": ([("store", ([1, 2], None)), ("store", ([3, 4], 2))], {1, 2, 3, 4}, 4),
    "stored twice": ([CHAIN, CHAIN], {1, 2, 3, 4}, 4),
    "a branch": ([CHAIN, BRANCH], {1, 2, 3, 4, 5}, 5),
    "the tail goes": ([CHAIN, ("remove", [4, 3])], {1, 2}, 2),
    "a hole": ([CHAIN, BRANCH, ("remove", [2])], {1}, 4),
    "a hole, and more of it": ([CHAIN, BRANCH, ("remove", [2, 3])], {1}, 3),
    "a hole is filled": (
        [CHAIN, BRANCH, ("remove", [2]), ("store", ([2], 1))],
        {1, 2, 3, 4, 5},
        5,
    ),
    "two holes, one filled": ([CHAIN, ("remove", [2, 3]), ("store", ([2], 1))], {1, 2}, 3),
    "the beginning goes": ([CHAIN, ("remove", [1])], set(), 3),
    "the beginning comes back": ([CHAIN, ("remove", [1]), ("store", ([1], None))], {1, 2, 3, 4}, 4),
    "all goes and comes back": ([CHAIN, ("remove", [1, 2, 3, 4]), CHAIN], {1, 2, 3, 4}, 4),
    "cleared": ([CHAIN, ("clear", None)], set(), 0),
    "cleared and begun anew": ([CHAIN, ("clear", None), ("store", ([1], None))], {1}, 1),
    "what is before is not known": ([("store", ([3, 4], 2))], {2, 3, 4}, 2),
    "it goes": ([("store", ([3, 4], 2)), ("remove", [2])], set(), 2),
    "it becomes known": ([("store", ([3, 4], 2)), ("store", ([1, 2], None))], {1, 2, 3, 4}, 4),
    "it becomes known and goes": (
        [("store", ([3, 4], 2)), ("store", ([1, 2], None)), ("remove", [1])],
        set(),
        3,
    ),
    "removed and never stored": ([("remove", [9])], set(), 0),
    "another tier has a copy": ([CHAIN, ("copy", [4]), ("remove", [4])], {1, 2, 3, 4}, 4),
    "that goes too": (
        [CHAIN, ("copy", [4]), ("remove", [4]), ("remove_host", [4])],
        {1, 2, 3},
        3,
    ),
    "a copy of what is not known": ([("copy", [7])], {7}, 1),
}


class Heard:
    """Who wants to know what is found."""

    def __init__(self) -> None:
        self.found: set[int] = set()

    def changed(self, name: int, found: bool) -> None:
        assert (name in self.found) is not found, "told twice"
        (self.found.add if found else self.found.discard)(name)


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences(name: str) -> None:
    steps, found, held = SEQUENCES[name]
    heard = Heard()
    blocks = Blocks(100, range(10), heard.changed)
    acts: dict[str, Callable[..., None]] = {
        "store": lambda given: blocks.stored(given[0], given[1], DEVICE),
        "remove": lambda given: blocks.removed(given, DEVICE),
        "copy": lambda given: blocks.copied(given, HOST),
        "remove_host": lambda given: blocks.removed(given, HOST),
        "clear": lambda _: (blocks.clear(), heard.found.clear()),
    }
    for kind, given in steps:
        acts[kind](given)
    assert {one for one in range(10) if blocks.found(one)} == found == heard.found
    assert blocks.held == held


def test_what_is_gone_takes_no_room() -> None:
    blocks = Blocks(100, (), lambda *_: None)
    blocks.stored([1, 2, 3, 4], None)
    blocks.stored([5], 2)
    blocks.removed([2])
    assert len(blocks) == 5, "others are behind it"
    blocks.removed([4, 3, 5, 1])
    assert len(blocks) == 0
    blocks.stored([6, 7], 5)
    blocks.removed([7, 6])
    assert len(blocks) == 0, "5 was only guessed"


def test_blocks_are_bounded_and_room_is_used_again() -> None:
    blocks = Blocks(3, (), lambda *_: None)
    blocks.stored([1, 2, 3, 4, 5], None)
    assert (len(blocks), blocks.unknown, blocks.whole) == (3, 2, False)
    blocks.removed([5, 4, 3])
    blocks.stored([3, 4], 2)
    assert [blocks.found(one) for one in (1, 2, 3, 4)] == [True, True, True, False]
    blocks.clear()
    assert blocks.whole


def test_a_long_chain_is_forgotten_at_once() -> None:
    blocks = Blocks(100_000, (), lambda *_: None)
    blocks.stored(range(1, 50_001), None)
    blocks.removed([1])
    assert blocks.held == 49_999
    assert not blocks.found(50_000)
    blocks.removed(range(50_000, 1, -1))
    assert len(blocks) == 0


class News:
    def __init__(self) -> None:
        self.held: dict[int, bool] = {}

    def tied(self, name: int, held: bool) -> None:
        self.held[name] = held

    def cleared(self) -> None:
        self.held.clear()


# A prompt of 8 blocks of bytes and a bit, which are 16 of the engine's: names 101 to 108 for its
# beginnings of 1 to 8 blocks of bytes, 99 for all of it.
NAMES = tuple(range(101, 109))
TIP = Tip(16, 16, NAMES, 8.2, 99)


def cache_with(blocks: int = 16, **limits: int) -> tuple[EngineCache, News]:
    news = News()
    cache = EngineCache(news, **limits)
    cache.store(list(range(1, blocks + 1)), None, 64)
    return cache, news


def test_names_are_tied_to_the_blocks_they_end_in() -> None:
    cache, news = cache_with()
    cache.tie(TIP)
    assert news.held == dict.fromkeys((*NAMES, 99), True)
    cache.remove([16])
    assert [name for name, held in news.held.items() if not held] == [99, 108]
    cache.remove([15, 14, 13])
    assert not news.held[107]
    assert news.held[106]


def test_an_answer_may_be_faster_than_the_event() -> None:
    cache, news = cache_with(10)
    cache.tie(TIP)
    assert news.held == {}
    cache.store(list(range(11, 17)), 10, 64)
    assert news.held == dict.fromkeys((*NAMES, 99), True)


def test_what_waits_is_bounded() -> None:
    cache, news = cache_with(1)
    cache.tie(Tip(2, 2, (201,), 1.0, 0))
    for block in range(1000, 1000 + MOST_WAITING):
        cache.tie(Tip(block, 2, (301,), 1.0, 0))
    cache.store([2], 1, 64)
    assert 201 not in news.held


def test_what_is_stored_again_is_held_again() -> None:
    cache, news = cache_with()
    cache.tie(TIP)
    cache.remove(list(range(16, 4, -1)))
    assert [name for name in NAMES if news.held[name]] == [101, 102]
    cache.store(list(range(5, 17)), 4, 64)
    assert all(news.held.values())


def test_a_hole_hides_what_is_behind_it() -> None:
    cache, news = cache_with()
    cache.tie(TIP)
    cache.remove([5])
    assert [name for name in NAMES if news.held[name]] == [101, 102]
    cache.store([5], 4, 64)
    assert all(news.held.values())


def test_as_much_is_tied_as_is_known() -> None:
    """Whoever came late does not know the first blocks."""
    news = News()
    cache = EngineCache(news)
    cache.store(list(range(9, 17)), 8, 64)
    cache.tie(TIP)
    assert sorted(news.held) == [99, 104, 105, 106, 107, 108]


def test_the_same_name_may_come_to_stand_for_another_block() -> None:
    cache, news = cache_with()
    cache.tie(TIP)
    cache.store([20, 21], None, 64)
    cache.tie(Tip(21, 2, (101,), 1.0, 0))
    cache.remove([21])
    assert not news.held[101]
    assert news.held[102]


def test_ties_are_bounded_and_what_is_gone_gives_way() -> None:
    cache, news = cache_with(most_ties=9)
    cache.tie(TIP)
    cache.store([20, 21], None, 64)
    cache.tie(Tip(21, 2, (201,), 1.0, 0))
    assert (cache.ties, cache.untied) == (9, 1)
    assert 201 not in news.held
    cache.remove([16])
    cache.tie(Tip(21, 2, (201,), 1.0, 0))
    assert news.held[201]
    assert cache.ties <= 9


def test_what_is_gone_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MOST_GONE", 2)
    cache, news = cache_with()
    cache.tie(TIP)
    cache.remove([16, 15, 14, 13, 12, 11])
    assert cache.ties == 9 - 2, "two names were tied to the first that went"
    cache.store(list(range(11, 17)), 10, 64)
    assert [name for name in (99, *NAMES) if not news.held[name]] == [99, 108]


def test_volume_is_counted_without_any_tip() -> None:
    cache, _ = cache_with(10)
    cache.remove([10, 9])
    assert (cache.stored, cache.blocks, cache.block_size, cache.evicts) == (640, 8, 64, True)


# --- news ---------------------------------------------------------------------------------------


def stored(*blocks: int, before: int | None = None) -> Callable[[EngineCache], None]:
    return lambda cache: cache.store(blocks, before, 64)


def removed(*blocks: int) -> Callable[[EngineCache], None]:
    return lambda cache: cache.remove(blocks)


def told(view: EngineView) -> list[tuple[bool, bool, set[int], set[int]]]:
    return [
        (one.exact, one.cleared, set(unpack(one.lost)), set(unpack(one.held)))
        for one in view.take()
    ]


@pytest.fixture
def view() -> EngineView:
    made = EngineView("c/e:1", 1000)
    made.connected(replays=True)
    made.caught_up()
    made.live(0, 1, stored(1, 2, 3, 4))
    made.tie(Tip(4, 4, (101, 102), 2.1, 99))
    return made


ALL = {101, 102, 99}


def test_news_are_what_changed(view: EngineView) -> None:
    assert told(view) == [(True, False, set(), ALL)]
    assert view.take() == []
    view.live(1, 1, removed(4))
    view.live(2, 1, removed(3))
    assert told(view) == [(True, False, {102, 99}, set())]
    view.live(3, 1, stored(3, 4, before=2))
    assert told(view) == [(True, False, set(), {102, 99})]


def test_what_goes_and_comes_back_is_no_loss(view: EngineView) -> None:
    view.take()
    view.live(1, 1, removed(4))
    view.live(2, 1, stored(4, before=3))
    (news,) = view.take()
    assert (news.lost, len(news.held), news.stored) == (b"", 16, 64)


def test_out_of_step_nothing_is_sure_and_in_step_again_all_is(view: EngineView) -> None:
    view.take()
    view.lost()
    assert told(view) == [(False, False, set(), set())]
    view.live(1, 1, removed(4))
    assert view.take() == []
    view.caught_up()
    assert told(view) == [(True, False, {102, 99}, {101})]


def test_cleared(view: EngineView) -> None:
    view.take()
    view.live(1, 1, lambda cache: cache.clear())
    assert told(view) == [(True, True, set(), set())]
    assert view.whole


def test_the_room_is_told_when_it_differs(view: EngineView) -> None:
    view.take()
    assert view.cache.stored == 4 * 64
    view.live(1, 1, removed(4))
    assert [one.size for one in view.take()] == [3 * 64]
    view.live(2, 1, stored(4, before=3))
    assert [one.size for one in view.take()] == [4 * 64]
    view.live(3, 1, stored(4, before=3))
    assert [one.size for one in view.take()] == [0]

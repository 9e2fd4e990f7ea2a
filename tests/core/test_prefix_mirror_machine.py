"""The mirror against what it stands for: for each endpoint a dict of names in the order of use."""

from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.core.prefix.blocks import DEPTHS
from router.core.prefix.ends import end_of
from router.core.prefix.mirror import RECENT, CacheMirror
from router.core.prefix.page import MOST_NAMES, Page
from tests.core.mirrored import estimated, pairs

CAPACITY = 40.0
WORDS = st.text("ab", max_size=9)
TALKS = st.sampled_from([0, 7, 8])
SEATS = st.integers(0, 5)


def names_of(words: str) -> tuple[int, ...]:
    return tuple(int("1" + words[: end + 1], 13) for end in range(len(words)))


class Memory:
    """Of one endpoint."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.stamps: dict[int, float] = {}
        self.sure: set[int] = set()
        self.clock = self.sweep_at = 0.0

    def use(self, names: tuple[int, ...], fresh: float) -> None:
        names = tuple(name for name in names if name not in self.sure)
        recent = self.clock - CAPACITY * RECENT
        if names and self.stamps.get(names[-1], -inf) < recent:
            for name in names:
                if self.stamps.get(name, -inf) < recent:
                    self.stamps.pop(name, None)
                    self.stamps[name] = self.clock
        self.clock += fresh
        if self.clock >= self.sweep_at:
            for name, stamp in list(self.stamps.items()):
                if stamp >= self.clock - 2 * CAPACITY:
                    break
                del self.stamps[name]
            self.sweep_at = self.clock + CAPACITY / 4

    def held(self, names: tuple[int, ...], blocks: float, talk: int, mirror: CacheMirror) -> float:
        found = 0.0
        places = [(name, float(DEPTHS[at]), name ^ talk) for at, name in enumerate(names)]
        for name, depth, key in reversed([(talk, 0.0, talk)] * bool(talk) + places):
            end = mirror.ends.at(key)
            most = depth if end is None else min(end, blocks)
            if name in self.sure:
                last = end_of((name,) if depth else (), talk)
                return max(found, most if last in self.sure else depth)
            age = self.clock - self.stamps.get(name, -inf)
            if age <= CAPACITY:
                return max(found, most)
            if age <= 2 * CAPACITY:
                found = max(found, most / 2)
        return found


class MirrorMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.mirror = CacheMirror()
        self.mirror.start_with(CAPACITY)
        self.memories = [Memory(self.mirror.open()) for _ in range(6)]
        self.asked: dict[tuple[str, int], None] = {}

    @rule(seat=SEATS, words=WORDS, talk=TALKS, more=st.floats(0, 0.9), fresh=st.floats(0, 30))
    def use(self, seat: int, words: str, talk: int, more: float, fresh: float) -> None:
        memory, names = self.memories[seat], names_of(words)
        blocks = (DEPTHS[len(words) - 1] if words else 0) + more
        self.mirror.use(memory.page, names, blocks, talk, fresh)
        memory.use(names or ((talk,) if talk else ()), fresh)
        self.asked[words, talk] = None

    @rule(seats=st.sets(SEATS, min_size=2), words=WORDS, fresh=st.floats(0, 2))
    def use_at_several(self, seats: set[int], words: str, fresh: float) -> None:
        for seat in seats:
            self.use(seat, words, 0, 0.0, fresh)

    @rule(seat=SEATS, words=WORDS)
    def unlearn(self, seat: int, words: str) -> None:
        memory = self.memories[seat]
        self.mirror.unlearn(memory.page, names_of(words))
        for name in names_of(words):
            memory.stamps.pop(name, None)

    @rule(seat=SEATS, words=WORDS, talk=TALKS)
    def assure(self, seat: int, words: str, talk: int) -> None:
        memory, names = self.memories[seat], names_of(words)
        told = [*names, *filter(None, [end_of(names, talk)])]
        self.mirror.assure(memory.page, told)
        memory.sure.update(told)
        for name in told:
            memory.stamps.pop(name, None)

    @rule(seat=SEATS, words=WORDS)
    def lose(self, seat: int, words: str) -> None:
        memory = self.memories[seat]
        self.mirror.lose(memory.page, names_of(words))
        for name in names_of(words):
            memory.stamps.pop(name, None)
            memory.sure.discard(name)

    @rule(seat=SEATS)
    def doubt(self, seat: int) -> None:
        memory = self.memories[seat]
        self.mirror.doubt(memory.page)
        known = len(memory.stamps)
        memory.stamps.update(dict.fromkeys(memory.sure, memory.clock))
        # Those that were sure stand in any order.
        order = estimated(memory.page)[known:]
        assert set(order) == memory.sure
        for name in order:
            memory.stamps[name] = memory.stamps.pop(name)
        memory.sure = set()

    @rule(seat=SEATS, words=WORDS, ages=st.lists(st.floats(0, 90), min_size=9, max_size=9))
    def recall(self, seat: int, words: str, ages: list[float]) -> None:
        memory = self.memories[seat]
        found = list(zip(names_of(words), sorted(ages), strict=False))
        self.mirror.recall(memory.page, found)
        older = {
            name: memory.clock - age
            for name, age in reversed(found)
            if name not in memory.stamps and name not in memory.sure
        }
        memory.stamps = older | memory.stamps

    @rule(seat=SEATS)
    def replace(self, seat: int) -> None:
        self.mirror.close(self.memories[seat].page)
        self.memories[seat] = Memory(self.mirror.open())

    @invariant()
    def each_is_known_by_its_last_use(self) -> None:
        for memory in self.memories:
            assert estimated(memory.page) == list(memory.stamps)
            assert memory.page.sure == memory.sure
            told = self.mirror.recent(memory.page, 1000)
            ages = [(name, memory.clock - stamp) for name, stamp in memory.stamps.items()]
            assert told[len(memory.sure) :] == ages[::-1]
            assert self.mirror.recent(memory.page, 3) == told[:3]
            assert all(1 <= len(use.names) <= MOST_NAMES for use in memory.page.uses)

    @invariant()
    def what_is_held_is_what_each_remembers(self) -> None:
        for asked in (self.memories[:1], self.memories[1:], self.memories):
            among = sum(memory.page.bit for memory in asked)
            for words, talk in self.asked:
                names, blocks = names_of(words), 30.0
                held = self.mirror.held(names, blocks, talk, among)
                expected = {
                    memory.page.index: blocks_held
                    for memory in asked
                    if (blocks_held := memory.held(names, blocks, talk, self.mirror))
                }
                assert {index: blocks for index, blocks in held.items() if blocks} == expected

    @invariant()
    def books_are_kept(self) -> None:
        pages = [memory.page for memory in self.memories] + self.mirror._leaving
        assert self.mirror.entries == sum(map(len, pages)) == pairs(self.mirror)


TestMirrorMachine = MirrorMachine.TestCase
TestMirrorMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)

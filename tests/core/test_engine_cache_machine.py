"""A mirror that is told what an engine's cache holds, against the cache: whatever happens to it.

The engine evicts blocks in any order as long as all is known of it, loses batches, restarts and is
cleared; the router asks for what it missed, which may be gone. What the mirror is sure of is then
what the engine would find.
"""

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from xxhash import xxh3_64_intdigest

from router.core.engine_cache.cache import EngineCache, Tip
from router.core.engine_cache.view import Ask, EngineView
from router.core.forecast.certainty import heed
from router.core.forecast.forecast import Forecast
from router.core.model import EndpointId
from router.core.prefix.blocks import BLOCK, DEPTHS, checkpoints
from router.core.prefix.ends import end_of
from tests.core.mirrored import estimated

ENDPOINT = EndpointId("c/e:1")
SPAN = BLOCK // 2
"""Bytes of one of the engine's blocks."""

Events = Callable[[EngineCache], None]
Batch = tuple[int, int, Events]


def conversation(prompt: bytes) -> int:
    """Each of its own: it says where a prompt ends, and here none is the beginning of another."""
    return xxh3_64_intdigest(prompt)


class Engine:
    """A cache and what it publishes: a number, a mark and the events of each batch."""

    def __init__(self, life: int, kept: int) -> None:
        self.present: dict[int, None] = {}
        self.before: dict[int, int | None] = {}
        self.batches: list[Batch] = []
        self._life = life
        self._kept = kept

    def publish(self, events: Events) -> Batch:
        number = self.batches[-1][0] + 1 if self.batches else 0
        batch = (number, (self._life << 32) + number + 1, events)
        self.batches.append(batch)
        return batch

    def from_(self, first: int) -> list[Batch]:
        return [batch for batch in self.batches[-self._kept :] if batch[0] >= first]

    def chain(self, prompt: bytes) -> list[int]:
        names: list[int] = []
        for start in range(0, len(prompt) - SPAN + 1, SPAN):
            seed = names[-1] if names else 0
            names.append(xxh3_64_intdigest(prompt[start : start + SPAN], seed=seed))
        return names

    def compute(self, prompt: bytes) -> list[Events]:
        """What a step tells of the prompt's blocks that were not there."""
        names, events = self.chain(prompt), []
        start = 0
        while start < len(names):
            if names[start] in self.present:
                start += 1
                continue
            end = start
            while end < len(names) and names[end] not in self.present:
                end += 1
            before = names[start - 1] if start else None
            fresh = names[start:end]
            events.append(lambda cache, f=fresh, b=before: cache.store(f, b, 64))
            start = end
        self.present.update(dict.fromkeys(names))
        self.before.update(zip(names, (None, *names), strict=False))
        return events

    def tails(self) -> list[int]:
        """Blocks behind which there are none."""
        inner = {self.before[name] for name in self.present}
        return [name for name in self.present if name not in inner]

    def found(self, prompt: bytes) -> int:
        count = 0
        for name in self.chain(prompt):
            if name not in self.present:
                break
            count += 1
        return count


class ToldMirror(RuleBasedStateMachine):
    @initialize(kept=st.integers(1, 6), replays=st.booleans())
    def start(self, kept: int, replays: bool) -> None:
        self.kept, self.replays = kept, replays
        self.lives = 0
        self.engine = Engine(0, kept)
        self.view = EngineView(ENDPOINT, 10_000)
        self.forecast = Forecast()
        self.page = self.forecast.of(ENDPOINT).page
        self.tied: dict[bytes, None] = {}
        self.hear: bool = True
        self.connect()

    # --- what a session does --------------------------------------------------------------------

    def connect(self) -> None:
        self.view.connected(replays=self.replays)
        if self.replays:
            self.catch_up()
        self.view.caught_up()
        self.settle()

    def catch_up(self) -> None:
        while True:
            same = True
            for number, mark, events in self.engine.from_(self.view.ask()):
                same = same and self.view.replayed(number, mark, events)
            if self.view.replay_over() and same:
                return

    def receive(self, batch: Batch) -> None:
        if not self.hear:
            return
        if self.view.live(*batch) is Ask.FOR_MISSED:
            self.catch_up()
            self.view.settle(*batch)
        self.settle()

    def settle(self) -> None:
        lost = self.view.counts.lost, self.view.counts.restarts
        if lost != getattr(self, "_lost", (0, 0)):
            self._lost = lost
            self.tied.clear()
        for news in self.view.take():
            heed(self.forecast, news)
            if news.cleared:
                self.tied.clear()
        self.page = self.forecast.of(ENDPOINT).page

    # --- what happens ---------------------------------------------------------------------------

    @rule(
        words=st.text("ab", min_size=1, max_size=11),
        half=st.booleans(),
        early=st.booleans(),
        seen=st.booleans(),
    )
    def serve(self, words: str, half: bool, early: bool, seen: bool) -> None:
        prompt = "".join(word * BLOCK for word in words).encode() + b"x" * (SPAN * half + 9)
        names, chain = checkpoints([prompt], 0), self.engine.chain(prompt)
        blocks = len(prompt) / BLOCK
        self.forecast.mirror.use(self.page, names, blocks, conversation(prompt), 0.0)
        tip = Tip(chain[-1], len(chain), names, blocks, end_of(names, conversation(prompt)))
        # Without any event the tip of blocks that were there before is a tie all the same.
        seen = seen and (self.hear or chain[-1] in self.engine.present)
        if early and seen:
            self.view.tie(tip)
        for events in self.engine.compute(prompt):
            self.receive(self.engine.publish(events))
        if seen and not early:
            self.view.tie(tip)
        self.settle()
        # Of what was there before the picture began not all may be tied.
        if seen and self.hear and self.view.cache._tied.keys() >= {tip.end, *names}:
            self.tied[prompt] = None

    @precondition(lambda self: self.engine.present)
    @rule(which=st.lists(st.integers(0, 1000), min_size=1, max_size=6))
    def evict(self, which: list[int]) -> None:
        gone: list[int] = []
        for one in which:
            # What was before the picture began cannot be seen to go: engines take the tail first.
            able = list(self.engine.present) if self.view.whole else self.engine.tails()
            if able:
                gone.append(able[one % len(able)])
                del self.engine.present[gone[-1]]
        self.receive(self.engine.publish(lambda cache: cache.remove(gone)))

    @rule()
    def clear(self) -> None:
        self.engine.present.clear()
        self.receive(self.engine.publish(lambda cache: cache.clear()))

    @precondition(lambda self: self.hear)
    @rule()
    def lose_the_connection(self) -> None:
        self.hear = False
        self.view.lost()
        self.settle()

    @precondition(lambda self: not self.hear)
    @rule()
    def find_it_again(self) -> None:
        self.hear = True
        self.connect()

    @rule()
    def lose_a_batch(self) -> None:
        self.engine.publish(lambda cache: None)

    @precondition(lambda self: not self.hear)
    @rule()
    def restart(self) -> None:
        self.lives += 1
        self.engine = Engine(self.lives, self.kept)

    # --- what holds -----------------------------------------------------------------------------

    @precondition(lambda self: self.hear)
    @invariant()
    def what_is_sure_is_what_the_engine_finds(self) -> None:
        mirror = self.forecast.mirror
        for prompt in self.tied:
            names = checkpoints([prompt], 0)
            blocks = len(prompt) / BLOCK
            held = mirror.held(names, blocks, conversation(prompt), 1 << self.page.index)
            found = self.engine.found(prompt)
            expected = max((d for d in DEPTHS[: len(names)] if 2 * d <= found), default=0)
            if found == len(self.engine.chain(prompt)):
                expected = blocks
            assert held.get(self.page.index, 0.0) == expected, (prompt, self.view)

    @invariant()
    def nothing_is_sure_out_of_step(self) -> None:
        assert self.hear or not self.page.sure

    @invariant()
    def books_are_kept(self) -> None:
        mirror = self.forecast.mirror
        assert not self.page.sure & set(estimated(self.page))
        leaving = sum(len(page) for page in mirror._leaving)
        assert mirror.entries == len(self.page) + leaving
        assert self.view.cache.known >= self.view.cache.blocks
        if self.hear and self.view.whole:
            assert self.view.cache.blocks == len(self.engine.present) or self.lost_some()

    def lost_some(self) -> bool:
        """A batch was lost a moment ago, which shows when the next one comes."""
        return self.engine.batches[-1][0] >= self.view.sequence.expected


TestToldMirror = ToldMirror.TestCase
TestToldMirror.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)

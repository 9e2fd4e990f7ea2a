"""Which endpoint is thought to hold which prefix: a bounded mirror of the engines' KV caches.

It is fed with what was sent where, and believes what engines do: keep what was used last. Every
endpoint has a clock that counts blocks which were new to it. An entry's *age*, the clock now less
the clock when it was used last, is about its depth in the engine's LRU list: up to the capacity C
of a cache it counts as held, up to 2 C as held by half, beyond that it is forgotten. C is learned
from what the engines say they found (``learn``); one C for all, for one endpoint's answers
are too few to follow it, scaled by what each says of its own size.

What an endpoint used last at one time is one object with a clock and a list of names, kept in the
order of use, so that the oldest are found in front; a name leads to the last use of it, or to those
of several endpoints (``holders``). That is 140 bytes for a pair of checkpoint and endpoint in
CPython 3.11, of which the dict of names has 70 and a name itself 36. Forgetting is done in slices,
as a part of remembering, and never takes long. Rule and constants are measured, see
docs/warm-path.md.

Checkpoints are up to a quarter of the prompt apart. So where a prompt ended is remembered as well:
a conversation's next turn begins with all of the last one.

Where an engine tells what its cache holds (``core.engine_cache``), a name that was tied to its
blocks is *sure* as long as it holds them, whatever its age; names that are not tied yet are
estimated as ever. Such a page's clock follows what the engine says that it stored.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from math import inf, sqrt
from typing import Any, Final

from router.core.prefix.blocks import BLOCK, DEPTHS
from router.core.prefix.ends import Ends, end_of
from router.core.prefix.holders import Holders, mask_of
from router.core.prefix.page import MOST_NAMES, Page, Use

UNKNOWN_CAPACITY: Final = 4_000_000
"""Tokens that a cache is thought to hold where neither page nor answers tell: rather too many, for
too few lose hits, and too many only until the first answers tell better."""

SLICE: Final = 1000
"""Entries that are forgotten at one time, at 0.2 us each: no stream should wait for more."""

RECENT: Final = 1 / 32
"""Share of the capacity within which a use is not entered anew: most prompts end soon after they
began."""

LEAST: Final = 1 / 4
"""Share of what an engine says it can hold below which the learned capacity does not fall."""

SMALLEST: Final = 8.0
"""Blocks below which the learned capacity does not fall, so that it can rise again."""

SURE: Final = -1.0
"""An age that says nothing of the capacity: the name is held for sure."""


class CacheMirror:
    """Of one cluster.

    Attributes:
        capacity: of one cache, in blocks.
        ends: of prompts.
        entries: pairs of checkpoint and endpoint.
        max_entries: of them at most; the oldest of the fullest endpoint make room.
        shed: pairs forgotten for want of room.
    """

    __slots__ = (
        "_corrections",
        "_exact",
        "_holders",
        "_least",
        "_leaving",
        "_most",
        "_pages",
        "capacity",
        "ends",
        "entries",
        "max_entries",
        "shed",
    )

    def __init__(self, max_entries: int = 1_000_000) -> None:
        self.capacity = UNKNOWN_CAPACITY * 4.0 / BLOCK
        self.entries = 0
        self.shed = 0
        self.max_entries = max_entries
        self.ends = Ends()
        self._pages: dict[int, Page] = {}
        self._holders = Holders(self._pages)
        self._leaving: list[Page] = []
        self._corrections = 0
        self._least = SMALLEST
        self._most = inf
        # The pages of which something is known for sure, as a bit mask.
        self._exact = 0

    # --- endpoints --------------------------------------------------------------------------

    def open(self) -> Page:
        """A page for an endpoint that holds nothing yet."""
        taken = {page.index for page in self._leaving}
        index = 0
        while index in self._pages or index in taken:
            index += 1
        page = self._pages[index] = Page(index)
        return page

    def close(self, page: Page) -> None:
        """Forget an endpoint; little by little, for it may hold much."""
        if self._pages.get(page.index) is page:
            del self._pages[page.index]
            self._leaving.append(page)
            self._exact &= ~(1 << page.index)

    def opened(self, page: Page) -> bool:
        """Whether it has not been closed."""
        return self._pages.get(page.index) is page

    # --- looking ----------------------------------------------------------------------------

    def held(
        self, checkpoints: Sequence[int], blocks: float, conversation: int, among: int
    ) -> dict[int, float]:
        """Blocks of a prompt that endpoints are expected to hold.

        Args:
            checkpoints: of the prompt.
            blocks: of the prompt in all.
            conversation: what its turns have in common, 64 bits; 0 if that is not known.
            among: bit mask of the pages asked for.

        Returns:
            Blocks by index of page; endpoints that hold nothing are left out.
        """
        if self._exact & among:
            return self._held_for_sure(checkpoints, blocks, conversation, among)
        holders = self._holders
        found: dict[int, float] = {}
        for position in range(len(checkpoints) - 1, -1, -1):
            checkpoint = checkpoints[position]
            holder = holders.by_name.get(checkpoint)
            if holder is None:
                continue
            mask = mask_of(holder) & among
            if not mask:
                continue
            end = self.ends.at(checkpoint ^ conversation)
            depth = DEPTHS[position] if end is None else min(end, blocks)
            among ^= holders.find(holder, mask, depth, self.capacity, found)
            if not among:
                return found
        if conversation and (holder := holders.by_name.get(conversation)) is not None:
            depth = min(self.ends.at(conversation) or 0.0, blocks)
            holders.find(holder, mask_of(holder) & among, depth, self.capacity, found)
        return found

    def _held_for_sure(
        self, checkpoints: Sequence[int], blocks: float, conversation: int, among: int
    ) -> dict[int, float]:
        """The same where some of the pages asked for have names that are sure."""
        holders = self._holders
        found: dict[int, float] = {}
        for position in range(len(checkpoints) - 1, -1, -1):
            checkpoint = checkpoints[position]
            holder = holders.by_name.get(checkpoint)
            if holder is None:
                continue
            mask = mask_of(holder) & among
            if not mask:
                continue
            end = self.ends.at(checkpoint ^ conversation)
            depth = DEPTHS[position] if end is None else min(end, blocks)
            name = end_of((checkpoint,), conversation)
            among ^= holders.find_sure(
                holder, mask, name, DEPTHS[position], depth, self.capacity, found
            )
            if not among:
                return found
        if conversation and (holder := holders.by_name.get(conversation)) is not None:
            depth, mask = min(self.ends.at(conversation) or 0.0, blocks), mask_of(holder) & among
            holders.find_sure(
                holder, mask, end_of((), conversation), 0.0, depth, self.capacity, found
            )
        return found

    def deepest(self, page: Page, checkpoints: Sequence[int]) -> tuple[int, float]:
        """The position of the deepest checkpoint that the page has, whatever its age, and that.

        The position is -1 where it has none; the age is ``SURE`` where there is nothing to learn.
        """
        for position in range(len(checkpoints) - 1, -1, -1):
            use = self._holders.last(page, checkpoints[position])
            if use is not None:
                if use is page.told:
                    return position, SURE
                return position, (page.clock - use.clock) * page.scale
        return -1, 0.0

    # --- remembering ------------------------------------------------------------------------

    def use(
        self,
        page: Page,
        checkpoints: Sequence[int],
        blocks: float,
        conversation: int,
        fresh: float = 0.0,
    ) -> None:
        """An endpoint computes a prompt now, or has just done so.

        Args:
            blocks: of the prompt in all.
            conversation: as in ``held``.
            fresh: blocks of it that are new to the endpoint.
        """
        # A prompt of less than a block has no other name than its conversation's.
        names = checkpoints or ((conversation,) if conversation else ())
        if names:
            self._stamp(page, names)
            last = names[-1]  # itself where that is its name: one object
            self.ends.put(last ^ conversation if checkpoints and conversation else last, blocks)
        page.clock += fresh
        if page.counted:
            page.ahead += fresh
        if page.clock >= page.sweep_at:
            self._sweep(page)
        if self.entries > self.max_entries:
            self._shed()
        if self._leaving:
            self._leave()

    def _stamp(self, page: Page, names: Sequence[Any]) -> None:
        if page.sure:
            names = [name for name in names if name not in page.sure]
            if not names:
                return
        holders = self._holders
        recent = page.clock - self.capacity / page.scale * RECENT
        last = holders.last(page, names[-1])
        if last is not None and last.clock >= recent:
            return  # then all before it are
        use = Use(page, page.clock, [])
        page.uses[use] = None
        self.entries += holders.put_all(page, names, use, recent)

    def unlearn(self, page: Page, checkpoints: Sequence[int]) -> None:
        """The endpoint has not got these after all."""
        for checkpoint in checkpoints:
            use = self._holders.last(page, checkpoint)
            if use is not None and use is not page.told:
                self._forget(page, checkpoint)

    def learn(self, age: float, present: bool) -> None:
        """What an answer said of an entry of this age: whether the engine still had it."""
        capacity = self.capacity
        if present is (age <= capacity):
            return  # as expected
        self._corrections += 1
        step = max(0.05, 0.5 / sqrt(self._corrections))
        towards = age * (1.05 if present else 0.95)
        self.capacity = self._fitting(capacity + step * (towards - capacity))

    def start_with(self, blocks: float) -> None:
        """What the engines say of their caches; heeded until answers have told better."""
        if not self._corrections:
            self.capacity = self._fitting(blocks)

    # --- what the engine says -------------------------------------------------------------------

    def assure(self, page: Page, names: Iterable[Any]) -> None:
        """The endpoint holds these for sure, until it is said to have lost them."""
        sure, told = page.sure, page.told
        for name in names:
            if name in sure:
                continue
            last = self._holders.put(name, told)
            if last is None:
                sure.add(name)
                self.entries += 1
            else:
                sure.add(page.take(last, name))
        if sure:
            self._exact |= page.bit
        while self.entries > self.max_entries:
            self._shed()

    def stored(self, page: Page, blocks: float) -> None:
        """The endpoint has stored so many, those included that ``use`` has foreseen.

        What was foreseen and never came holds the clock back for no longer than a cache's length.
        """
        page.counted = True
        surplus = blocks - min(page.ahead, self.capacity / page.scale)
        page.ahead = max(0.0, -surplus)
        page.clock += max(0.0, surplus)

    def fit(self, blocks: float) -> None:
        """All endpoints say what they store, and how much they can hold, so many in the mean.

        An engine that keeps what was used last has lost it when it has stored as much as it holds
        since; sooner, if what it held before was used again.
        """
        self._most = max(SMALLEST, blocks)
        self._least = max(SMALLEST, blocks * LEAST)
        self.capacity = self._fitting(self.capacity)

    def _fitting(self, capacity: float) -> float:
        return max(self._least, min(capacity, self._most))

    def lose(self, page: Page, names: Iterable[int]) -> None:
        """The endpoint has not got these, or not any more."""
        for name in names:
            if self._holders.last(page, name) is not None:
                self._forget(page, name)

    def doubt(self, page: Page) -> None:
        """Nobody says any more what the endpoint holds: what was sure is as if used just now."""
        page.counted, page.ahead = False, 0.0
        self._least, self._most = SMALLEST, inf
        sure: list[Any] = list(page.sure)
        page.sure = set()
        for at in range(0, len(sure), MOST_NAMES):
            use = Use(page, page.clock, sure[at : at + MOST_NAMES])
            page.uses[use] = None
            for name in use.names:
                self._holders.put(name, use)
        page.estimated += len(sure)
        self._exact &= ~page.bit

    # --- what other routers know ----------------------------------------------------------------

    @property
    def corrections(self) -> int:
        """How often answers have corrected the capacity."""
        return self._corrections

    def recent(self, page: Page, most: int) -> list[tuple[int, float]]:
        """Checkpoints of a page with their unscaled ages, the newest first."""
        clock = page.clock
        found = [(checkpoint, 0.0) for checkpoint in islice(page.sure, most)]
        for use in reversed(page.uses):
            room = most - len(found)
            if room <= 0:
                break
            age = clock - use.clock
            found += [(checkpoint, age) for checkpoint in use.names[: -room - 1 : -1]]
        return found

    def recall(self, page: Page, found: Sequence[tuple[int, float]]) -> None:
        """What another router has on the page: as ``recent`` told it there, or a further part.

        All of it is taken to be older than what is here already.
        """
        older: dict[Use, None] = {}
        use: Use | None = None
        room = max(0, self.max_entries - self.entries)
        for checkpoint, age in reversed(found[:room]):
            if self._holders.last(page, checkpoint) is not None:
                continue
            clock = page.clock - age
            if use is None or use.clock != clock or len(use.names) >= MOST_NAMES:
                use = Use(page, clock, [])
                older[use] = None
            use.names.append(checkpoint)
            self._holders.put(checkpoint, use)
            self.entries += 1
            page.estimated += 1
        older.update(page.uses)  # the oldest stand in front
        page.uses = older

    def adopt(self, capacity: float, corrections: int) -> None:
        """What more answers than came here have taught."""
        if corrections > self._corrections:
            self._corrections = corrections
            self.capacity = self._fitting(capacity)

    # --- forgetting -------------------------------------------------------------------------

    def _forget(self, page: Page, checkpoint: int) -> None:
        use = self._holders.drop(page, checkpoint)
        if use is page.told:
            page.sure.remove(checkpoint)
        else:
            page.take(use, checkpoint)
        self.entries -= 1

    def _forget_oldest(self, page: Page, before: float = inf) -> int:
        """A slice at most, of what was used before that clock. Returns how many."""
        old = page.take_oldest(SLICE, before)
        for checkpoint in old:
            self._holders.drop(page, checkpoint)
        self.entries -= len(old)
        return len(old)

    def _forget_some(self, page: Page) -> int:
        """A slice, first of what is estimated."""
        count = self._forget_oldest(page)
        if not count:
            for checkpoint in list(islice(page.sure, SLICE)):
                self._forget(page, checkpoint)
                count += 1
        return count

    def _sweep(self, page: Page) -> None:
        """Forget what is older than 2 C, a slice at most."""
        capacity = self.capacity / page.scale
        more = self._forget_oldest(page, page.clock - 2 * capacity) == SLICE
        page.sweep_at = page.clock + (0.0 if more else capacity / 4)

    def _shed(self) -> None:
        self.shed += self._forget_some(max(self._pages.values(), key=len))

    def _leave(self) -> None:
        page = self._leaving[-1]
        self._forget_some(page)
        if not len(page):
            self._leaving.pop()

    def __repr__(self) -> str:
        return (
            f"<CacheMirror {len(self._pages)} endpoints, {self.entries} entries, "
            f"capacity={self.capacity:.0f} blocks>"
        )

"""One engine's cache as its events tell it, and what others are to be told of that.

Whoever listens feeds batches in the order in which they come, and says when the connection is new
or lost. A batch that is out of order is not heeded but asked for (``Ask``); one that nobody can
repeat makes all that was known worthless, and the picture begins anew with what comes then: names
that were tied before are estimated again until an answer ties them.
"""

import enum
from collections.abc import Callable
from typing import Final

from router.core.engine_cache.cache import EngineCache, Tip
from router.core.engine_cache.news import CacheNews
from router.core.engine_cache.sequence import Sequence, Verdict
from router.core.forecast.notes import pack

MOST_AT_ONCE: Final = 4096
"""Names in one piece of news; who is told enters them in a millisecond or two."""

ALIKE: Final = 0.02
"""Share by which a cache must be found larger or smaller for others to be told again."""

Apply = Callable[[EngineCache], None]
"""Enters a batch's events."""


class Ask(enum.IntEnum):
    """What is to be done after a batch."""

    NOTHING = 0
    FOR_MISSED = 1
    """Ask for what was missed, and feed this batch to ``settle`` then."""


class Counts:
    """What happened to one engine's view.

    Attributes:
        batches: heeded.
        gaps: times that batches were missing.
        replays: times that missing ones were asked for.
        lost: times that they could not be had, so that what was known was worth nothing.
        restarts: times that the engine was found to have started anew.
    """

    __slots__ = ("batches", "gaps", "lost", "replays", "restarts")

    def __init__(self) -> None:
        self.batches = 0
        self.gaps = 0
        self.replays = 0
        self.lost = 0
        self.restarts = 0


class EngineView:
    """Of one engine; implements ``core.engine_cache.cache.News``.

    Args:
        endpoint: its id.
        most_blocks: that are known of it.

    Attributes:
        cache: what it holds.
        counts: of what happened.
        in_step: nothing is missing of what it has told since the picture began.
        sequence: of its batches.
    """

    __slots__ = (
        "_answered",
        "_blind",
        "_changed",
        "_cleared",
        "_doubted",
        "_size",
        "_stored",
        "_told",
        "cache",
        "counts",
        "endpoint",
        "in_step",
        "sequence",
    )

    def __init__(self, endpoint: str, most_blocks: int) -> None:
        self.endpoint = endpoint
        self.cache = EngineCache(self, most_blocks)
        self.sequence = Sequence()
        self.counts = Counts()
        self.in_step = False
        self._answered = False
        self._blind = False
        # What is still to be told: names by whether they are held, and so on. ``_told``: others
        # rely on it.
        self._changed: dict[int, bool] = {}
        self._cleared = False
        self._doubted = False
        self._stored = 0
        self._size = 0
        self._told = False

    @property
    def whole(self) -> bool:
        """Whether all that it holds is known."""
        return self.sequence.whole and self.cache.whole

    # --- the connection -------------------------------------------------------------------------

    def connected(self, *, replays: bool) -> None:
        """Batches come again. Without replays nobody can tell what happened meanwhile."""
        self.sequence.connected()
        self._blind = not replays
        if self._blind and self.sequence.expected:
            self._begin_anew(0)

    def caught_up(self) -> None:
        """All that was missing has come."""
        self.in_step = True

    def lost(self) -> None:
        """No batch comes any more, or some are missing."""
        self.in_step = False

    # --- batches --------------------------------------------------------------------------------

    def live(self, number: int, mark: int, apply: Apply) -> Ask:
        """A batch comes as it was published; ``mark``: of its bytes."""
        if self._blind and not self.sequence.expected:
            self.sequence.begin(number)
        verdict = self.sequence.live(number)
        if verdict is Verdict.RESTARTED:
            self._restarted()
            verdict = self.sequence.live(number)
        if verdict is Verdict.NEXT:
            self._heed(number, mark, apply)
        elif verdict is Verdict.GAP:
            self.counts.gaps += 1
            if not self._blind:
                self.lost()
                return Ask.FOR_MISSED
            self._begin_anew(number)
            self._heed(number, mark, apply)
        return Ask.NOTHING

    def ask(self) -> int:
        """The number from which on to ask for what was missed."""
        self._answered = False
        self.counts.replays += 1
        return self.sequence.resume_at

    def replayed(self, number: int, mark: int, apply: Apply) -> bool:
        """A batch comes because it was asked for; False: it is another engine's, ask anew."""
        # One that is not the last that came may be another engine's: nobody can tell.
        gone = not self._answered and number > self.sequence.resume_at
        self._answered = True
        verdict = self.sequence.replayed(number, mark)
        if verdict is Verdict.RESTARTED:
            self._restarted()
            return False
        if verdict is Verdict.GAP or gone:
            self._begin_anew(number)
        if verdict is not Verdict.KNOWN:
            self._heed(number, mark, apply)
        return True

    def replay_over(self) -> bool:
        """That was all. False: the engine that told of a batch before would have repeated that, so
        it is another one, which is to be asked anew."""
        if not self._answered and self.sequence.expected:
            self._restarted()
            return False
        return True

    def settle(self, number: int, mark: int, apply: Apply) -> None:
        """The batch before which some were missing, now that these were asked for."""
        if number > self.sequence.expected:
            self._begin_anew(number)
        if number == self.sequence.expected:
            self._heed(number, mark, apply)
        self.in_step = True

    def _heed(self, number: int, mark: int, apply: Apply) -> None:
        self.counts.batches += 1
        self.sequence.took(number, mark)
        apply(self.cache)

    def _begin_anew(self, number: int) -> None:
        if self.sequence.expected or self.cache.known:
            self.counts.lost += 1
        self.sequence.begin(number)
        self.cache.forget()
        self._changed.clear()
        self._doubted = True

    def _restarted(self) -> None:
        self.counts.restarts += 1
        self.sequence = Sequence()
        self.cache.clear()

    # --- what changed ---------------------------------------------------------------------------

    def tied(self, name: int, held: bool) -> None:
        self._changed[name] = held

    def cleared(self) -> None:
        self._changed.clear()
        self._cleared = True
        self.sequence.emptied()

    def tie(self, tip: Tip) -> None:
        """An answer told of its prompt's blocks."""
        self.cache.tie(tip)

    def take(self) -> list[CacheNews]:
        """What others are to be told since this was asked last, in the order given."""
        told: list[CacheNews] = []
        if self._cleared:
            told.append(CacheNews(self.endpoint, self._told, cleared=True))
        if self._told and (self._doubted or not self.in_step):
            told.append(CacheNews(self.endpoint, False))
            self._told = False
        self._cleared = self._doubted = False
        if not self.in_step:
            self._changed.clear()
            return told
        if not self._told:
            self._told = True
            self._changed.clear()
            self._stored = self.cache.stored
            return told + self.all()
        changed, self._changed = self._changed, {}
        stored, self._stored = self.cache.stored - self._stored, self.cache.stored
        if changed or stored:
            lost = [name for name, held in changed.items() if not held]
            held = [name for name, held in changed.items() if held]
            size = self._room()
            if abs(size - self._size) <= self._size * ALIKE:
                size = 0
            told += self._pieces(lost, held, stored, size)
        return told

    def all(self) -> list[CacheNews]:
        """What somebody is to be told who knows nothing; nothing where nobody is."""
        if not self._told:
            return []
        held, lost = self.cache.names()
        return self._pieces(lost, held, 0, self._room())

    def _room(self) -> int:
        """Tokens that the cache can hold, 0 while it has never been full."""
        return self.cache.blocks * self.cache.block_size if self.cache.evicts else 0

    def _pieces(self, lost: list[int], held: list[int], stored: int, size: int) -> list[CacheNews]:
        self._size = size or self._size
        pieces = [
            CacheNews(
                self.endpoint,
                True,
                lost=pack(lost[at : at + MOST_AT_ONCE]),
                held=pack(held[at : at + MOST_AT_ONCE]),
            )
            for at in range(MOST_AT_ONCE, max(len(lost), len(held)), MOST_AT_ONCE)
        ]
        first = CacheNews(
            self.endpoint,
            True,
            lost=pack(lost[:MOST_AT_ONCE]),
            held=pack(held[:MOST_AT_ONCE]),
            stored=stored,
            size=size,
        )
        return [first, *pieces]

    def __repr__(self) -> str:
        state = "in step" if self.in_step else "out of step"
        return f"<EngineView {self.endpoint} {state}, {self.cache!r}, {self.sequence!r}>"

"""Whether batches of events come without a gap, and from the same engine as before.

An engine numbers its batches from 0 each time that it starts. Numbers that grow by one are all that
was told; one that is left out was lost, and one that came before is another engine's. A gap hides
a restart: the new engine may be ahead of where the old one was. So whoever asks for what was
missed asks for the last batch that came as well: the same engine repeats it to the byte.
"""

import enum
from typing import Final


class Verdict(enum.IntEnum):
    NEXT = 0
    """To be heeded."""
    KNOWN = 1
    """It was heeded before."""
    GAP = 2
    """Some before it are missing."""
    RESTARTED = 3
    """It is another engine's."""


_NEXT: Final = Verdict.NEXT
_KNOWN: Final = Verdict.KNOWN
_GAP: Final = Verdict.GAP
_RESTARTED: Final = Verdict.RESTARTED


class Sequence:
    """Of one engine.

    Attributes:
        expected: the number of the next batch.
        whole: nothing is missing since the engine started, or its cache was empty.
    """

    __slots__ = ("_live", "_mark", "expected", "whole")

    def __init__(self) -> None:
        self.expected = 0
        self.whole = True
        self._live = -1
        self._mark = 0

    @property
    def resume_at(self) -> int:
        """From which on to ask for what may have been missed."""
        return max(0, self.expected - 1)

    def connected(self) -> None:
        """A new connection: what comes over it is not held against what came before."""
        self._live = -1

    def live(self, number: int) -> Verdict:
        """A batch comes as it was published."""
        if number <= self._live:
            return _RESTARTED
        self._live = number
        if number == self.expected:
            return _NEXT
        return _GAP if number > self.expected else _KNOWN

    def replayed(self, number: int, mark: int) -> Verdict:
        """A batch comes because it was asked for.

        Args:
            mark: of its bytes, as ``took`` was told it.
        """
        if number == self.expected:
            return _NEXT
        if number > self.expected:
            return _GAP
        if number == self.expected - 1 and self._mark and mark != self._mark:
            return _RESTARTED
        return _KNOWN

    def took(self, number: int, mark: int) -> None:
        """The batch has been heeded. ``mark``: of its bytes, not 0."""
        self.expected = number + 1
        self._mark = mark

    def begin(self, number: int) -> None:
        """What was before this batch is lost, or of no account."""
        self.expected = number
        self.whole = number == 0
        self._mark = 0

    def emptied(self) -> None:
        """The engine holds nothing, so that nothing of it is unknown."""
        self.whole = True

    def __repr__(self) -> str:
        return f"<Sequence expected={self.expected} {'whole' if self.whole else 'part'}>"

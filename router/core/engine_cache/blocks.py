"""The blocks of one engine's cache: which are there, and which of them a prompt can be found by.

An engine finds a prompt's blocks one after the other and stops at the first that is missing. So a
block counts as *found* while it and all blocks before it are there. A block may outlive one
before it: it stays known, is not found, and is found again when that comes back. Of a block whose
forerunners are not known, because they were stored before anybody listened, these are taken to be
there: the engine had them when it computed the block.

A block is one entry of a dict and a row of arrays, 160 bytes; blocks with the same one before them
are linked to one another, so that whatever happens costs only what it changes.
"""

from array import array
from collections.abc import Callable, Container, Sequence
from typing import Final

DEVICE: Final = 1
"""The memory that the model computes in."""
HOST: Final = 2
"""A tier below, from which blocks are loaded."""
_THERE: Final = DEVICE | HOST
_FOUND: Final = 4
_GUESSED: Final = 8
"""Nobody told of it; a block behind it was stored, so it must have been there."""

_FIRST: Final = -1
"""In place of the block before: there is none."""
_UNKNOWN: Final = -2
"""In place of the block before: nobody told."""
_NONE: Final = -1


class Blocks:
    """Of one engine.

    Args:
        most: blocks that are kept; of more nothing is known.
        watched: names of which ``changed`` wants to hear.
        changed: called with a watched name and whether it is found now.

    Attributes:
        held: blocks that the engine holds, as far as they are known.
        unknown: blocks for which there was no room, in all.
        whole: there was room for all of what is there.
    """

    __slots__ = (
        "_after",
        "_before",
        "_behind",
        "_changed",
        "_flags",
        "_free",
        "_names",
        "_next",
        "_rows",
        "_watched",
        "held",
        "most",
        "unknown",
        "whole",
    )

    def __init__(
        self, most: int, watched: Container[int], changed: Callable[[int, bool], None]
    ) -> None:
        self.most = most
        self.unknown = 0
        self._watched = watched
        self._changed = changed
        self._begin()

    def _begin(self) -> None:
        self.held = 0
        self.whole = True
        self._rows: dict[int, int] = {}
        self._free: list[int] = []
        self._names = array("Q")
        self._flags = array("B")
        # Of each row the one before it in the chain, the first of those behind it, and its
        # neighbours among those behind the same one.
        self._before = array("i")
        self._behind = array("i")
        self._next = array("i")
        self._after = array("i")

    def __len__(self) -> int:
        """Blocks that are known, those included that are only known to be gone."""
        return len(self._rows)

    def __contains__(self, name: int) -> bool:
        """Whether the engine holds it."""
        row = self._rows.get(name)
        return row is not None and bool(self._flags[row] & _THERE)

    def found(self, name: int) -> bool:
        """Whether a prompt can be found by it."""
        row = self._rows.get(name)
        return row is not None and bool(self._flags[row] & _FOUND)

    # --- what events tell -----------------------------------------------------------------------

    def stored(self, names: Sequence[int], before: int | None, tier: int = DEVICE) -> None:
        """Blocks that follow one another are there now; ``before`` the first of them."""
        last = _FIRST if before is None else self._row_of(before)
        for name in names:
            row = self._rows.get(name)
            if row is None:
                row = self._add(name, last)
                if row == _UNKNOWN:
                    last = _UNKNOWN
                    continue
            elif self._before[row] == _UNKNOWN and last not in {_UNKNOWN, row}:
                self._link(row, last)
            self._put(row, tier)
            last = row

    def copied(self, names: Sequence[int], tier: int) -> None:
        """Blocks are there of which nobody tells what is before them."""
        for name in names:
            row = self._rows.get(name)
            if row is None:
                row = self._add(name, _UNKNOWN)
            if row != _UNKNOWN:
                self._put(row, tier)

    def removed(self, names: Sequence[int], tier: int = DEVICE) -> None:
        """Blocks are gone from a tier."""
        flags = self._flags
        for name in names:
            row = self._rows.get(name)
            if row is None or not flags[row] & tier:
                continue
            if not flags[row] & _GUESSED:
                self.held -= not flags[row] & _THERE & ~tier
            flags[row] &= ~(tier | _GUESSED)
            if not flags[row] & _THERE:
                if flags[row] & _FOUND:
                    self._spread(row, False)
                self._prune(row)

    def clear(self) -> None:
        """Nothing is there; nobody is told of watched names."""
        self._begin()

    # --- looking --------------------------------------------------------------------------------

    def above(self, name: int, steps: int) -> int | None:
        """The name ``steps`` blocks before this one; None where that is not known."""
        row = self._rows.get(name, _UNKNOWN)
        before = self._before
        while steps and row >= 0:
            row = before[row]
            steps -= 1
        return self._names[row] if row >= 0 else None

    # --- rows -----------------------------------------------------------------------------------

    def _row_of(self, name: int) -> int:
        row = self._rows.get(name)
        if row is None:
            row = self._add(name, _UNKNOWN)
            if row != _UNKNOWN:
                self._flags[row] = DEVICE | _GUESSED | _FOUND
                if name in self._watched:
                    self._changed(name, True)
        return row

    def _add(self, name: int, last: int) -> int:
        """A row for a block behind the row ``last``; ``_UNKNOWN`` where there is no room."""
        if len(self._rows) >= self.most:
            self.unknown += 1
            self.whole = False
            return _UNKNOWN
        if self._free:
            row = self._free.pop()
            self._names[row] = name
        else:
            row = len(self._names)
            self._names.append(name)
            self._flags.append(0)
            for column in (self._before, self._behind, self._next, self._after):
                column.append(_NONE)
        self._flags[row] = 0
        self._behind[row] = self._next[row] = self._after[row] = _NONE
        self._before[row] = _UNKNOWN
        self._rows[name] = row
        self._link(row, last)
        return row

    def _link(self, row: int, last: int) -> None:
        self._before[row] = last
        if last >= 0:
            neighbour = self._behind[last]
            self._next[row] = neighbour
            if neighbour != _NONE:
                self._after[neighbour] = row
            self._behind[last] = row

    def _put(self, row: int, tier: int) -> None:
        flags, before = self._flags, self._before[row]
        if not flags[row] & _THERE or flags[row] & _GUESSED:
            self.held += 1
        flags[row] = (flags[row] | tier) & ~_GUESSED
        reached = before < 0 or bool(flags[before] & _FOUND)
        if reached != bool(flags[row] & _FOUND):
            self._spread(row, reached)

    def _spread(self, row: int, found: bool) -> None:
        """The block is found now, or no longer; so are those behind it that are there."""
        flags, watched, names = self._flags, self._watched, self._names
        if self._behind[row] == _NONE:  # nearly always: chains grow and shrink at their ends
            flags[row] ^= _FOUND
            if names[row] in watched:
                self._changed(names[row], found)
            return
        waiting = [row]
        while waiting:
            row = waiting.pop()
            flags[row] ^= _FOUND
            if names[row] in watched:
                self._changed(names[row], found)
            row = self._behind[row]
            while row != _NONE:
                if flags[row] & _THERE and bool(flags[row] & _FOUND) is not found:
                    waiting.append(row)
                row = self._next[row]

    def _prune(self, row: int) -> None:
        """Forget a row that is of no use, and then those before it."""
        while row >= 0 and self._behind[row] == _NONE:
            flags = self._flags[row]
            if flags & _THERE and (not flags & _GUESSED or self._names[row] in self._watched):
                return
            before, following, ahead = self._before[row], self._next[row], self._after[row]
            if following != _NONE:
                self._after[following] = ahead
            if ahead != _NONE:
                self._next[ahead] = following
            elif before >= 0:
                self._behind[before] = following
            del self._rows[self._names[row]]
            self._free.append(row)
            row = before

    def __repr__(self) -> str:
        return f"<Blocks {self.held} held, {len(self._rows)} known>"

"""Which prefixes of prompts an engine holds for sure: its blocks, and what they are of prompts.

An engine names blocks of tokens, the router beginnings of prompts (``core.prefix.blocks``). The
answer to a prompt says what its last full block is called and how many there are. From there the
chain of blocks leads back to the others, and how far along it a checkpoint lies follows from its
share of the prompt's bytes. So each is *tied* to the block that it ends in, half a block more or
less, and held as long as that is found.

A tie outlives its block, for what was evicted may be computed again; such ties go first when there
are too many. An answer's head can be faster than the event that tells of the blocks: what it says
waits for them.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from router.core.engine_cache.blocks import DEVICE, Blocks
from router.core.prefix.blocks import DEPTHS

MOST_BLOCKS: Final = 1 << 19
"""Of one engine: eight million tokens in blocks of 16, 84 MB."""

MOST_TIES: Final = 1 << 17
"""Of one engine, at 140 bytes."""

MOST_GONE: Final = 1 << 14
"""Tied blocks that are not found; the ties of the longest gone give way. An engine of a million
tokens in blocks of 16 has some 5000 whose prompts may come again."""

MOST_WAITING: Final = 1024
"""Tips whose blocks nobody has told of yet; the oldest give way."""


class Tip:
    """What an answer tells of the blocks of its prompt.

    Attributes:
        block: the name of the last full one.
        count: how many there are, at least 1.
        checkpoints: of the prompt.
        size: of the prompt in blocks of bytes.
        end: stands for the prompt's end, see ``core.prefix.ends.end_of``; 0: for nothing.
    """

    __slots__ = ("block", "checkpoints", "count", "end", "size")

    def __init__(
        self, block: int, count: int, checkpoints: Sequence[int], size: float, end: int
    ) -> None:
        self.block = block
        self.count = count
        self.checkpoints = checkpoints
        self.size = size
        self.end = end

    def places(self) -> list[tuple[int, int]]:
        """Names and how many of the prompt's blocks they reach over, the deepest first."""
        count, share = self.count, (self.count + 0.5) / self.size
        found = [(self.end, count)] if self.end else []
        for position in range(len(self.checkpoints) - 1, -1, -1):
            depth = max(1, min(count, round(DEPTHS[position] * share)))
            found.append((self.checkpoints[position], depth))
        return found

    def __repr__(self) -> str:
        return f"<Tip {self.block:016x} of {self.count} blocks, {len(self.checkpoints)} names>"


class News(Protocol):
    """What is to be told of a cache."""

    def tied(self, name: int, held: bool) -> None:
        """A name of a prompt is held for sure, or is not any more."""
        ...

    def cleared(self) -> None:
        """Nothing is held at all."""
        ...


class EngineCache:
    """Of one engine.

    Args:
        news: told of every change.

    Attributes:
        stored: tokens of blocks that were stored, in all.
        block_size: tokens of a block; 0 before any was told of.
        evicts: it has removed blocks, so that what it holds is about what it can.
        untied: names for which there was no room.
    """

    __slots__ = (
        "_blocks",
        "_gone",
        "_names",
        "_news",
        "_tied",
        "_waiting",
        "block_size",
        "evicts",
        "most_ties",
        "stored",
        "untied",
    )

    def __init__(
        self, news: News, most_blocks: int = MOST_BLOCKS, most_ties: int = MOST_TIES
    ) -> None:
        self._news = news
        # By block the names that are tied to it, and the other way round.
        self._names: dict[int, tuple[int, ...]] = {}
        self._tied: dict[int, int] = {}
        # Tied blocks that are not there, the longest gone first.
        self._gone: dict[int, None] = {}
        self._waiting: dict[int, Tip] = {}
        self._blocks = Blocks(most_blocks, self._names, self._changed)
        self.most_ties = most_ties
        self.block_size = 0
        self.stored = 0
        self.evicts = False
        self.untied = 0

    @property
    def blocks(self) -> int:
        """Blocks that it is known to hold."""
        return self._blocks.held

    @property
    def known(self) -> int:
        """Blocks that take room here."""
        return len(self._blocks)

    @property
    def unknown(self) -> int:
        """Blocks for which there was no room."""
        return self._blocks.unknown

    @property
    def whole(self) -> bool:
        """Whether there was room for all that it holds."""
        return self._blocks.whole

    @property
    def ties(self) -> int:
        return len(self._tied)

    def limit(self, most_blocks: int) -> None:
        """Know of no more blocks than this; those that are known already stay."""
        self._blocks.most = most_blocks

    def names(self) -> tuple[list[int], list[int]]:
        """All names that are held for sure, and all that are known not to be."""
        held: list[int] = []
        lost: list[int] = []
        for name, block in self._tied.items():
            (held if self._blocks.found(block) else lost).append(name)
        return held, lost

    # --- what events tell -----------------------------------------------------------------------

    def store(
        self, blocks: Sequence[int], before: int | None, size: int, tier: int = DEVICE
    ) -> None:
        """Blocks of ``size`` tokens that follow one another, ``before`` in front of the first."""
        self.block_size = size
        self.stored += size * len(blocks)
        self._blocks.stored(blocks, before, tier)
        if self._waiting:
            for block in blocks:
                tip = self._waiting.pop(block, None)
                if tip is not None:
                    self.tie(tip)

    def copy(self, blocks: Sequence[int], tier: int) -> None:
        """Blocks that are in another tier as well, in no order."""
        self._blocks.copied(blocks, tier)

    def remove(self, blocks: Sequence[int], tier: int = DEVICE) -> None:
        self.evicts = True
        self._blocks.removed(blocks, tier)

    def clear(self) -> None:
        """The engine holds nothing any more."""
        self.forget()
        self._news.cleared()

    def forget(self) -> None:
        """What is known is worth nothing any more; nobody is told.

        What waits for its blocks says nothing of what the cache holds, and goes on waiting.
        """
        self._blocks.clear()
        self._names.clear()
        self._tied.clear()
        self._gone.clear()
        self.evicts = False

    # --- what answers tell ----------------------------------------------------------------------

    def tie(self, tip: Tip) -> None:
        """Tie the names of a prompt to its blocks, from the end, as far as these are known."""
        if tip.block not in self._blocks:
            if len(self._waiting) >= MOST_WAITING:
                del self._waiting[next(iter(self._waiting))]
            self._waiting[tip.block] = tip
            return
        block, at = tip.block, tip.count
        for name, depth in tip.places():
            above = self._blocks.above(block, at - depth)
            if above is None or not self._bind(name, above):
                return
            block, at = above, depth

    def _bind(self, name: int, block: int) -> bool:
        """Returns whether that is news: if not, neither are the names before it."""
        known = self._tied.get(name)
        if known == block:
            return False
        if known is not None:
            self._untie(name, known)
        elif len(self._tied) >= self.most_ties and not self._make_room():
            self.untied += 1
            return False
        self._tied[name] = block
        self._names[block] = (*self._names.get(block, ()), name)
        found = self._blocks.found(block)
        if not found:
            self._miss(block)
        self._news.tied(name, found)
        return True

    def _untie(self, name: int, block: int) -> None:
        del self._tied[name]
        left = tuple(one for one in self._names[block] if one != name)
        if left:
            self._names[block] = left
        else:
            del self._names[block]
            self._gone.pop(block, None)

    def _make_room(self) -> bool:
        """Forget the ties of the block that is gone for longest."""
        block = next(iter(self._gone), None)
        if block is None:
            return False
        for name in self._names[block]:
            self._untie(name, block)
        return True

    def _changed(self, block: int, found: bool) -> None:
        if found:
            self._gone.pop(block, None)
        else:
            self._miss(block)
        for name in self._names[block]:
            self._news.tied(name, found)

    def _miss(self, block: int) -> None:
        """A tied block is not found."""
        self._gone[block] = None
        if len(self._gone) > MOST_GONE:
            self._make_room()

    def __repr__(self) -> str:
        return f"<EngineCache {self._blocks!r}, {len(self._tied)} names tied>"

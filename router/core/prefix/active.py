"""Which beginnings of prompts the requests in flight hold in an engine's memory, each once.

Requests with a common beginning share its blocks. So an endpoint's blocks in use are not the sum
over its requests: a name counts for as long as anybody there uses it.
"""

from collections.abc import Sequence

from router.core.prefix.blocks import GAINS
from router.core.prefix.index import Matches, Rows, walk


class Uses:
    """How often each name is in use at one endpoint; ``bit`` is the endpoint's in the masks."""

    __slots__ = ("bit", "counts")

    def __init__(self, bit: int) -> None:
        self.bit = bit
        self.counts: dict[int, int] = {}


class ActivePrefixes:
    """Of one cluster. As large as what its requests in flight have of names."""

    __slots__ = ("_holders", "_uses")

    def __init__(self) -> None:
        self._holders: dict[int, int] = {}
        self._uses: dict[int, Uses] = {}

    def match(self, names: Sequence[int], rows: Rows) -> Matches | None:
        """How many of a prompt's names are in use at each host; None: none anywhere."""
        return walk(self._holders, names, rows)

    def begin(self, names: Sequence[int], bit: int) -> tuple[Uses, int]:
        """A request goes to an endpoint.

        Returns:
            What ``end`` wants to be given, and the blocks that were not in use there before.
        """
        uses = self._uses.get(bit)
        if uses is None:
            uses = self._uses[bit] = Uses(bit)
        counts, fresh = uses.counts, 0
        for name, gain in zip(names, GAINS, strict=False):
            count = counts.get(name, 0)
            counts[name] = count + 1
            if not count:
                fresh += gain
                self._holders[name] = self._holders.get(name, 0) | bit
        return uses, fresh

    def end(self, names: Sequence[int], uses: Uses) -> int:
        """The request is over; returns the blocks that nobody there uses any more."""
        counts, freed = uses.counts, 0
        for name, gain in zip(names, GAINS, strict=False):
            count = counts[name] - 1
            if count:
                counts[name] = count
                continue
            del counts[name]
            freed += gain
            if self._uses.get(uses.bit) is uses:
                self._release(name, uses.bit)
        if not counts and self._uses.get(uses.bit) is uses:
            del self._uses[uses.bit]
        return freed

    def lost(self, bit: int) -> None:
        """The endpoint is lost; requests that are still on their way count for nobody."""
        uses = self._uses.pop(bit, None)
        if uses is not None:
            for name in uses.counts:
                self._release(name, bit)

    def _release(self, name: int, bit: int) -> None:
        mask = self._holders[name] & ~bit
        if mask:
            self._holders[name] = mask
        else:
            del self._holders[name]

    def __repr__(self) -> str:
        return f"<ActivePrefixes {len(self._holders)} names at {len(self._uses)} endpoints>"

"""Which endpoints have used a name, and when each did so last: what they may hold of it.

Most names are of one endpoint: these lead to its use of them itself. A name that several have, as
those of a system prompt, leads to a list of uses.
"""

from collections.abc import Sequence
from typing import Any, Final

from router.core.prefix.page import Page, Use

FEW: Final = 4
"""Share of a name's pages, as a divisor, below which they are better looked for one by one."""


class Shared:
    """The last uses of one name by several endpoints.

    Attributes:
        mask: bits of their pages.
        uses: by the index of the page.
    """

    __slots__ = ("mask", "uses")

    def __init__(self, one: Use, other: Use) -> None:
        self.mask: Any = one.bit | other.bit
        self.uses = [one, other] if one.index < other.index else [other, one]

    def place(self, index: int) -> int:
        """Where the use of this page stands, or would."""
        uses = self.uses
        low, high = 0, len(uses)
        while low < high:
            middle = (low + high) >> 1
            if uses[middle].index < index:
                low = middle + 1
            else:
                high = middle
        return low

    def last(self, index: int) -> Use | None:
        """By this page."""
        uses, place = self.uses, self.place(index)
        if place == len(uses):
            return None
        use = uses[place]
        return use if use.index == index else None

    def put(self, use: Use) -> Use | None:
        """The last use by its page; returns the one before."""
        uses, place = self.uses, self.place(use.index)
        before = uses[place] if place < len(uses) else None
        if before is None or before.index != use.index:
            self.insert(place, use)
            return None
        uses[place] = use
        return before

    def insert(self, place: int, use: Use) -> None:
        """The first use by its page."""
        self.uses.insert(place, use)
        self.mask |= use.bit

    def drop(self, index: int) -> Use:
        """Returns the page's use, which must be there."""
        use = self.uses.pop(self.place(index))
        self.mask ^= use.bit
        return use

    def __repr__(self) -> str:
        return f"<Shared by {len(self.uses)}>"


Holder = Use | Shared


def mask_of(holder: Holder) -> Any:
    """The bits of the pages that have the name."""
    return holder.bit if isinstance(holder, Use) else holder.mask


class Holders:
    """Of all names of one mirror.

    Args:
        pages: of the mirror, by index.

    Attributes:
        by_name: never without a use.
    """

    __slots__ = ("_pages", "by_name")

    def __init__(self, pages: dict[int, Page]) -> None:
        self._pages = pages
        # Any: where this is compiled a number is a C integer, and would be made an object again
        # for each place that it is put in.
        self.by_name: dict[Any, Holder] = {}

    def last(self, page: Page, name: Any) -> Use | None:
        """A page's last use of a name."""
        holder = self.by_name.get(name)
        if holder is None:
            return None
        if isinstance(holder, Use):
            return holder if holder.index == page.index else None
        return holder.last(page.index)

    def put(self, name: Any, use: Use) -> Use | None:
        """The last use of a name by its page; returns the one before."""
        holder = self.by_name.get(name)
        if isinstance(holder, Shared):
            return holder.put(use)
        if holder is None or holder.index == use.index:
            self.by_name[name] = use
            return holder
        self.by_name[name] = Shared(holder, use)
        return None

    def put_all(self, page: Page, names: Sequence[Any], use: Use, recent: float) -> int:
        """The last use of these by the page, but of those that it used at ``recent`` or later.

        They become the use's names. Returns how many of them the page has not had.
        """
        by_name, index, kept = self.by_name, page.index, use.names
        fresh = place = 0
        for name in names:
            holder = by_name.get(name)
            if holder is None:
                by_name[name] = use
                kept.append(name)
                fresh += 1
                continue
            if isinstance(holder, Use):
                if holder.index != index:
                    by_name[name] = Shared(holder, use)
                    kept.append(name)
                    fresh += 1
                elif holder.clock < recent:
                    by_name[name] = use
                    kept.append(page.take(holder, name))
                continue
            # A prompt's first names have the same pages, mostly, so that it stands where it stood.
            uses = holder.uses
            if place >= len(uses) or uses[place].index != index:
                place = holder.place(index)
            last = uses[place] if place < len(uses) else None
            if last is None or last.index != index:
                holder.insert(place, use)
                kept.append(name)
                fresh += 1
            elif last.clock < recent:
                uses[place] = use
                kept.append(page.take(last, name))
        page.estimated += len(kept)
        return fresh

    def drop(self, page: Page, name: Any) -> Use:
        """A page has the name no more; returns its last use, which must be there."""
        holder = self.by_name[name]
        if isinstance(holder, Use):
            del self.by_name[name]
            return holder
        use = holder.drop(page.index)
        if len(holder.uses) == 1:
            self.by_name[name] = holder.uses[0]
        return use

    # --- looking --------------------------------------------------------------------------------

    def find(
        self, holder: Holder, mask: Any, depth: float, capacity: float, found: dict[int, float]
    ) -> Any:
        """Enter the blocks that pages are expected to hold of a name ``depth`` blocks deep.

        Args:
            mask: of pages that have the name.
            capacity: of a cache, in blocks.
            found: blocks by index of page, of which the most counts.

        Returns:
            The bits of those that hold all of it: what is less deep cannot be more there.
        """
        full, pages = mask, self._pages
        for use in _uses(holder, mask):
            if not _enter(pages[use.index], use, depth, capacity, found):
                full ^= use.bit
        return full

    def find_sure(
        self,
        holder: Holder,
        mask: Any,
        end: int,
        least: float,
        most: float,
        capacity: float,
        found: dict[int, float],
    ) -> Any:
        """As ``find`` with ``most``; but of a page that is sure of the name as far as that goes,
        ``least`` blocks, and only if it is sure of the prompt's ``end`` too, ``most``."""
        full, pages = mask, self._pages
        for use in _uses(holder, mask):
            page = pages[use.index]
            if use is not page.told:
                if not _enter(page, use, most, capacity, found):
                    full ^= use.bit
                continue
            depth = most if end in page.sure else least
            if depth > found.get(page.index, 0.0):
                found[page.index] = depth
        return full

    def __repr__(self) -> str:
        return f"<Holders of {len(self.by_name)} names>"


def _uses(holder: Holder, mask: Any) -> list[Use]:
    """By the pages of ``mask``, which have the name."""
    if isinstance(holder, Use):
        return [holder] if mask else []
    uses = holder.uses
    if mask == holder.mask:
        return uses
    if mask.bit_count() * FEW > len(uses):
        return [use for use in uses if use.bit & mask]
    chosen: list[Use] = []
    while mask:
        bit = mask & -mask
        mask ^= bit
        chosen.append(uses[holder.place(bit.bit_length() - 1)])
    return chosen


def _enter(page: Page, use: Use, depth: float, capacity: float, found: dict[int, float]) -> bool:
    """Returns whether the page is expected to hold all of it."""
    index = page.index
    age = (page.clock - use.clock) * page.scale
    if age <= capacity:
        if depth > found.get(index, 0.0):
            found[index] = depth
        return True
    if age <= 2 * capacity and depth / 2 > found.get(index, 0.0):
        found[index] = depth / 2
    return False

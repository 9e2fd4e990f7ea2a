"""One endpoint's part of the cache mirror: what it used when, in the order of use."""

from typing import Any, Final

MOST_NAMES: Final = 64
"""Names of one use. More than a prompt has are split, for who takes one out looks for it."""


class Use:
    """Names that an endpoint used last at one time: most of a prompt's have their last use in
    common, and so share what there is to say of it. It does not know its page, which would then be
    in a cycle with it: a mirror is large, and should be gone when nobody wants it.

    Attributes:
        index, bit: the page's.
        clock: the page's at that time.
        names: in order; what was used again since, or forgotten, has left.
    """

    __slots__ = ("bit", "clock", "index", "names")

    def __init__(self, page: "Page", clock: float, names: list[Any]) -> None:
        self.index = page.index
        self.bit = page.bit
        self.clock = clock
        self.names = names

    def __repr__(self) -> str:
        return f"<Use of {len(self.names)} names at {self.clock:.0f}>"


class Page:
    """What is known of one endpoint's cache.

    Attributes:
        index: of its bit in masks.
        bit: the mask of this page alone.
        clock: blocks that were new to the endpoint so far.
        scale: how much smaller its cache is than the others' (2.0: half as large).
        uses: of names that are estimated, in their order. None is without names.
        estimated: how many these are.
        sure: names that the endpoint says it holds.
        told: in place of the last use of a name that is sure.
        counted: it says how much it stores.
        ahead: by how much the clock is ahead of that, for it goes when a prompt is sent.
    """

    __slots__ = (
        "ahead",
        "bit",
        "clock",
        "counted",
        "estimated",
        "index",
        "scale",
        "sure",
        "sweep_at",
        "told",
        "uses",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.bit: Any = 1 << index
        self.clock = 0.0
        self.scale = 1.0
        self.uses: dict[Use, None] = {}
        self.estimated = 0
        self.sure: set[int] = set()
        self.told = Use(self, 0.0, [])
        self.counted = False
        self.ahead = 0.0
        self.sweep_at = 0.0

    def __len__(self) -> int:
        """Checkpoints that it has."""
        return self.estimated + len(self.sure)

    def take(self, use: Use, name: Any) -> Any:
        """One name leaves its last use; the object that has been kept of it."""
        names = use.names
        # Nearly always the first: a prompt's names are used again in the order in which they stand.
        kept = names.pop(0 if names[0] == name else names.index(name))
        if not names:
            del self.uses[use]
        self.estimated -= 1
        return kept

    def take_oldest(self, most: int, before: float) -> list[Any]:
        """Names whose last use is the oldest leave it: so many, of before that clock."""
        taken: list[Any] = []
        empty: list[Use] = []
        for use in self.uses:
            room = most - len(taken)
            if not room or use.clock >= before:
                break
            taken += use.names[:room]
            use.names = use.names[room:]
            if not use.names:
                empty.append(use)
        for use in empty:
            del self.uses[use]
        self.estimated -= len(taken)
        return taken

    def __repr__(self) -> str:
        return (
            f"<Page {self.index} entries={len(self)} sure={len(self.sure)} clock={self.clock:.0f}>"
        )

"""One endpoint's part of the cache mirror."""

from typing import Any


class Page:
    """What is known of one endpoint's cache.

    Attributes:
        index: of its bit in masks.
        bit: the mask of this page alone. One object: most names are of one page.
        clock: blocks that were new to the endpoint so far.
        scale: how much smaller its cache is than the others' (2.0: half as large).
        stamps: the clock when each checkpoint was used last, in the order of use.
        sure: names that the endpoint says it holds.
        counted: it says how much it stores.
        ahead: by how much the clock is ahead of that, for it goes when a prompt is sent.
    """

    __slots__ = ("ahead", "bit", "clock", "counted", "index", "scale", "stamps", "sure", "sweep_at")

    def __init__(self, index: int) -> None:
        self.index = index
        self.bit: Any = 1 << index
        self.clock = 0.0
        self.scale = 1.0
        self.stamps: dict[int, float] = {}
        self.sure: set[int] = set()
        self.counted = False
        self.ahead = 0.0
        self.sweep_at = 0.0

    def __len__(self) -> int:
        """Checkpoints that it has."""
        return len(self.stamps) + len(self.sure)

    def __repr__(self) -> str:
        return (
            f"<Page {self.index} entries={len(self)} sure={len(self.sure)} clock={self.clock:.0f}>"
        )

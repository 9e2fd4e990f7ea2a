"""Where prompts ended: what lies between two of their checkpoints.

A conversation's next turn begins with all of the last one, so an end is kept by the last checkpoint
and the conversation together.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Final

ENDS: Final = 1 << 15
"""Ends that are remembered, up to twice as many."""

_END: Final = 0x9E3779B97F4A7C15


def end_of(checkpoints: Sequence[int], conversation: int) -> int:
    """A name for all of a prompt, as its checkpoints are names for its beginnings.

    0 where it has none: what has no conversation cannot be told from what goes on differently.
    """
    if not conversation:
        return 0
    return (checkpoints[-1] if checkpoints else 0) ^ conversation ^ _END


class Ends:
    """Of one cluster. The older half gives way when there are too many."""

    __slots__ = ("_newer", "_older")

    def __init__(self) -> None:
        self._newer: dict[int, float] = {}
        self._older: dict[int, float] = {}

    def at(self, key: int) -> float | None:
        """Blocks of the prompt; None where nothing is known of it."""
        end = self._newer.get(key)
        return self._older.get(key) if end is None else end

    def put(self, key: int, blocks: float) -> None:
        self._newer[key] = blocks
        if len(self._newer) >= ENDS:
            self._newer, self._older = {}, self._newer

    def recent(self, most: int) -> list[tuple[int, float]]:
        """Those of the prompts that were used last."""
        found = list(islice(reversed(self._newer.items()), most))
        return found + list(islice(reversed(self._older.items()), most - len(found)))

    def recall(self, found: Sequence[tuple[int, float]]) -> None:
        """What another router knows."""
        newer = self._newer
        for key, blocks in found[: max(0, ENDS - 1 - len(newer))]:
            newer.setdefault(key, blocks)

    def __repr__(self) -> str:
        return f"<Ends {len(self._newer)} and {len(self._older)}>"

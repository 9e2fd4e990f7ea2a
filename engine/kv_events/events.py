"""The events themselves, and the log in which a cache collects those of one step.

Names of blocks are whole numbers of 64 bits, as vLLM publishes them by default.  Field names and
their order are vLLM's, because the array encoding is nothing but their order.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import msgspec

DEVICE: Final = "GPU"
"""vLLM's word for the memory the model computes in, which it also uses where that is a CPU's."""
HOST: Final = "CPU"
"""vLLM's word for the tier below: blocks there must be loaded before they are of use."""

Tokens: TypeAlias = "list[int] | array[int]"


class BlockStored(msgspec.Struct, tag=True, omit_defaults=True, gc=False):
    """Blocks that follow one another in a chain can be found from now on.

    `parent_block_hash` is the block before the first one, None at the beginning of a chain.
    `extra_keys` has one entry per block with what besides tokens went into its name.
    """

    block_hashes: list[int]
    parent_block_hash: int | None
    token_ids: Tokens
    block_size: int
    lora_id: int | None
    medium: str
    lora_name: str | None
    extra_keys: list[tuple[str, ...] | None] | None = None


class BlockRemoved(msgspec.Struct, tag=True, gc=False):
    """Blocks can no longer be found in `medium`."""

    block_hashes: list[int]
    medium: str


class AllBlocksCleared(msgspec.Struct, tag=True, gc=False):
    """No block can be found any more."""


Event: TypeAlias = BlockStored | BlockRemoved | AllBlocksCleared


class EventLog:
    """What happened to one cache since `take` was last called, in order."""

    __slots__ = ("_events", "block_size")

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self._events: list[Event] = []

    def stored(
        self,
        names: Sequence[int],
        fresh: Sequence[int],
        parent: int | None,
        tokens: Tokens,
        salt: str | None = None,
    ) -> None:
        """Of a stretch `names` of a chain the ones at the positions `fresh` (not empty) are new.

        `parent` is the block before `names`, `tokens` are theirs.  Neighbours share an event.
        """
        size = self.block_size
        for first, last in _stretches(fresh):
            before = names[first - 1] if first else parent
            keys: list[tuple[str, ...] | None] | None = None
            if salt is not None and before is None:
                keys = [(salt,), *[None] * (last - first)]
            self._events.append(
                BlockStored(
                    block_hashes=list(names[first : last + 1]),
                    parent_block_hash=before,
                    token_ids=tokens[first * size : (last + 1) * size],
                    block_size=size,
                    lora_id=None,
                    medium=DEVICE,
                    lora_name=None,
                    extra_keys=keys,
                )
            )

    def offloaded(self, names: list[int]) -> None:
        """`names` were copied to the host tier; like vLLM this tells neither tokens nor parents."""
        self._events.append(BlockStored(names, None, [], self.block_size, None, HOST, None))

    def removed(self, name: int, medium: str = DEVICE) -> None:
        """`name` is gone from `medium`."""
        last = self._events[-1] if self._events else None
        if isinstance(last, BlockRemoved) and last.medium == medium:
            last.block_hashes.append(name)
        else:
            self._events.append(BlockRemoved([name], medium))

    def cleared(self) -> None:
        """Everything is gone."""
        self._events.append(AllBlocksCleared())

    def take(self) -> list[Event]:
        """The events so far; the log is empty then."""
        events, self._events = self._events, []
        return events

    def __repr__(self) -> str:
        return f"EventLog({len(self._events)} events)"


def _stretches(positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of neighbours in ascending `positions`."""
    first = last = positions[0]
    if positions[-1] - first + 1 == len(positions):
        yield first, positions[-1]
        return
    for position in positions[1:]:
        if position != last + 1:
            yield first, last
            first = position
        last = position
    yield first, last

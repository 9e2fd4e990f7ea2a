"""The prefix cache of a modelled engine: blocks in use, blocks that may be evicted, a host tier.

A block is known by an id that stands for the whole prompt up to its end. Blocks of running
sequences are pinned. When a sequence ends its blocks may be evicted, the last ones first: what
many prompts begin with stays longest. What the device evicts goes to the host tier, if there is
one, and comes back from there at a price. The answer, and the piece of the prompt that fills no
block, take room like blocks but are never found again.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import msgspec


class Found(msgspec.Struct, frozen=True):
    """How much of a prompt is there, in tokens; ``reloaded`` of them come from the host."""

    cached: int
    reloaded: int


NOTHING: Final = Found(0, 0)


class KvCache:
    """Least recently used out first, in both tiers.

    Args:
        block: tokens in a block.
        device: tokens that the device has room for.
        host: tokens that the host has room for, beside those.
    """

    __slots__ = (
        "_device",
        "_evictable",
        "_free",
        "_host",
        "_hosted",
        "_on_host",
        "_pins",
        "block",
        "pinned",
    )

    def __init__(self, block: int, device: int, host: int) -> None:
        self.block = block
        self.pinned = 0
        self._device = device
        self._host = host
        self._pins: dict[int, int] = {}
        self._free: OrderedDict[int, int] = OrderedDict()  # tokens by id, oldest first
        self._evictable = 0
        self._on_host: OrderedDict[int, int] = OrderedDict()
        self._hosted = 0

    def __contains__(self, block: int) -> bool:
        return block in self._pins or block in self._free or block in self._on_host

    @property
    def usage(self) -> float:
        """Share of the device's room that running sequences hold."""
        return self.pinned / self._device

    @property
    def held(self) -> int:
        """Tokens of both tiers, pinned or not."""
        return self.pinned + self._evictable + self._hosted

    def fits(self, tokens: int) -> bool:
        """Whether a sequence of so many tokens can ever run here."""
        return tokens <= self._device

    def look(self, blocks: Sequence[int], prompt: int) -> Found:
        """What of a prompt is there now. Its last token is computed in any case."""
        found = reloaded = 0
        pins, free, on_host = self._pins, self._free, self._on_host
        for block in blocks[: (prompt - 1) // self.block]:
            if block not in pins and block not in free:
                if block not in on_host:
                    break
                reloaded += 1
            found += 1
        return Found(found * self.block, reloaded * self.block)

    def admit(self, blocks: Sequence[int], prompt: int, answer: int) -> Found | None:
        """Pin a prompt's blocks and the room of its answer; None while there is no room."""
        pins, free, on_host = self._pins, self._free, self._on_host
        shared = sum(block in pins for block in blocks) * self.block
        need = prompt + answer - shared
        if self.pinned + need > self._device:
            return None
        found = self.look(blocks, prompt)
        for block in blocks:
            if block in pins:
                pins[block] += 1
                continue
            pins[block] = 1
            if free.pop(block, None) is not None:
                self._evictable -= self.block
            elif on_host.pop(block, None) is not None:
                self._hosted -= self.block
        self.pinned += need
        self._evict()
        return found

    def release(self, blocks: Sequence[int], rest: int, rest_id: int) -> None:
        """A sequence has ended.

        Args:
            rest: tokens of it that are in none of the blocks.
            rest_id: an id for them that nothing else has.
        """
        self._free[rest_id] = rest
        self._evictable += rest
        self.pinned -= rest
        for block in reversed(blocks):
            pins = self._pins[block] - 1
            if pins:
                self._pins[block] = pins
                continue
            del self._pins[block]
            self._free[block] = self.block
            self._evictable += self.block
            self.pinned -= self.block

    def clear(self) -> None:
        """All is lost."""
        self.pinned = self._evictable = self._hosted = 0
        self._pins.clear()
        self._free.clear()
        self._on_host.clear()

    def _evict(self) -> None:
        room = self._device - self.pinned
        while self._evictable > room:
            block, tokens = self._free.popitem(last=False)
            self._evictable -= tokens
            self._on_host[block] = tokens
            self._hosted += tokens
        while self._hosted > self._host:
            self._hosted -= self._on_host.popitem(last=False)[1]

    def __repr__(self) -> str:
        return f"<KvCache pinned={self.pinned} evictable={self._evictable} on_host={self._hosted}>"

"""The KV cache as a pool of fixed-size blocks, shared by reference count.

A block is in one of three places: held (reference count above 0), free and still holding a
cached prefix (least recently used first), or clean. A full block is known by a hash chained
over its whole prefix, so equal hashes mean equal keys and values. Freeing goes tail first, so
that of a finished sequence the shared beginning outlives the private end. Clean blocks are
handed out as contiguous extents where possible: attention on the CPU reads a contiguous extent
of the cache in place, so a sequence with one extent needs no copy at all.

With an `EventLog` the pool notes there what can no longer be found; what can is noted by the
scheduler, which knows the tokens.
"""

import hashlib
import math
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np

from engine.kv_events import EventLog
from engine.kv_events.wire import short_name

RECLAIM_BATCH = 16
"""Cached blocks cleaned at a time. One by one, in eviction order, would scatter a growing
sequence over single blocks; a small batch costs little cached prefix and keeps extents long."""


def hash_block(parent: bytes | None, tokens: Sequence[int], salt: str | None) -> bytes:
    """SHA-256 over (parent hash, token ids); `salt` only enters a chain's first block.

    A cryptographic hash, because a crafted collision would read another tenant's cache.
    """
    digest = hashlib.sha256(parent if parent is not None else b"warmpath:" + (salt or "").encode())
    digest.update(array("q", tokens).tobytes())
    return digest.digest()


def extend_chain(
    hashes: list[bytes], tokens: Sequence[int], count: int, block_size: int, salt: str | None
) -> None:
    """Append to the chain `hashes` of the blocks of `tokens` until it has `count`."""
    while len(hashes) < count:
        start = len(hashes) * block_size
        parent = hashes[-1] if hashes else None
        hashes.append(hash_block(parent, tokens[start : start + block_size], salt))


class BlockTable:
    """The blocks of one sequence in order, with the maximal runs of consecutive block ids."""

    __slots__ = ("blocks", "extents")

    def __init__(self) -> None:
        self.blocks: list[int] = []
        self.extents: list[list[int]] = []

    def extend(self, blocks: Iterable[int]) -> None:
        """Append `blocks`, merging each into the last extent where it continues it."""
        for block in blocks:
            last = self.extents[-1] if self.extents else None
            if last is not None and last[0] + last[1] == block:
                last[1] += 1
            else:
                self.extents.append([block, 1])
            self.blocks.append(block)

    def clear(self) -> None:
        self.blocks.clear()
        self.extents.clear()

    def __len__(self) -> int:
        return len(self.blocks)

    def __repr__(self) -> str:
        runs = " ".join(f"{first}+{count}" for first, count in self.extents)
        return f"<BlockTable {len(self.blocks)} blocks: {runs}>"


class BlockPool:
    """Allocation, sharing and eviction of `num_blocks` blocks of `block_size` tokens."""

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        *,
        caching: bool = True,
        log: EventLog | None = None,
    ) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.caching = caching
        self.log = log
        self._references = [0] * num_blocks
        self._hash: list[bytes | None] = [None] * num_blocks
        self._by_hash: dict[bytes, int] = {}
        self._cached_free: OrderedDict[int, None] = OrderedDict()
        self._clean = np.ones(num_blocks, dtype=bool)
        self._num_clean = num_blocks

    @property
    def num_free(self) -> int:
        return self._num_clean + len(self._cached_free)

    @property
    def num_held(self) -> int:
        return self.num_blocks - self.num_free

    @property
    def num_cached(self) -> int:
        """Blocks reachable by hash, held or free."""
        return len(self._by_hash)

    def blocks_for(self, tokens: int) -> int:
        """Blocks needed to store `tokens` tokens."""
        return math.ceil(tokens / self.block_size)

    def find(self, hashes: Sequence[bytes]) -> list[int]:
        """The cached blocks of the longest known prefix of the chain `hashes`."""
        found: list[int] = []
        for digest in hashes:
            block = self._by_hash.get(digest)
            if block is None:
                break
            found.append(block)
        return found

    def num_free_among(self, blocks: Iterable[int]) -> int:
        """How many of `blocks` nobody holds: sharing them takes that many from the free ones."""
        return sum(self._references[block] == 0 for block in blocks)

    def share(self, blocks: Iterable[int]) -> None:
        """Take one more reference on each of `blocks`, which must be held or cached."""
        for block in blocks:
            if self._references[block] == 0:
                del self._cached_free[block]
            self._references[block] += 1

    def allocate(self, count: int, *, after: int | None = None) -> list[int] | None:
        """Hold `count` clean blocks, or None (and no change) when fewer are free.

        Starts right behind block `after` where that is clean, to prolong its extent.
        """
        if count > self.num_free:
            return None
        if count > self._num_clean:
            batch = min(RECLAIM_BATCH, self.num_blocks // 64)
            self._reclaim(max(count - self._num_clean, batch))
        taken: list[int] = []
        cursor = -1 if after is None else after + 1
        while len(taken) < count:
            if not (0 <= cursor < self.num_blocks and self._clean[cursor]):
                cursor = self._extent(count - len(taken))
            self._clean[cursor] = False
            self._num_clean -= 1
            self._references[cursor] = 1
            taken.append(cursor)
            cursor += 1
        return taken

    def free(self, blocks: Sequence[int]) -> None:
        """Give back one reference on each of a sequence's `blocks` (in order), last one first."""
        for block in reversed(blocks):
            count = self._references[block]
            if count <= 0:
                raise AssertionError(f"block {block} freed more often than taken")
            self._references[block] = count - 1
            if count > 1:
                continue
            if self._hash[block] is None:
                self._clean[block] = True
                self._num_clean += 1
            else:
                self._cached_free[block] = None

    def register(self, block: int, digest: bytes) -> bool:
        """Make a full, computed, held block findable. A second copy of a hash stays private.

        True if the hash could not be found before.
        """
        if not self.caching or self._hash[block] is not None or digest in self._by_hash:
            return False
        self._hash[block] = digest
        self._by_hash[digest] = block
        return True

    def reset_cache(self) -> None:
        """Forget every cached prefix; held blocks stay held but can no longer be found."""
        for block in self._by_hash.values():
            self._hash[block] = None
        self._by_hash.clear()
        for block in self._cached_free:
            self._clean[block] = True
        self._num_clean += len(self._cached_free)
        self._cached_free.clear()
        if self.log is not None:
            self.log.cleared()

    def check(self) -> None:
        """Raise AssertionError if a block is in no place, in two, or wrongly indexed."""
        for block, count in enumerate(self._references):
            places = (count > 0) + (block in self._cached_free) + bool(self._clean[block])
            if count < 0 or places != 1:
                raise AssertionError(f"block {block}: {count} references, in {places} places")
            if self._clean[block] and self._hash[block] is not None:
                raise AssertionError(f"clean block {block} still has a hash")
        if self._num_clean != int(self._clean.sum()):
            raise AssertionError("clean count is off")
        if any(self._hash[block] != digest for digest, block in self._by_hash.items()):
            raise AssertionError("hash index is off")

    def __repr__(self) -> str:
        return (
            f"<BlockPool {self.num_held} held, {len(self._cached_free)} cached free, "
            f"{self._num_clean} clean>"
        )

    def _reclaim(self, count: int) -> None:
        for _ in range(min(count, len(self._cached_free))):
            block, _ = self._cached_free.popitem(last=False)
            digest = self._hash[block]
            if digest is not None:
                del self._by_hash[digest]
                if self.log is not None:
                    self.log.removed(short_name(digest))
            self._hash[block] = None
            self._clean[block] = True
            self._num_clean += 1

    def _extent(self, count: int) -> int:
        """Where to start a new extent of `count` blocks: in the longest clean run.

        Behind a held block that run is somebody's room to grow, so start in its middle if
        `count` fits there too.
        """
        edges = np.flatnonzero(np.diff(self._clean.astype(np.int8), prepend=0, append=0))
        starts, ends = edges[::2], edges[1::2]
        longest = int(np.argmax(ends - starts))
        start, end = int(starts[longest]), int(ends[longest])
        middle = (start + end) // 2
        crowded = start > 0 and self._references[start - 1] > 0
        return middle if crowded and end - middle >= count else start

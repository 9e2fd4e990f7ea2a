"""The emulated KV cache: a pool of blocks, a prefix cache over full blocks, LRU eviction.

A block is named by a hash chained over the bytes it holds, so equal prompts share blocks.  A block
is *anonymous* until it is full and registered; a named block is in use (some sequence refers to
it) or idle (kept for a later hit, first to go when room is needed).  A sequence reserves
everything it will ever need when it is admitted, so it never has to be preempted.

What is evicted goes to the host tier if there is one, where again the least recently used goes
first.  A block is in one tier at a time: a hit in the host tier takes it back.

With an `EventLog` every name that comes or goes is noted there.  The token ids in it are real: a
token is four bytes of text, read as a little-endian number.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence

from xxhash import xxh3_64_intdigest

from engine.kv_events import EventLog
from engine.kv_events.events import HOST

BYTES_PER_TOKEN = 4


def chain_hashes(content: bytes, block_size: int, parent: int | None = None) -> list[int]:
    """Hashes of the full blocks of `content`, `block_size` tokens each, seeded by the previous."""
    span = block_size * BYTES_PER_TOKEN
    seed = parent or 0
    hashes: list[int] = []
    for start in range(0, len(content) - span + 1, span):
        seed = xxh3_64_intdigest(content[start : start + span], seed=seed)
        hashes.append(seed)
    return hashes


class Reservation:
    """Blocks of one sequence: named ones in chain order, and a number of anonymous ones.

    `reloaded` of the named ones came from the host tier.
    """

    __slots__ = ("anonymous", "named", "reloaded")

    def __init__(self, named: list[int], anonymous: int, reloaded: int = 0) -> None:
        self.named = named
        self.anonymous = anonymous
        self.reloaded = reloaded

    def __repr__(self) -> str:
        return f"Reservation(named={len(self.named)}, anonymous={self.anonymous})"


class KvCache:
    """Block pool of `num_blocks` blocks and a host tier; all counts are blocks."""

    def __init__(self, num_blocks: int, host_blocks: int = 0, log: EventLog | None = None) -> None:
        self.num_blocks = num_blocks
        self.host_blocks = host_blocks
        self._log = log
        self._host: OrderedDict[int, None] = OrderedDict()
        self._empty = num_blocks
        self._references: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def in_use(self) -> int:
        """Blocks that some sequence holds."""
        return self.num_blocks - self._empty - len(self._idle)

    @property
    def cached(self) -> int:
        """Named blocks, in use or idle."""
        return len(self._references) + len(self._idle)

    @property
    def hosted(self) -> int:
        """Blocks in the host tier."""
        return len(self._host)

    def hits(self, hashes: list[int]) -> int:
        """How many leading blocks of a chain are present, in either tier."""
        host = self._host
        for n, name in enumerate(hashes):
            if name not in self._references and name not in self._idle and name not in host:
                return n
        return len(hashes)

    def reserve(self, shared: list[int], fresh: int, content: bytes = b"") -> Reservation | None:
        """Take the present blocks `shared` and `fresh` new ones; None when there is no room.

        New blocks come from the empty ones, then from the least recently used idle ones.
        `shared` begins a chain, whose text begins with `content`.
        """
        idle_hits = sum(1 for name in shared if name in self._idle)
        loads = [n for n, name in enumerate(shared) if name in self._host] if self._host else []
        wanted = fresh + len(loads)
        if wanted > self._empty + len(self._idle) - idle_hits:
            return None
        # Out of the host tier before the evicted come in, or these might push them out.
        for n in loads:
            self._leave_host(shared[n])
        for name in shared:
            if name in self._idle:
                del self._idle[name]
            self._references[name] = self._references.get(name, 0) + 1
        self._evict(wanted - self._empty)
        self._empty -= wanted
        if self._log is not None and loads:
            span = self._log.block_size * BYTES_PER_TOKEN
            tokens = array("I", content[: len(shared) * span])
            self._log.stored(shared, loads, None, tokens)
        return Reservation(list(shared), fresh, len(loads))

    def _evict(self, count: int) -> None:
        evicted = [self._idle.popitem(last=False)[0] for _ in range(count)]
        self._empty += len(evicted)
        if self._log is not None:
            for name in evicted:
                self._log.removed(name)
        if not self.host_blocks or not evicted:
            return
        kept = evicted[-self.host_blocks :]
        while len(self._host) + len(kept) > self.host_blocks:
            self._leave_host(next(iter(self._host)))
        self._host.update(dict.fromkeys(kept))
        if self._log is not None:
            self._log.offloaded(kept)

    def _leave_host(self, name: int) -> None:
        del self._host[name]
        if self._log is not None:
            self._log.removed(name, HOST)

    def register(
        self,
        held: Reservation,
        names: Sequence[int],
        *,
        parent: int | None = None,
        content: bytes = b"",
    ) -> None:
        """Name the next blocks of `held`; a name that exists already leaves its block anonymous.

        `parent` is the block before them, None at the start of a chain; `content` is theirs.
        """
        fresh: list[int] = []
        for n, name in enumerate(names):
            if name in self._references or name in self._idle or not held.anonymous:
                continue
            held.anonymous -= 1
            held.named.append(name)
            self._references[name] = 1
            fresh.append(n)
            if name in self._host:
                self._leave_host(name)
        if self._log is not None and fresh:
            self._log.stored(names, fresh, parent, array("I", content))

    def clear(self) -> bool:
        """Forget all names; False, and nothing changes, while a block is in use."""
        if self.in_use:
            return False
        self._idle.clear()
        self._host.clear()
        self._empty = self.num_blocks
        if self._log is not None:
            self._log.cleared()
        return True

    def release(self, held: Reservation) -> None:
        """Give everything back; the tail becomes the first candidate for eviction."""
        for name in reversed(held.named):
            left = self._references[name] - 1
            if left:
                self._references[name] = left
            else:
                del self._references[name]
                self._idle[name] = None
        self._empty += held.anonymous
        held.named = []
        held.anonymous = 0

    def __repr__(self) -> str:
        return (
            f"KvCache(in_use={self.in_use}, idle={len(self._idle)}, of={self.num_blocks}, "
            f"hosted={self.hosted})"
        )

"""Rate limit buckets that the workers of a machine share, exactly.

A fixed table in shared memory, four ways to a set, an entry of four words: key, level, time of
the last step, time when it will be full. A step reads, computes and writes under locks on the
bytes of the sets it needs (``fcntl``), taken in the order of the file so that no two processes
wait for each other, and freed by the kernel should their holder die. Lock and unlock of a set cost
1.6 us together, paid only by requests that a limit applies to; see docs/adr for what was chosen
against. A set that is full gives up the bucket that will be full soonest: the one whose memory is
worth least.
"""

import fcntl
from collections.abc import Sequence

from router.core.admission.token_bucket import (
    BucketSpec,
    Draw,
    Verdict,
    charged,
    filled,
    judge,
    may_take,
)

WAYS = 4
WORD = 8
WORDS = 4
ENTRY = WORDS * WORD


class SharedBuckets:
    """Implements ``core.admission.token_bucket.BucketStore``.

    Args:
        memory: zeroed shared memory, a whole number of sets.
        fd: the file it maps, held open for its locks.
        offset: where in the file ``memory`` begins.

    Attributes:
        forgotten: buckets overwritten by this process before they were full again.
    """

    __slots__ = ("_fd", "_keys", "_numbers", "_offset", "_sets", "forgotten")

    def __init__(self, memory: memoryview, fd: int, offset: int) -> None:
        self._sets = len(memory) // (ENTRY * WAYS)
        if self._sets < 1:
            raise ValueError(f"memory must hold at least {ENTRY * WAYS} bytes")
        self._keys: memoryview[int] = memory.cast("Q")
        self._numbers: memoryview[float] = memory.cast("d")
        self._fd = fd
        self._offset = offset
        self.forgotten = 0

    def take(self, draws: Sequence[Draw], now: float) -> tuple[Verdict, ...]:
        sets = self._sets_of(draws)
        self._lock(sets)
        try:
            levels = [self.level(draw.key, draw.spec, now) for draw in draws]
            verdicts = tuple(map(judge, levels, draws))
            if may_take(draws, verdicts):
                held: list[int] = []
                for draw, verdict in zip(draws, verdicts, strict=True):
                    if verdict.allowed:
                        held.append(self._put(draw, verdict.remaining, now, held))
        finally:
            self._unlock(sets)
        return verdicts

    def charge(self, draws: Sequence[Draw], now: float) -> float:
        sets = self._sets_of(draws)
        self._lock(sets)
        total = 0.0
        try:
            held: list[int] = []
            for draw in draws:
                level, forgiven = charged(self.level(draw.key, draw.spec, now), draw)
                held.append(self._put(draw, level, now, held))
                total += forgiven
        finally:
            self._unlock(sets)
        return total

    def level(self, key: int, spec: BucketSpec, now: float) -> float:
        """Tokens in a bucket at this moment; changes nothing, and takes no lock."""
        key = key or 1  # zero marks an entry that was never used
        first = key % self._sets * WAYS * WORDS
        keys, numbers = self._keys, self._numbers
        for at in range(first, first + WAYS * WORDS, WORDS):
            if keys[at] == key:
                return filled(numbers[at + 1], now - numbers[at + 2], spec)
        return spec.capacity

    def _sets_of(self, draws: Sequence[Draw]) -> list[int]:
        if len(draws) == 1:
            return [(draws[0].key or 1) % self._sets]
        return sorted({(draw.key or 1) % self._sets for draw in draws})

    def _lock(self, sets: list[int]) -> None:
        size = WAYS * ENTRY
        for number in sets:
            fcntl.lockf(self._fd, fcntl.LOCK_EX, size, self._offset + number * size)

    def _unlock(self, sets: list[int]) -> None:
        size = WAYS * ENTRY
        for number in sets:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, size, self._offset + number * size)

    def _put(self, draw: Draw, level: float, now: float, held: list[int]) -> int:
        """Write a level down, not in the place of one that this step wrote; returns where."""
        key, spec = draw.key or 1, draw.spec
        keys, numbers = self._keys, self._numbers
        first = key % self._sets * WAYS * WORDS
        ways = range(first, first + WAYS * WORDS, WORDS)
        at = next((way for way in ways if keys[way] == key), -1)
        if at < 0:
            # One never used was full at time zero, so it goes first.
            at = min(
                (w for w in ways if w not in held), key=lambda w: numbers[w + 3], default=first
            )
            if keys[at] and numbers[at + 3] > now:
                self.forgotten += 1
        keys[at] = key
        numbers[at + 1] = level
        numbers[at + 2] = now
        numbers[at + 3] = now + (spec.capacity - level) / spec.fill_rate
        return at

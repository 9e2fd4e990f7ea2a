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
SET = WAYS * WORDS
SET_BYTES = WAYS * ENTRY


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
        if len(draws) == 1:
            return (self._take_one(draws[0], now),)
        sets = self._sets_of(draws)
        self._lock(sets)
        try:
            places = [self._find(draw.key or 1) for draw in draws]
            verdicts = tuple(
                [
                    judge(self._level(at, draw.spec, now), draw)
                    for at, draw in zip(places, draws, strict=True)
                ]
            )
            if may_take(draws, verdicts):
                for index, verdict in enumerate(verdicts):
                    if verdict.allowed:
                        self._put(draws[index], index, places, verdict.remaining, now)
        finally:
            self._unlock(sets)
        return verdicts

    def _take_one(self, draw: Draw, now: float) -> Verdict:
        """As ``take``, of a bucket alone: most requests draw on no other. The core's steps are
        written out, which saves half of the time."""
        key, spec, numbers = draw.key or 1, draw.spec, self._numbers
        start = self._offset + key % self._sets * SET_BYTES
        fcntl.lockf(self._fd, fcntl.LOCK_EX, SET_BYTES, start)
        try:
            at, level = self._find(key), spec.capacity
            if at >= 0:
                level = filled(numbers[at + 1], now - numbers[at + 2], spec)
            left = level - draw.amount
            if left < -1e-9:
                return Verdict(False, level, -left / spec.fill_rate)
            left = max(left, 0.0)
            if at < 0:
                self._put(draw, 0, [at], left, now)
            else:
                numbers[at + 1] = left
                numbers[at + 2] = now
                numbers[at + 3] = now + (spec.capacity - left) / spec.fill_rate
            return Verdict(True, left, 0.0)
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, SET_BYTES, start)

    def charge(self, draws: Sequence[Draw], now: float) -> float:
        sets = self._sets_of(draws)
        self._lock(sets)
        total = 0.0
        try:
            places = [self._find(draw.key or 1) for draw in draws]
            for index, draw in enumerate(draws):
                level, forgiven = charged(self._level(places[index], draw.spec, now), draw)
                self._put(draw, index, places, level, now)
                total += forgiven
        finally:
            self._unlock(sets)
        return total

    def level(self, key: int, spec: BucketSpec, now: float) -> float:
        """Tokens in a bucket at this moment; changes nothing, and takes no lock."""
        return self._level(self._find(key or 1), spec, now)

    def _find(self, key: int) -> int:
        """The word where the key's entry is; -1 if there is none."""
        keys = self._keys
        first = key % self._sets * SET
        if keys[first] == key:
            return first
        for at in (first + WORDS, first + 2 * WORDS, first + 3 * WORDS):
            if keys[at] == key:
                return at
        return -1

    def _level(self, at: int, spec: BucketSpec, now: float) -> float:
        if at < 0:
            return spec.capacity
        return filled(self._numbers[at + 1], now - self._numbers[at + 2], spec)

    def _sets_of(self, draws: Sequence[Draw]) -> Sequence[int]:
        first = (draws[0].key or 1) % self._sets
        if len(draws) == 1:
            return (first,)
        return sorted({first, *[(draw.key or 1) % self._sets for draw in draws[1:]]})

    def _lock(self, sets: Sequence[int]) -> None:
        for number in sets:
            fcntl.lockf(self._fd, fcntl.LOCK_EX, SET_BYTES, self._offset + number * SET_BYTES)

    def _unlock(self, sets: Sequence[int]) -> None:
        for number in sets:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, SET_BYTES, self._offset + number * SET_BYTES)

    def _put(self, draw: Draw, index: int, places: list[int], level: float, now: float) -> None:
        """Write a level to its place, or to one that none of this step's buckets has."""
        spec, numbers, at = draw.spec, self._numbers, places[index]
        if at < 0:
            key = draw.key or 1
            first = key % self._sets * SET
            ways = [way for way in range(first, first + SET, WORDS) if way not in places]
            # One never used was full at time zero, so it goes first.
            at = min(ways, key=lambda way: numbers[way + 3], default=first)
            if self._keys[at] and numbers[at + 3] > now:
                self.forgotten += 1
            self._keys[at] = key
            places[index] = at
        numbers[at + 1] = level
        numbers[at + 2] = now
        numbers[at + 3] = now + (spec.capacity - level) / spec.fill_rate

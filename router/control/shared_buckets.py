"""Rate limit buckets that the workers of a machine share, exactly.

A fixed table in shared memory, four ways to a set, an entry of four words: key, level, time of
the last step, time when it will be full. A step reads, computes and writes under one lock
(``fcntl``) on the bytes from the first set it needs to the last, so that no two processes wait for
each other, and freed by the kernel should its holder die. Lock and unlock cost 0.7 us together,
paid only by requests that a limit applies to; see docs/adr for what was chosen against. A set that
is full gives up the bucket that will be full soonest: the one whose memory is worth least.

What requests come to in the end is written behind: charges are summed up by bucket, and charged
for many requests in one step: by ``flush``, before a draw is refused, and as soon as they come to
more than a hundredth of a bucket.
"""

from collections.abc import Sequence
from fcntl import LOCK_EX, LOCK_UN, lockf

from router.core.admission.token_bucket import (
    BucketSpec,
    Draw,
    Verdict,
    charged,
    filled,
    may_take,
)

WAYS = 4
WORD = 8
WORDS = 4
ENTRY = WORDS * WORD
SET = WAYS * WORDS
SET_BYTES = WAYS * ENTRY
OWED = 64
"""Buckets whose charges wait for a flush; one more, and it is made at once."""
SLACK = 0.01
"""Part of a bucket's capacity that may wait for a flush, unseen by other workers. Of a small
bucket every charge is seen at once."""


class SharedBuckets:
    """Implements ``core.admission.ledger.BucketStore``.

    Args:
        memory: zeroed shared memory, a whole number of sets.
        fd: the file it maps, held open for its locks.
        offset: where in the file ``memory`` begins.

    Attributes:
        forgotten: buckets overwritten by this process before they were full again.
    """

    __slots__ = (
        "_fd",
        "_forgiven",
        "_keys",
        "_numbers",
        "_offset",
        "_owed",
        "_sets",
        "forgotten",
    )

    def __init__(self, memory: memoryview, fd: int, offset: int) -> None:
        self._sets = len(memory) // (ENTRY * WAYS)
        if self._sets < 1:
            raise ValueError(f"memory must hold at least {ENTRY * WAYS} bytes")
        self._keys: memoryview[int] = memory.cast("Q")
        self._numbers: memoryview[float] = memory.cast("d")
        self._fd = fd
        self._offset = offset
        self._owed: dict[int, tuple[BucketSpec, float]] = {}
        self._forgiven = 0.0
        self.forgotten = 0

    def take(self, draws: Sequence[Draw], now: float) -> tuple[Verdict, ...]:
        verdicts = self._take_one(draws[0], now) if len(draws) == 1 else self._take(draws, now)
        if self._owed and not may_take(draws, verdicts):
            # Perhaps it is there, and not yet given back.
            self._settle(now)
            verdicts = self._take(draws, now)
        return verdicts

    def _take(self, draws: Sequence[Draw], now: float) -> tuple[Verdict, ...]:
        """The core's steps are written out here and below, which saves half of the time."""
        keys, numbers, sets = self._keys, self._numbers, self._sets
        firsts = [(draw.key or 1) % sets * SET for draw in draws]
        low = min(firsts)
        start, size = self._offset + low * WORD, (max(firsts) - low) * WORD + SET_BYTES
        fits = True
        verdicts: list[Verdict] = []
        lockf(self._fd, LOCK_EX, size, start)
        try:
            places: list[int] = []
            for index in range(len(draws)):
                draw, first = draws[index], firsts[index]
                spec, key = draw.spec, draw.key or 1
                at = first if keys[first] == key else self._find(key)
                places.append(at)
                level = spec.capacity
                if at >= 0:
                    level = filled(numbers[at + 1], now - numbers[at + 2], spec)
                left = level - draw.amount
                if left >= -1e-9:
                    verdicts.append(Verdict(True, left if left > 0.0 else 0.0, 0.0))
                else:
                    verdicts.append(Verdict(False, level, -left / spec.fill_rate))
                    fits = fits and not draw.binding
            if fits:
                for index in range(len(verdicts)):
                    verdict = verdicts[index]
                    if not verdict.allowed:
                        continue
                    at, left, spec = places[index], verdict.remaining, draws[index].spec
                    if at < 0:
                        self._put(draws[index], index, places, left, now)
                    else:
                        numbers[at + 1] = left
                        numbers[at + 2] = now
                        numbers[at + 3] = now + (spec.capacity - left) / spec.fill_rate
        finally:
            lockf(self._fd, LOCK_UN, size, start)
        return tuple(verdicts)

    def _take_one(self, draw: Draw, now: float) -> tuple[Verdict, ...]:
        """As ``_take``, of a bucket alone: most requests draw on no other."""
        key, spec, numbers = draw.key or 1, draw.spec, self._numbers
        at = key % self._sets * SET
        start, level = self._offset + at * WORD, spec.capacity
        lockf(self._fd, LOCK_EX, SET_BYTES, start)
        try:
            if self._keys[at] != key:
                at = self._find(key)
            if at >= 0:
                level = filled(numbers[at + 1], now - numbers[at + 2], spec)
            left = level - draw.amount
            if left < -1e-9:
                return (Verdict(False, level, -left / spec.fill_rate),)
            left = left if left > 0.0 else 0.0
            if at < 0:
                self._put(draw, 0, [at], left, now)
            else:
                numbers[at + 1] = left
                numbers[at + 2] = now
                numbers[at + 3] = now + (spec.capacity - left) / spec.fill_rate
            return (Verdict(True, left, 0.0),)
        finally:
            lockf(self._fd, LOCK_UN, SET_BYTES, start)

    def charge(self, draws: Sequence[Draw], now: float) -> float:
        sets = self._sets
        firsts = [(draw.key or 1) % sets * SET for draw in draws]
        low = min(firsts)
        start, size = self._offset + low * WORD, (max(firsts) - low) * WORD + SET_BYTES
        total = 0.0
        lockf(self._fd, LOCK_EX, size, start)
        try:
            places = [self._find(draw.key or 1) for draw in draws]
            for index, draw in enumerate(draws):
                level, forgiven = charged(self._level(places[index], draw.spec, now), draw)
                self._put(draw, index, places, level, now)
                total += forgiven
        finally:
            lockf(self._fd, LOCK_UN, size, start)
        return total

    def owe(self, key: int, spec: BucketSpec, amount: float, now: float) -> None:
        owed = self._owed
        before = owed.get(key)
        if before is not None:
            amount += before[1]
        owed[key] = (spec, amount)
        slack = spec.capacity * SLACK
        if amount > slack or amount < -slack or len(owed) > OWED:
            self._settle(now)

    def flush(self, now: float) -> float:
        if self._owed:
            self._settle(now)
        forgiven, self._forgiven = self._forgiven, 0.0
        return forgiven

    def _settle(self, now: float) -> None:
        owed, self._owed = self._owed, {}
        draws = [Draw(key, spec, amount) for key, (spec, amount) in owed.items()]
        # A few at a time: others wait for the lock, which has all that lies between its ends.
        for first in range(0, len(draws), WAYS):
            self._forgiven += self.charge(draws[first : first + WAYS], now)

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

"""Rate limit buckets that the workers of a machine share, exactly.

A fixed table in shared memory, four ways to a set, an entry of three words: key, level, time of
the last step. A step reads, computes and writes under a lock on the set's bytes of the file
(``fcntl``), which the kernel frees should its holder die. Lock and unlock cost 1.6 us together,
paid only by requests that a limit applies to; see docs/adr for what was chosen against.
"""

import fcntl

from router.core.admission.token_bucket import BucketSpec, Verdict, draw

WAYS = 4
WORD = 8
ENTRY = 3 * WORD


class SharedBuckets:
    """Implements ``core.admission.token_bucket.BucketStore``.

    Args:
        memory: zeroed shared memory, a whole number of sets.
        fd: the file it maps, held open for its locks.
        offset: where in the file ``memory`` begins.

    Attributes:
        forgotten: buckets overwritten by this process because their set was full.
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

    def take(self, key: int, spec: BucketSpec, amount: float, now: float) -> Verdict:
        key = key or 1  # zero marks an entry that was never used
        first = key % self._sets * WAYS * 3
        start = self._offset + first * WORD
        fcntl.lockf(self._fd, fcntl.LOCK_EX, WAYS * ENTRY, start)
        try:
            at = self._entry(key, first)
            keys, numbers = self._keys, self._numbers
            if keys[at] == key:
                level, since = numbers[at + 1], now - numbers[at + 2]
            else:
                level, since = spec.capacity, 0.0
            level, verdict = draw(level, since, spec, amount)
            keys[at] = key
            numbers[at + 1] = level
            numbers[at + 2] = now
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, WAYS * ENTRY, start)
        return verdict

    def level(self, key: int, spec: BucketSpec, now: float) -> float:
        """Tokens in a bucket at this moment; changes nothing, and takes no lock."""
        key = key or 1
        first = key % self._sets * WAYS * 3
        keys, numbers = self._keys, self._numbers
        for at in range(first, first + WAYS * 3, 3):
            if keys[at] == key:
                return draw(numbers[at + 1], now - numbers[at + 2], spec, 0.0)[0]
        return spec.capacity

    def _entry(self, key: int, first: int) -> int:
        """The word where the key's entry is, or is to be: its own, a free or the oldest one."""
        keys, numbers = self._keys, self._numbers
        ways = range(first, first + WAYS * 3, 3)
        for at in ways:
            if keys[at] == key or not keys[at]:
                return at
        self.forgotten += 1
        return min(ways, key=lambda at: numbers[at + 2])

"""Rate limit buckets that the workers of a machine share, exactly.

A fixed table in shared memory, four ways to a set, an entry of four words: key, level, time of
the last step, time when it will be full. A step reads, computes and writes under one lock of the
machine's processes, which outlives a holder that dies; see docs/adr for what was chosen against. A
set that is full gives up the bucket that will be full soonest: the one whose memory is worth least.

Where a bucket was found last is remembered, and its key is compared before that is believed:
others may have overwritten it. Of a key 62 bits are kept, which compiled code compares as numbers
of the machine. An entry is read by one call and written by one (``struct``).

What requests come to in the end is written behind: charges are summed up by bucket, and charged
for many requests in one step: by ``flush``, before a draw is refused, and as soon as they come to
more than a hundredth of a bucket.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final

from router.control.interlock import Interlock
from router.core.admission.token_bucket import (
    BucketSpec,
    Draw,
    Verdict,
    charged,
    filled,
    may_take,
)

WAYS: Final = 4
WORD: Final = 8
ENTRY: Final = 4 * WORD
SET: Final = WAYS * ENTRY
KEY_BITS: Final = (1 << 62) - 1
OWED: Final = 64
"""Buckets whose charges wait for a flush; one more, and it is made at once."""
SLACK: Final = 0.01
"""Part of a bucket's capacity that may wait for a flush, unseen by other workers. Of a small
bucket every charge is seen at once."""
KNOWN: Final = 4096
"""Buckets whose places are remembered."""

# Compiled, a name of another module is looked up each time unless it is final here.
_read: Final = Struct("qddd").unpack_from
_write: Final = Struct("ddd").pack_into
_write_key: Final = Struct("q").pack_into


class Place:
    """Where a bucket is: ``first`` byte of its set, the byte its entry was ``at`` last, and whether
    it was still ``there``."""

    __slots__ = ("at", "first", "key", "there")

    def __init__(self, key: int, first: int) -> None:
        self.key: Final = key
        self.first: Final = first
        self.at = first
        self.there = False


class SharedBuckets:
    """Implements ``core.admission.ledger.BucketStore``.

    Args:
        memory: zeroed shared memory, a whole number of sets.
        lock: of all that map it.

    Attributes:
        forgotten: buckets overwritten by this process before they were full again.
    """

    __slots__ = (
        "_forgiven",
        "_lock",
        "_memory",
        "_owed",
        "_places",
        "_sets",
        "forgotten",
    )

    def __init__(self, memory: memoryview, lock: Interlock) -> None:
        self._sets = len(memory) // SET
        if self._sets < 1:
            raise ValueError(f"memory must hold at least {SET} bytes")
        self._memory = memory
        self._lock = lock
        self._places: dict[int, Place] = {}
        self._owed: dict[int, tuple[BucketSpec, float]] = {}
        self._forgiven = 0.0
        self.forgotten = 0

    def take(self, draws: Sequence[Draw], now: float) -> tuple[Verdict, ...]:
        # Compiled, a tuple's items are at hand, those of a sequence of any kind are asked for.
        draws = draws if isinstance(draws, tuple) else tuple(draws)
        verdicts = self._take(draws, now)
        if self._owed and not may_take(draws, verdicts):
            # Perhaps it is there, and not yet given back.
            self._settle(now)
            verdicts = self._take(draws, now)
        return verdicts

    def _take(self, draws: tuple[Draw, ...], now: float) -> tuple[Verdict, ...]:
        """The core's steps are written out here, which saves a third of the time."""
        places = self._find(draws)
        fits = True
        verdicts: list[Verdict] = []
        self._lock.acquire()
        try:
            for index in range(len(draws)):
                draw = draws[index]
                spec = draw.spec
                level = self._level(places[index], spec, now)
                left = level - draw.amount
                if left >= -1e-9:
                    verdicts.append(Verdict(True, left if left > 0.0 else 0.0, 0.0))
                else:
                    verdicts.append(Verdict(False, level, -left / spec.fill_rate))
                    fits = fits and not draw.binding
            if fits:
                for index in range(len(draws)):
                    verdict = verdicts[index]
                    if verdict.allowed:
                        self._put(places, index, draws[index].spec, verdict.remaining, now)
        finally:
            self._lock.release()
        return tuple(verdicts)

    def charge(self, draws: Sequence[Draw], now: float) -> float:
        places = self._find(tuple(draws))
        total = 0.0
        self._lock.acquire()
        try:
            for index, draw in enumerate(draws):
                level, forgiven = charged(self._level(places[index], draw.spec, now), draw)
                self._put(places, index, draw.spec, level, now)
                total += forgiven
        finally:
            self._lock.release()
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
        # A few at a time: others wait for the lock.
        for first in range(0, len(draws), WAYS):
            self._forgiven += self.charge(draws[first : first + WAYS], now)

    def level(self, key: int, spec: BucketSpec, now: float) -> float:
        """Tokens in a bucket at this moment; changes nothing, and takes no lock."""
        return self._level(self._place(key), spec, now)

    # --- the table ----------------------------------------------------------------------------

    def _find(self, draws: tuple[Draw, ...]) -> list[Place]:
        places: list[Place] = []
        for draw in draws:
            places.append(self._place(draw.key))
        return places

    def _place(self, key: int) -> Place:
        place = self._places.get(key)
        if place is None:
            if len(self._places) >= KNOWN:
                self._places.clear()
            word = key & KEY_BITS or 1  # zero is an entry that is free
            place = self._places[key] = Place(word, word % self._sets * SET)
        return place

    def _level(self, place: Place, spec: BucketSpec, now: float) -> float:
        """Of a bucket; full if it has no entry. Finds out where that is."""
        memory, key = self._memory, place.key
        entry: tuple[int, float, float, float] = _read(memory, place.at)
        place.there = True
        if entry[0] != key:
            for at in range(place.first, place.first + SET, ENTRY):
                entry = _read(memory, at)
                if entry[0] == key:
                    place.at = at
                    break
            else:
                place.there = False
                return spec.capacity
        return filled(entry[1], now - entry[2], spec)

    def _put(
        self, places: list[Place], index: int, spec: BucketSpec, level: float, now: float
    ) -> None:
        """Write a level where ``_level`` has found the bucket, or in place of another one that is
        not of this step."""
        place = places[index]
        if not place.there:
            self._make_room(place, {other.at for other in places if other.there}, now)
        full = now + (spec.capacity - level) / spec.fill_rate
        _write(self._memory, place.at + WORD, level, now, full)

    def _make_room(self, place: Place, taken: set[int], now: float) -> None:
        memory, first = self._memory, place.first
        ways = [at for at in range(first, first + SET, ENTRY) if at not in taken]
        # One never used was full at time zero, so it goes first.
        at = min(ways, key=lambda way: _read(memory, way)[3], default=first)
        key, _, _, full = _read(memory, at)
        if key and full > now:
            self.forgotten += 1
        _write_key(memory, at, place.key)
        place.at = at
        place.there = True

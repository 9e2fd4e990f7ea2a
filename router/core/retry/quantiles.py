"""Quantiles of what was seen lately, from counts in buckets that grow by a tenth.

So an answer is at most a tenth too high. All counts are halved now and then: what was seen long
ago fades, and the memory is bounded.
"""

from math import log
from typing import Final

SMALLEST: Final = 0.001
"""Seconds; the upper end of the first bucket."""
GROWTH: Final = 1.1
BUCKETS: Final = 150
"""The last one ends at 1473 s."""
ENOUGH: Final = 100
"""Samples below which there is no answer."""
HALVED_AT: Final = 4096
"""Samples at which all counts are halved."""
_FRESH: Final = 32
"""Samples for which an answer is remembered."""

_LOG_GROWTH: Final = log(GROWTH)


class Quantiles:
    """Durations in seconds."""

    __slots__ = ("_answers", "_asked_at", "_counts", "seen", "total")

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self._answers: dict[float, float] = {}
        self._asked_at = 0
        self.total = 0
        self.seen = 0

    def observe(self, seconds: float) -> None:
        """One more sample."""
        bucket = 0 if seconds <= SMALLEST else 1 + int(log(seconds / SMALLEST) / _LOG_GROWTH)
        self._counts[min(bucket, BUCKETS - 1)] += 1
        self.total += 1
        self.seen += 1
        if self.total >= HALVED_AT:
            self._counts = [count // 2 for count in self._counts]
            self.total = sum(self._counts)

    def at(self, share: float) -> float | None:
        """What this share (0 to 1) of the samples did not exceed; None while they are too few."""
        if self.total < ENOUGH:
            return None
        if self.seen - self._asked_at >= _FRESH:
            self._answers.clear()
            self._asked_at = self.seen
        answer = self._answers.get(share)
        if answer is None:
            self._answers[share] = answer = self._search(share)
        return answer

    def _search(self, share: float) -> float:
        left = share * self.total
        for bucket, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return SMALLEST * GROWTH**bucket
        return SMALLEST * GROWTH**BUCKETS

    def __repr__(self) -> str:
        return f"<Quantiles seen={self.seen}>"

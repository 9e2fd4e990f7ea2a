"""Token buckets, filled continuously as Envoy's local rate limit fills them since 1.40.

A bucket starts full, holds at most ``capacity`` tokens and gains ``fill_rate`` of them a second.
Where the levels are kept is the store's business: a process's own memory here, memory shared by
the workers of a machine in ``router.control.shared_buckets``.
"""

from typing import Protocol

import msgspec


class BucketSpec(msgspec.Struct, frozen=True):
    """``capacity`` in tokens, ``fill_rate`` in tokens per second; both positive."""

    capacity: float
    fill_rate: float


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What a bucket said. ``remaining`` tokens are left; ``wait`` seconds until enough are there.

    ``wait`` is 0 where the request was allowed.
    """

    allowed: bool
    remaining: float
    wait: float


class BucketStore(Protocol):
    """Keeps levels by 64-bit key. Bounded; a forgotten bucket is full again."""

    def take(self, key: int, spec: BucketSpec, amount: float, now: float) -> Verdict:
        """Take ``amount`` tokens if they are there, nothing otherwise."""
        ...


def draw(level: float, since: float, spec: BucketSpec, amount: float) -> tuple[float, Verdict]:
    """One step of one bucket.

    Args:
        level: tokens at the last step; more than the capacity counts as full.
        since: seconds since the last step; a clock that went back counts as none.

    Returns:
        The new level and the verdict.
    """
    level = min(spec.capacity, level + max(0.0, since) * spec.fill_rate)
    # A hair's breadth for sums of floats: 0.6 s at 5/3 tokens a second is one token.
    if level + 1e-9 >= amount:
        level = max(0.0, level - amount)
        return level, Verdict(True, level, 0.0)
    return level, Verdict(False, level, (amount - level) / spec.fill_rate)


class Bottomless:
    """Buckets that are always full: for asking where a request would go, however often."""

    def take(self, key: int, spec: BucketSpec, amount: float, now: float) -> Verdict:
        return Verdict(True, spec.capacity, 0.0)


class LocalBuckets:
    """Levels in this process's memory.

    Args:
        limit: buckets kept. Beyond it the one longest untouched is forgotten, and with it what
            its owner had used up.
    """

    __slots__ = ("_levels", "_limit", "forgotten")

    def __init__(self, limit: int = 16384) -> None:
        self._levels: dict[int, tuple[float, float]] = {}
        self._limit = limit
        self.forgotten = 0

    def take(self, key: int, spec: BucketSpec, amount: float, now: float) -> Verdict:
        level, at = self._levels.pop(key, (spec.capacity, now))
        level, verdict = draw(level, now - at, spec, amount)
        self._levels[key] = (level, now)  # the last of the dict: the most recently used
        if len(self._levels) > self._limit:
            del self._levels[next(iter(self._levels))]
            self.forgotten += 1
        return verdict

    def __len__(self) -> int:
        return len(self._levels)

    def __repr__(self) -> str:
        return f"<LocalBuckets {len(self._levels)}/{self._limit} forgotten={self.forgotten}>"

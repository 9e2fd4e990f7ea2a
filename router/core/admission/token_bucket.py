"""Token buckets, filled continuously as Envoy's local rate limit fills them since 1.40.

A bucket starts full, holds at most ``capacity`` tokens and gains ``fill_rate`` of them a second.
It is drawn on before the work is done and charged when it is known what the work came to: a
charge is never refused, and may take the level below zero, down to the bucket's bound of debt.
Where the levels are kept is the store's business (``ledger``): a process's own memory here, memory
shared by the workers of a machine in ``router.control.shared_buckets``.

Plain classes for what each request makes, see ADR 14.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class BucketSpec:
    """``capacity`` in tokens, ``fill_rate`` in tokens per second; both positive.

    ``debt``: how many tokens below zero charges may take the level.
    """

    capacity: float
    fill_rate: float
    debt: float = 0.0


class Draw:
    """``amount`` tokens of one bucket, found by its 64-bit key.

    ``binding``: whether the others wait for this one. One that is not takes what it can get and
    stands in nobody's way.
    """

    __slots__ = ("amount", "binding", "key", "spec")

    def __init__(self, key: int, spec: BucketSpec, amount: float, binding: bool = True) -> None:
        self.key: Final = key
        self.spec: Final = spec
        self.amount: Final = amount
        self.binding: Final = binding

    def __repr__(self) -> str:
        return f"<Draw {self.amount:g} of {self.key:x} binding={self.binding}>"


class Verdict:
    """What a bucket said. ``remaining`` tokens are left; ``wait`` seconds until enough are there.

    ``wait`` is 0 where the draw was allowed. ``remaining`` is below zero where there is debt.
    """

    __slots__ = ("allowed", "remaining", "wait")

    def __init__(self, allowed: bool, remaining: float, wait: float) -> None:
        self.allowed: Final = allowed
        self.remaining: Final = remaining
        self.wait: Final = wait

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Verdict):
            return NotImplemented
        return (self.allowed, self.remaining, self.wait) == (
            other.allowed,
            other.remaining,
            other.wait,
        )

    def __hash__(self) -> int:
        return hash((self.allowed, self.remaining, self.wait))

    def __repr__(self) -> str:
        return f"<Verdict {self.allowed} remaining={self.remaining:.17g} wait={self.wait:.17g}>"


def filled(level: float, since: float, spec: BucketSpec) -> float:
    """The level ``since`` seconds after the last step; a clock that went back counts as none."""
    if since > 0.0:
        level += since * spec.fill_rate
    capacity = spec.capacity
    return level if level < capacity else capacity


def judge(level: float, draw: Draw) -> Verdict:
    """Whether a bucket at ``level`` can give what is drawn, and what is left then."""
    # A hair's breadth for sums of floats: 0.6 s at 5/3 tokens a second is one token.
    if level + 1e-9 >= draw.amount:
        left = level - draw.amount
        return Verdict(True, left if left > 0.0 else 0.0, 0.0)
    return Verdict(False, level, (draw.amount - level) / draw.spec.fill_rate)


def may_take(draws: tuple[Draw, ...], verdicts: tuple[Verdict, ...]) -> bool:
    """Whether every binding draw was allowed."""
    for index in range(len(draws)):  # compiled, `zip` would make a tuple for each
        if not verdicts[index].allowed and draws[index].binding:
            return False
    return True


def charged(level: float, draw: Draw) -> tuple[float, float]:
    """The level after a charge, and the tokens that the bound of debt forgave."""
    spec = draw.spec
    level = min(spec.capacity, level - draw.amount)
    return (level, 0.0) if level >= -spec.debt else (-spec.debt, -spec.debt - level)


class Bottomless:
    """Buckets that are always full: for asking where a request would go, however often."""

    __slots__ = ()

    def take(self, draws: Sequence[Draw], now: float) -> tuple[Verdict, ...]:
        return tuple(Verdict(True, draw.spec.capacity, 0.0) for draw in draws)

    def charge(self, draws: Sequence[Draw], now: float) -> float:
        return 0.0

    def owe(self, key: int, spec: BucketSpec, amount: float, now: float) -> None:
        return None

    def flush(self, now: float) -> float:
        return 0.0


class LocalBuckets:
    """Levels in this process's memory.

    Args:
        limit: buckets kept. Beyond it the one longest untouched is forgotten, and with it what
            its owner had used up.
    """

    __slots__ = ("_forgiven", "_levels", "_limit", "forgotten")

    def __init__(self, limit: int = 16384) -> None:
        self._levels: dict[int, tuple[float, float]] = {}
        self._limit = limit
        self._forgiven = 0.0
        self.forgotten = 0

    def take(self, draws: Sequence[Draw], now: float) -> tuple[Verdict, ...]:
        levels = [self.level(draw.key, draw.spec, now) for draw in draws]
        verdicts = tuple(map(judge, levels, draws))
        if may_take(tuple(draws), verdicts):
            for draw, verdict in zip(draws, verdicts, strict=True):
                if verdict.allowed:
                    self._put(draw.key, verdict.remaining, now)
        return verdicts

    def charge(self, draws: Sequence[Draw], now: float) -> float:
        total = 0.0
        for draw in draws:
            level, forgiven = charged(self.level(draw.key, draw.spec, now), draw)
            self._put(draw.key, level, now)
            total += forgiven
        return total

    def owe(self, key: int, spec: BucketSpec, amount: float, now: float) -> None:
        # Nobody else waits for it, and it costs no lock.
        self._forgiven += self.charge((Draw(key, spec, amount),), now)

    def flush(self, now: float) -> float:
        forgiven, self._forgiven = self._forgiven, 0.0
        return forgiven

    def level(self, key: int, spec: BucketSpec, now: float) -> float:
        """Tokens in a bucket at this moment; changes nothing."""
        level, at = self._levels.get(key, (spec.capacity, now))
        return filled(level, now - at, spec)

    def _put(self, key: int, level: float, now: float) -> None:
        self._levels.pop(key, None)
        self._levels[key] = (level, now)  # the last of the dict: the most recently used
        if len(self._levels) > self._limit:
            del self._levels[next(iter(self._levels))]
            self.forgotten += 1

    def __len__(self) -> int:
        return len(self._levels)

    def __repr__(self) -> str:
        return f"<LocalBuckets {len(self._levels)}/{self._limit} forgotten={self.forgotten}>"

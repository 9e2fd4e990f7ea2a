"""Time and chance as arguments.

The core never reads a clock. Drivers pass ``now`` (monotonic seconds); tests and the simulator
pass a :class:`HandClock`, which only moves when told to.
"""

from typing import Protocol


class Rng(Protocol):
    """The part of :class:`random.Random` that the core uses."""

    def random(self) -> float:
        """A float drawn uniformly from [0, 1)."""
        ...

    def randrange(self, stop: int, /) -> int:
        """An integer drawn uniformly from [0, stop)."""
        ...


class HandClock:
    """A clock that a test moves by hand. Unit: seconds."""

    __slots__ = ("_now",)

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> float:
        """Move forward and return the new time.

        Raises:
            ValueError: if ``seconds`` is negative; monotonic time never goes back.
        """
        if seconds < 0:
            raise ValueError("a monotonic clock cannot go back")
        self._now += seconds
        return self._now

    def __repr__(self) -> str:
        return f"<HandClock {self._now:g}s>"

"""How many places a full cluster gives free in a second, as it was measured.

Places that become free are counted, and looked at only while the cluster is full: when it is not,
the count tells how many requests came, not how many could be served. Count and seconds both fade
with the same time constant, so their quotient is right from the beginning and never stale.
"""

from math import exp

TAU = 30.0
"""Seconds after which what was measured still counts for 37 % (1/e); answers take many seconds."""
GAP = 1.0
"""Seconds in which nobody waits or is refused after which there is taken to have been room."""
STEP = 0.05
"""Seconds between two readings; shorter ones say nothing."""
NEVER = float("-inf")
PRIOR = 0.5
"""Half a grant is added to those counted (Jeffreys): no grant in two seconds is not "never"."""


class DrainRate:
    """Grants per second of one cluster in one process."""

    __slots__ = ("_at", "_count", "_read", "_seconds")

    def __init__(self) -> None:
        self._at = NEVER
        self._read = 0
        self._count = 0.0
        self._seconds = 0.0

    def observe(self, ended: int, now: float, *, waiting: bool) -> float | None:
        """Take a reading.

        Args:
            ended: places given free since the process started.
            waiting: somebody has waited since the last reading, so there was no free place.

        Returns:
            Grants per second; None before anything was measured.
        """
        since = now - self._at
        if self._at == NEVER or (not waiting and since > GAP):
            self._at, self._read = now, ended
        elif since >= STEP:
            keep = exp(-since / TAU)
            seconds = TAU * (1.0 - keep)
            self._count = self._count * keep + (ended - self._read) / since * seconds
            self._seconds = self._seconds * keep + seconds
            self._at, self._read = now, ended
        return self.value

    def assume(self, rate: float, now: float) -> None:
        """As if so many grants per second had been measured for long."""
        self._at, self._seconds = now, TAU
        self._count = rate * TAU - PRIOR

    @property
    def value(self) -> float | None:
        """As of the last reading."""
        if not self._seconds:
            return None
        return (self._count + PRIOR) / self._seconds

    def __repr__(self) -> str:
        return f"<DrainRate {self.value}>"

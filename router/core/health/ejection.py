"""One endpoint's record with its detector: how often it was ejected, and until when.

The time out of rotation is ``min(base * backoff, max) + jitter``, where ``backoff`` grows by one
with each ejection and decays by one with each interval in rotation. All arithmetic is Envoy's.
"""

from router.core.health.outlier import Detector, Outlier

# Ticks are told by the plan's time, so a time out that is a multiple of the interval ends on a
# tick but for rounding. Envoy's tick is then microseconds too early; ours is made to be.
_ROUNDING = 1e-6


class EjectionRecord:
    """
    Attributes:
        ejected_at, unejected_at: monotonic seconds; ``ejected_at`` is None while in rotation.
        backoff: factor of the base ejection time.
        ejections: how many there have been; never goes back.
        detector: what ejected it last.
        jitter: seconds, drawn once per ejection.
        acted_at: last time that something was logged of it.
    """

    __slots__ = (
        "acted_at",
        "backoff",
        "detector",
        "ejected_at",
        "ejections",
        "jitter",
        "unejected_at",
    )

    def __init__(self) -> None:
        self.ejected_at: float | None = None
        self.unejected_at: float | None = None
        self.backoff = 0
        self.ejections = 0
        self.detector: Detector | None = None
        self.jitter = 0.0
        self.acted_at: float | None = None

    @property
    def ejected(self) -> bool:
        return self.ejected_at is not None

    def eject(self, detector: Detector, jitter: float, policy: Outlier, now: float) -> None:
        base = policy.base_ejection_time
        self.ejected_at = now
        self.detector = detector
        self.jitter = jitter
        self.ejections += 1
        if self.backoff * base < policy.max_ejection_time + base:
            self.backoff += 1

    def uneject(self, now: float) -> None:
        self.ejected_at = None
        self.unejected_at = now

    def due(self, policy: Outlier) -> float:
        """When the time out is over; the first tick after it ends the ejection."""
        assert self.ejected_at is not None
        longest = policy.max_ejection_time
        return (
            self.ejected_at + min(policy.base_ejection_time * self.backoff, longest) + self.jitter
        )

    def over(self, policy: Outlier, now: float) -> bool:
        return self.ejected and now - self.due(policy) > _ROUNDING

    def decay(self, policy: Outlier, now: float) -> None:
        """At a tick in rotation: forget a little, if it has been there for an interval."""
        if not self.backoff or self.unejected_at is None:
            return
        if now - self.unejected_at >= policy.interval - _ROUNDING:
            self.backoff -= 1

    def __repr__(self) -> str:
        state = "in rotation" if self.ejected_at is None else f"ejected at {self.ejected_at:g}s"
        return f"<EjectionRecord {state} ejections={self.ejections} backoff={self.backoff}>"

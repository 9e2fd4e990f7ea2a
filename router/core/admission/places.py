"""A cluster's places: its attempts in flight, and those who wait for one.

A place is one attempt in flight. A cluster with thresholds for high priority has two sets of
places, each with a queue and a retry budget of its own, as Envoy has two resource managers.
"""

from collections import Counter

from router.core.admission.breaker import QueuePolicy, Thresholds
from router.core.admission.drain_rate import DrainRate
from router.core.admission.fair_queue import FairQueue
from router.core.retry.budget import RetryBudget
from router.core.retry.hedge import HedgeBudget
from router.core.session.counts import SessionCounts
from router.core.shared_load import SharedLoad


class Places:
    """What one process knows of a cluster's places for one priority.

    ``name`` is the cluster's, with ``!high`` behind it for high priority. ``slot`` is their row on
    the shared board, so that limits hold for the machine; ``pending`` the row of those who wait.
    ``ended`` counts places given back, ``rejected`` refusals by cause.
    """

    __slots__ = (
        "budget",
        "drain",
        "ended",
        "granted",
        "hedges",
        "in_flight",
        "limits",
        "name",
        "pending",
        "queue",
        "rejected",
        "sessions",
        "shared",
        "slot",
    )

    def __init__(
        self, name: str, shared: SharedLoad, slot: int, pending: int, limits: Thresholds
    ) -> None:
        self.name = name
        self.shared = shared
        self.slot = slot
        self.pending = pending
        self.limits = limits
        self.in_flight = 0
        self.ended = 0
        self.granted = 0
        self.queue = FairQueue(limits.max_pending)
        self.budget = RetryBudget()
        self.hedges = HedgeBudget()
        self.drain = DrainRate()
        self.sessions = SessionCounts()
        self.rejected: Counter[str] = Counter()

    def follow(self, limits: Thresholds, policy: QueuePolicy) -> None:
        """A reload."""
        self.limits = limits
        self.queue.limit = limits.max_pending
        self.queue.per_key = policy.max_per_tenant
        self.queue.age_after = policy.age_after

    @property
    def active(self) -> int:
        """Attempts in flight in the whole cluster, from all workers of the machine."""
        return self.in_flight + self.shared.others(self.slot)

    @property
    def waiting(self) -> int:
        """Requests that wait at all workers of the machine."""
        return self.queue.waiting + self.shared.others(self.pending)

    def take(self) -> None:
        self.in_flight += 1
        self.shared.publish(self.slot, self.in_flight)

    def give_back(self) -> None:
        self.in_flight -= 1
        self.ended += 1
        self.shared.publish(self.slot, self.in_flight)

    def counted(self) -> None:
        """The number of those who wait here has changed."""
        self.shared.publish(self.pending, self.queue.waiting)

    def rate(self, now: float) -> float | None:
        """Places that become free in a second, for those who wait in this process."""
        return self.drain.observe(self.ended, now, waiting=self.queue.waiting > 0)

    def __repr__(self) -> str:
        return f"<Places in_flight={self.in_flight} {self.queue!r} {self.budget!r}>"

"""When a second attempt is made beside one that is slow to begin, and how many a cluster bears.

"The Tail at Scale" (Dean and Barroso, CACM 2013): a second request sent after the 95th percentile
of the latencies costs about 5 % more load and takes most of the tail away. The race itself is in
``race``.
"""

from dataclasses import dataclass

from router.core.retry.quantiles import Quantiles


@dataclass(frozen=True, kw_only=True)
class Hedge:
    """When an attempt counts as slow, and what may be done about it.

    ``after``: seconds until then; with ``quantile`` (0 to 1) it is that quantile of what the
    cluster's answers took to their first byte, and at least ``after``. 0 without it: never.
    ``most`` attempts are added in this way, ``budget_percent`` of the cluster's active requests
    may be such attempts at one time, but always ``min_concurrency``. ``on_per_try_timeout``: an
    attempt whose per-try time-out expires goes on beside the retry that it causes, as in Envoy.
    """

    after: float = 0.0
    quantile: float | None = None
    most: int = 1
    budget_percent: float = 5.0
    min_concurrency: int = 1
    on_per_try_timeout: bool = False

    def due(self, latencies: Quantiles | None) -> float:
        """Seconds after which an attempt is slow; 0: it never is, or nobody can tell yet."""
        if self.quantile is None or latencies is None:
            return self.after
        measured = latencies.at(self.quantile)
        return self.after if measured is None else max(measured, self.after)


class HedgeBudget:
    """Counts the attempts of one cluster that run beside another of the same request.

    Attributes:
        sent: since the start.
        won: of those, whose answer came first.
        over_budget: not sent, as too many were under way.
        full: not sent, as the cluster had no free place.
        alone: not sent, as the request had been to every endpoint.
        latencies: of first bytes; None until a route asks for a quantile of them.
    """

    __slots__ = ("alone", "full", "in_flight", "latencies", "over_budget", "sent", "won")

    def __init__(self) -> None:
        self.in_flight = 0
        self.sent = 0
        self.won = 0
        self.over_budget = 0
        self.full = 0
        self.alone = 0
        self.latencies: Quantiles | None = None

    def withdraw(self, policy: Hedge, active: int) -> bool:
        """Take one if the budget has room.

        Args:
            active: requests of the cluster in flight.
        """
        most = max(policy.min_concurrency, int(active * policy.budget_percent / 100.0))
        if self.in_flight >= most:
            self.over_budget += 1
            return False
        self.in_flight += 1
        self.sent += 1
        return True

    def deposit(self) -> None:
        """One that was withdrawn runs beside no other any more."""
        self.in_flight -= 1

    def __repr__(self) -> str:
        return f"<HedgeBudget in_flight={self.in_flight} sent={self.sent} won={self.won}>"

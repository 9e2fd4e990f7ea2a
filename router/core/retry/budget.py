"""Retry budget: retries in flight as a share of the requests in flight.

A maximum per request cannot stop a storm, since the number of requests that fail together has no
bound; a share of the traffic can. Arithmetic as Envoy's ``retry_budget``: measured now, no window.
"""


class RetryBudget:
    """Counts the retries of one cluster that are in flight."""

    __slots__ = ("in_flight", "overflow")

    def __init__(self) -> None:
        self.in_flight = 0
        self.overflow = 0

    def withdraw(self, active: int, percent: float, minimum: int) -> bool:
        """Take one retry if the budget has room.

        Args:
            active: requests of the cluster in flight or pending, this one included.
        """
        if self.in_flight >= max(minimum, int(active * percent / 100.0)):
            self.overflow += 1
            return False
        self.in_flight += 1
        return True

    def deposit(self) -> None:
        """A retry that was withdrawn has ended."""
        self.in_flight -= 1

    def __repr__(self) -> str:
        return f"<RetryBudget in_flight={self.in_flight} overflow={self.overflow}>"

"""Retry budget: retries in flight as a share of the requests in flight.

A maximum per request cannot stop a storm, since the number of requests that fail together has no
bound; a share of the traffic can. Arithmetic as Envoy's ``retry_budget``: measured now, no window.
"""


class RetryBudget:
    """Counts the retries of one cluster that are in flight, waiting ones included.

    Attributes:
        overflow: retries that there was no room for.
        exhausted: requests whose last allowed attempt failed, too.
        unreplayable: retries that could not be, as the body had been sent on and forgotten.
        waits: retries that waited a random while first.
        named_waits: retries that waited for as long as the endpoint had asked.
    """

    __slots__ = ("exhausted", "in_flight", "named_waits", "overflow", "unreplayable", "waits")

    def __init__(self) -> None:
        self.in_flight = 0
        self.overflow = 0
        self.exhausted = 0
        self.unreplayable = 0
        self.waits = 0
        self.named_waits = 0

    def withdraw(self, most: int) -> bool:
        """Take one retry if fewer than ``most`` are in flight."""
        if self.in_flight >= most:
            self.overflow += 1
            return False
        self.in_flight += 1
        return True

    def deposit(self) -> None:
        """A retry that was withdrawn has ended."""
        self.in_flight -= 1

    def __repr__(self) -> str:
        return f"<RetryBudget in_flight={self.in_flight} overflow={self.overflow}>"

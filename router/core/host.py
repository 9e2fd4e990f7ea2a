"""What we learned of an endpoint, and the obligation of one attempt.

``HostState`` is mutable and outlives reloads. The only way to send an attempt to an endpoint is a
``Lease``: it counts the attempt in flight, and releasing it, exactly once, records what became of
it (the idea of tower's peak_ewma handle: what you cannot forget cannot leak).
"""

import enum
from typing import Protocol

import msgspec

from router.core.model import AdminState, Endpoint, EndpointId


class Outcome(enum.IntEnum):
    """What became of an attempt, from the endpoint's point of view."""

    SUCCESS = 0
    STATUS_ERROR = 1  # answered with a 5xx
    CONNECT_FAILURE = 2
    RESET = 3  # closed or reset before the head
    TIMEOUT = 4
    TRUNCATED = 5  # cut in the middle of the body
    ABANDONED = 6  # the client left or an operator cancelled: says nothing of the endpoint


class LoadReport(msgspec.Struct, frozen=True):
    """An engine's own word on its load. ``at`` is when it was read, monotonic seconds."""

    at: float
    running: int
    waiting: int
    kv_usage: float | None = None


class SharedLoad(Protocol):
    """The in-flight counts of the other worker processes of this machine."""

    def others(self, slot: int) -> int:
        """Attempts in flight at the endpoint in ``slot``, over all other workers."""
        ...

    def publish(self, slot: int, in_flight: int) -> None:
        """Tell the other workers how many attempts this one has in flight."""
        ...


class SoleWorker:
    """The shared load of a process that is alone."""

    def others(self, slot: int) -> int:
        return 0

    def publish(self, slot: int, in_flight: int) -> None:
        return None


class LeaseError(RuntimeError):
    """A lease was released twice: an attempt was accounted for twice."""


class HostState:
    """Everything mutable about one endpoint.

    ``in_flight`` counts this process; :attr:`active` the whole machine. ``slot`` is the
    endpoint's row on the shared board and stays with it for as long as it is in the fleet.
    """

    __slots__ = (
        "admin",
        "endpoint",
        "healthy",
        "in_flight",
        "load",
        "outcomes",
        "shared",
        "slot",
        "weight",
    )

    def __init__(self, endpoint: Endpoint, slot: int, shared: SharedLoad) -> None:
        self.endpoint = endpoint
        self.slot = slot
        self.shared = shared
        self.in_flight = 0
        self.admin = AdminState.READY
        self.healthy = True
        self.weight = endpoint.weight
        self.load: LoadReport | None = None
        self.outcomes = [0] * len(Outcome)

    @property
    def id(self) -> EndpointId:
        return self.endpoint.id

    @property
    def active(self) -> int:
        """Attempts in flight at this endpoint from all workers of the machine."""
        return self.in_flight + self.shared.others(self.slot)

    @property
    def total(self) -> int:
        """Attempts that ended, whatever their outcome."""
        return sum(self.outcomes)

    def __repr__(self) -> str:
        health = "healthy" if self.healthy else "unhealthy"
        return (
            f"<Host {self.endpoint.id} {self.admin.name.lower()} {health} "
            f"in_flight={self.in_flight} weight={self.weight}>"
        )


class Lease:
    """One attempt's claim on an endpoint."""

    __slots__ = ("host", "released", "since")

    def __init__(self, host: HostState, now: float) -> None:
        self.host = host
        self.since = now
        self.released = False
        host.in_flight += 1
        host.shared.publish(host.slot, host.in_flight)

    def release(self, outcome: Outcome) -> None:
        """Give the claim back and record the outcome.

        Raises:
            LeaseError: on a second call.
        """
        if self.released:
            raise LeaseError(f"lease on {self.host.endpoint.id} released twice")
        self.released = True
        host = self.host
        host.in_flight -= 1
        host.outcomes[outcome] += 1
        host.shared.publish(host.slot, host.in_flight)

    def __repr__(self) -> str:
        state = "released" if self.released else "held"
        return f"<Lease {self.host.endpoint.id} {state} since={self.since:g}>"

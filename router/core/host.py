"""What we learned of an endpoint, and the obligation of one attempt.

``HostState`` is mutable and outlives reloads. The only way to send an attempt to an endpoint is a
``Lease``: it counts the attempt in flight, and releasing it, exactly once, records what became of
it (the idea of tower's peak_ewma handle: what you cannot forget cannot leak).
"""

import enum
from math import exp
from typing import Final, Protocol

from router.core import errors
from router.core.health.monitor import FailureMonitor
from router.core.health.strain import Strain
from router.core.load import LoadReport
from router.core.model import AdminState, Endpoint, EndpointId
from router.core.shared_load import SharedLoad


class Outcome(enum.IntEnum):
    """What became of an attempt, from the endpoint's point of view."""

    SUCCESS = 0
    STATUS_ERROR = 1  # answered with a 5xx
    CONNECT_FAILURE = 2
    RESET = 3  # closed or reset before the head
    TIMEOUT = 4
    TRUNCATED = 5  # cut in the middle of the body
    ABANDONED = 6  # ended by the client, an operator or a total time-out: not the endpoint's doing
    PUSHED_BACK = 7  # 429, or 503 with Retry-After: full, not broken


_SUCCESS: Final = Outcome.SUCCESS
_STATUS_ERROR: Final = Outcome.STATUS_ERROR
_TRUNCATED: Final = Outcome.TRUNCATED
_PUSHED_BACK: Final = Outcome.PUSHED_BACK
_ABANDONED: Final = Outcome.ABANDONED
_TIMEOUT: Final = Outcome.TIMEOUT


# The endpoint's fault. Nothing else lengthens its latency: who left, left for reasons of his own.
_FAILURES: Final = frozenset(
    {
        Outcome.STATUS_ERROR,
        Outcome.CONNECT_FAILURE,
        Outcome.RESET,
        Outcome.TIMEOUT,
        Outcome.TRUNCATED,
    }
)


class Latency:
    """Time to the first byte of an endpoint, as a peak-sensitive moving average.

    A sample above the average replaces it at once; one below pulls it down by how long the last
    one is ago (Finagle's Peak EWMA). Without samples a high average drifts down to ``initial``,
    so that an endpoint which was slow is tried again; a low one stays.

    Args:
        tau: seconds after which a sample still counts for 37 % (1/e).
        initial: seconds, what is assumed of an endpoint that nothing is known of.
        penalty: seconds that a failed attempt counts for, however fast it failed.
    """

    __slots__ = ("_at", "_initial", "_penalty", "_tau", "_value")

    def __init__(self, tau: float, initial: float, penalty: float) -> None:
        self._tau = tau
        self._initial = initial
        self._penalty = penalty
        self._value = initial
        self._at = 0.0

    def tune(self, tau: float, initial: float, penalty: float) -> None:
        """New parameters; what was learned stays."""
        self._tau = tau
        self._initial = initial
        self._penalty = penalty

    def estimate(self, now: float) -> float:
        """Seconds to the first byte that the next request should expect."""
        if now <= self._at or self._value <= self._initial:
            return self._value
        return self._initial + (self._value - self._initial) * exp((self._at - now) / self._tau)

    def observe(self, seconds: float, now: float) -> None:
        """One more sample."""
        if seconds < self._value:
            keep = exp((self._at - now) / self._tau) if now > self._at else 1.0
            seconds += (self._value - seconds) * keep
        self._value = seconds
        self._at = max(now, self._at)

    def failed(self, seconds: float, now: float) -> None:
        """An attempt failed after ``seconds``."""
        self.observe(max(seconds, self._penalty), now)

    def __repr__(self) -> str:
        return f"<Latency {self._value:.3f}s at={self._at:g}>"


class Work(Protocol):
    """What a balancer keeps of an attempt, from the pick to the engine's last word on it."""

    def first_token(self, now: float, streamed: bool) -> None:
        """The endpoint has begun to give what was asked for. ``streamed``: piece by piece."""
        ...

    def ended(self, outcome: Outcome, now: float) -> None:
        """The attempt is over; told once."""
        ...

    def usage(self, prompt: int, cached: int | None) -> None:
        """Tokens of the prompt, and how many of them came from its cache, as the engine counted.

        Told after the end, at most once. ``cached`` None: it does not say.
        """
        ...

    def prefix_tip(self, block: int, count: int) -> None:
        """What the engine calls the last full block of the prompt, and how many there are."""
        ...


class HostState:
    """Everything mutable about one endpoint.

    ``in_flight`` counts this process; :attr:`active` the whole machine. ``slot`` is the
    endpoint's row on the shared board and stays with it for as long as it is in the fleet.
    ``latency`` is None until a balancer that looks at it asks for it by setting it. ``monitor`` is
    None where outlier detection is off. ``first_bytes`` counts streams that began,
    ``first_byte_seconds`` adds up how long that took them.

    ``scars`` are failed attempts that still count as in flight, ``healed`` those that ceased to
    before their time; ``pushed_until`` is when the endpoint wants new requests again, 0 while it
    takes them. The fleet's ``strain`` ends them.
    """

    __slots__ = (
        "admin",
        "ejected",
        "endpoint",
        "failures_in_a_row",
        "first_byte_seconds",
        "first_bytes",
        "healed",
        "healthy",
        "in_flight",
        "latency",
        "load",
        "monitor",
        "outcomes",
        "pushed_until",
        "scars",
        "shared",
        "slot",
        "strain",
        "weight",
    )

    def __init__(self, endpoint: Endpoint, slot: int, shared: SharedLoad) -> None:
        self.endpoint = endpoint
        self.slot = slot
        self.shared = shared
        self.in_flight = 0
        self.admin = AdminState.READY
        self.healthy = True
        self.ejected = False
        self.weight = endpoint.weight
        self.load: LoadReport | None = None
        self.latency: Latency | None = None
        self.monitor: FailureMonitor | None = None
        self.outcomes = [0] * len(Outcome)
        self.first_bytes = 0
        self.first_byte_seconds = 0.0
        self.strain: Strain | None = None
        self.scars = 0
        self.healed = 0
        self.failures_in_a_row = 0
        self.pushed_until = 0.0

    @property
    def id(self) -> EndpointId:
        return self.endpoint.id

    @property
    def active(self) -> int:
        """Attempts in flight at this endpoint from all workers of the machine."""
        return self.in_flight + self.shared.others(self.slot)

    @property
    def burden(self) -> int:
        """What balancers compare: attempts in flight, and failures that still count as such."""
        return self.in_flight + self.scars + self.shared.others(self.slot)

    @property
    def total(self) -> int:
        """Attempts that ended, whatever their outcome."""
        return sum(self.outcomes)

    def __repr__(self) -> str:
        health = "ejected" if self.ejected else "healthy" if self.healthy else "unhealthy"
        return (
            f"<Host {self.endpoint.id} {self.admin.name.lower()} {health} "
            f"in_flight={self.in_flight} weight={self.weight}>"
        )


class Lease:
    """One attempt's claim on an endpoint.

    ``verdict`` is what the response head says the attempt came to, None before there is one.
    ``work`` is what the balancer keeps of it, None where it keeps nothing.
    """

    __slots__ = ("heard", "host", "released", "since", "verdict", "work")

    def __init__(self, host: HostState, now: float, work: Work | None = None) -> None:
        self.host = host
        self.work = work
        self.since = now
        self.heard = False
        self.released = False
        self.verdict: Outcome | None = None
        host.in_flight += 1
        host.shared.publish(host.slot, host.in_flight)

    def answered(self, status: int, retry_after: float | None) -> None:
        """The response head has come.

        Args:
            retry_after: seconds after which it says to come again; None where it does not say.
        """
        if status == 429 or (status == 503 and retry_after is not None):
            self.verdict = _PUSHED_BACK
            return
        self.verdict = _STATUS_ERROR if status >= 500 else _SUCCESS
        if (monitor := self.host.monitor) is not None:
            monitor.answered(status)

    def first_byte(self, now: float, streamed: bool = False) -> None:
        """The endpoint has begun to give what was asked for; later calls are ignored.

        Args:
            streamed: more is to follow piece by piece, so that this tells of the endpoint's
                speed whatever the length of the answer.
        """
        if self.heard:
            return
        self.heard = True
        host = self.host
        if self.work is not None:
            self.work.first_token(now, streamed)
        if host.latency is not None:
            host.latency.observe(now - self.since, now)
        if streamed:
            host.first_bytes += 1
            host.first_byte_seconds += now - self.since

    def refused(self, now: float) -> None:
        """The endpoint says that it has too much to do already."""
        if self.host.latency is not None:
            self.host.latency.failed(now - self.since, now)

    def release(self, outcome: Outcome, now: float | None = None) -> None:
        """Give the claim back and record the outcome.

        Args:
            now: when it ended; without it the endpoint's latency learns nothing of the end.

        Raises:
            LeaseError: on a second call.
        """
        if self.released:
            raise errors.LeaseError(f"lease on {self.host.endpoint.id} released twice")
        self.released = True
        host = self.host
        host.in_flight -= 1
        host.outcomes[outcome] += 1
        if self.work is not None:
            self.work.ended(outcome, self.since if now is None else now)
        if host.latency is not None and now is not None and outcome in _FAILURES:
            host.latency.failed(0.0 if self.heard else now - self.since, now)
        host.shared.publish(host.slot, host.in_flight)
        if outcome is _SUCCESS:
            if (host.scars or host.failures_in_a_row) and host.strain is not None:
                host.strain.succeeded(host)
        elif host.strain is not None and now is not None and outcome in _FAILURES:
            host.strain.failed(host, now)
        if host.monitor is not None:
            if outcome is _SUCCESS:
                host.monitor.completed()
            elif self.verdict is None or outcome is _TRUNCATED or outcome is _TIMEOUT:
                self._blame(host.monitor, outcome)

    def _blame(self, monitor: FailureMonitor, outcome: Outcome) -> None:
        if outcome is _ABANDONED:
            return
        if self.verdict is None:
            monitor.unanswered()
        else:
            monitor.truncated()

    def __repr__(self) -> str:
        state = "released" if self.released else "held"
        return f"<Lease {self.host.endpoint.id} {state} since={self.since:g}>"

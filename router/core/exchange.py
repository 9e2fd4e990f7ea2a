"""The life of one request, as a table of transitions.

    NEW -> QUEUED -> CONNECTING -> WAITING_FIRST_BYTE -> STREAMING -> DONE
                         ^                 |
                         +---- retry ------+          REJECTED, ABORTED from any of them

``feed(event, now)`` looks up (state, event) in ``TRANSITIONS``; a pair that is not there is a bug
in the driver and raises. Every way out of an attempt passes through ``_end_attempt``, which
releases the lease; every way out of the exchange passes through ``_end``.
"""

import enum
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from router.core import errors
from router.core.admission.rate_limit import Standing, draw_all, refusal
from router.core.events import (
    FINISHED,
    STAND_BY,
    AnyEvent,
    Cancel,
    Connect,
    Effect,
    EventKind,
    Finish,
    Head,
    Reject,
    Relay,
    Reset,
    Stage,
    TimedOut,
    Wait,
)
from router.core.host import Lease, Outcome
from router.core.model import EndpointId, LlmRequest

if TYPE_CHECKING:
    from router.core.director import ClusterTraffic, Director
    from router.core.routing import Route
    from router.core.trace import DecisionTrace


class State(enum.IntEnum):
    NEW = 0
    QUEUED = 1
    CONNECTING = 2
    WAITING_FIRST_BYTE = 3
    STREAMING = 4
    DONE = 5
    REJECTED = 6
    ABORTED = 7


TERMINAL = frozenset({State.DONE, State.REJECTED, State.ABORTED})

# Module names: looking a member up in its enum costs five times as much (80 ns), ten times a
# request.
_NEW, _QUEUED, _CONNECTING, _WAITING_FIRST_BYTE, _STREAMING, _DONE, _REJECTED, _ABORTED = State


class IllegalEvent(RuntimeError):
    """The driver fed an event that cannot happen in this state."""


class Exchange:
    """One request from admission to its end.

    Attributes:
        serial: number of the exchange in this process; ``request.id`` is the client's to choose.
        attempt: attempts made so far.
        status: what the client was or will be answered, 0 while unknown.
        flag: Envoy response flag, ``-`` while nothing went wrong.
        reason: the balancer's words for the last pick.
        replayable: whether the driver can still send the whole request again.
        queued_for: seconds spent in the pending queue.
        standing: with the tightest rate limit; None where none applied.
        head_at: when the head went to the client; None before.
    """

    __slots__ = (
        "attempt",
        "director",
        "ended_at",
        "flag",
        "head_at",
        "lease",
        "queued_for",
        "reason",
        "replayable",
        "request",
        "retrying",
        "route",
        "serial",
        "standing",
        "started_at",
        "state",
        "status",
        "trace",
        "traffic",
        "tried",
    )

    def __init__(
        self,
        request: LlmRequest,
        route: "Route | None",
        traffic: "ClusterTraffic | None",
        director: "Director",
        trace: "DecisionTrace",
        now: float,
        serial: int = 0,
    ) -> None:
        self.serial = serial
        self.request = request
        self.route = route
        self.traffic = traffic
        self.director = director
        self.trace = trace
        self.state = _NEW
        self.attempt = 0
        self.tried: tuple[EndpointId, ...] = ()
        self.lease: Lease | None = None
        self.retrying = False
        self.replayable = True
        self.status = 0
        self.flag = "-"
        self.reason = "-"
        self.started_at = now
        self.queued_for = 0.0
        self.standing: Standing | None = None
        self.head_at: float | None = None
        self.ended_at: float | None = None

    @property
    def queued(self) -> bool:
        return self.state is _QUEUED

    @property
    def over(self) -> bool:
        return self.state >= _DONE

    def feed(self, event: AnyEvent, now: float) -> Effect:
        """Take one event and say what to do.

        Raises:
            IllegalEvent: if the event cannot happen in the present state.
        """
        transition = TRANSITIONS.get((self.state, event.kind))
        if transition is None:
            raise IllegalEvent(f"{event.kind.name} in {self.state.name}")
        return transition(self, event, now)

    def first_byte(self, now: float) -> None:
        """A report, not an event: the first byte of the response's body has come.

        Not the head: engines send it before they have computed anything. Errors say nothing of
        how fast an endpoint is, so only good answers are samples of its latency.
        """
        if self.status < 400 and self.lease is not None:
            self.lease.first_byte(now, self.request.stream)

    # --- getting a place ------------------------------------------------------------------

    def _start(self, event: AnyEvent, now: float) -> Effect:
        if self.traffic is None:
            return self._reject(self.director.unroutable(self.request), now)
        assert self.route is not None
        if self.route.limits:
            standing = draw_all(self.route.limits, self.request, self.director.buckets, now)
            if standing is not None and not standing.verdict.allowed:
                return self._reject(refusal(standing), now)
            self.standing = standing
        return self.director.admit(self, now)

    def overflow(self, limit: str, value: int, now: float) -> Effect:
        """The director found the cluster full."""
        assert self.traffic is not None
        cluster = self.traffic.cluster.name
        error = errors.Overflow(
            f"cluster {cluster!r} is overloaded: {limit} of {value} reached", retry_after=1
        )
        return self._reject(error, now)

    def enqueue(self) -> Effect:
        """The director found no free place."""
        assert self.route is not None
        self.state = _QUEUED
        return Wait(self.route.timeouts.queue)

    def _granted(self, event: AnyEvent, now: float) -> Effect:
        self.queued_for = now - self.started_at
        return self.connect(now)

    def connect(self, now: float) -> Effect:
        """Pick an endpoint and start an attempt, or give up if there is none."""
        assert self.route is not None and self.traffic is not None
        was_queued = self.queued
        picked = self.director.pick(self, now)
        if picked is None:
            cluster = self.traffic.cluster.name
            error = errors.NoHealthyUpstream(
                f"no endpoint of cluster {cluster!r} is available", retry_after=1
            )
            return self._reject(error, now)
        host, self.reason = picked
        self.attempt += 1
        self.lease = Lease(host, now)
        self.traffic.places.take()
        self.tried += (host.endpoint.id,)
        self.state = _CONNECTING
        if was_queued:
            self.traffic.places.queue.leave()
        self.trace.picked(host, self.reason, self.attempt)
        route = self.route
        return Connect(
            host.endpoint,
            self.attempt,
            route.timeouts.connect,
            route.retry.per_try_timeout or route.timeouts.first_byte,
        )

    # --- an attempt -----------------------------------------------------------------------

    def _connected(self, event: AnyEvent, now: float) -> Effect:
        assert self.lease is not None
        self.state = _WAITING_FIRST_BYTE
        monitor = self.lease.host.monitor
        if monitor is not None and monitor.split:
            monitor.connected()
        return STAND_BY

    def _connect_failed(self, event: AnyEvent, now: float) -> Effect:
        assert self.route is not None and self.lease is not None
        address = self.lease.host.endpoint.address
        error = errors.ConnectFailure(f"cannot connect to {address}", retry_after=1)
        retriable = self.route.retry.retries_connect_failure()
        return self._retry_or_reject(Outcome.CONNECT_FAILURE, error, retriable, now)

    def _reset_before_head(self, event: AnyEvent, now: float) -> Effect:
        assert isinstance(event, Reset) and self.route is not None and self.lease is not None
        address = self.lease.host.endpoint.address
        retriable = self.route.retry.retries_reset()
        error: errors.RouterError
        if event.protocol:
            error = errors.UpstreamProtocolError(f"{address} sent a malformed response")
        else:
            error = errors.UpstreamReset(f"{address} closed the connection without a response")
        return self._retry_or_reject(Outcome.RESET, error, retriable, now)

    def _head(self, event: AnyEvent, now: float) -> Effect:
        assert isinstance(event, Head) and self.route is not None and self.lease is not None
        policy, lease = self.route.retry, self.lease
        lease.answered(event.status, event.retry_after)
        assert lease.verdict is not None
        if lease.verdict is Outcome.PUSHED_BACK:
            lease.refused(now)
        if event.status >= 400 and policy.retries_status(event.status):
            if self._may_retry():
                return self._again(lease.verdict, now)
            if self.attempt > policy.attempts > 0:
                self.flag = "URX"
        self.status = event.status
        self.head_at = now
        self.state = _STREAMING
        return Relay(self.route.timeouts.idle)

    def _complete(self, event: AnyEvent, now: float) -> Effect:
        assert self.lease is not None and self.lease.verdict is not None
        if self.head_at is not None and self.lease.host.latency:
            self.first_byte(self.head_at)  # no body, or a driver that does not look at bodies
        self._end_attempt(self.lease.verdict, now)
        self._end(_DONE, now)
        return FINISHED

    def _truncated(self, event: AnyEvent, now: float) -> Effect:
        assert isinstance(event, Reset) and self.lease is not None
        address = self.lease.host.endpoint.address
        error: errors.RouterError
        if event.protocol:
            error = errors.UpstreamProtocolError(f"{address} broke the response's framing")
        else:
            error = errors.UpstreamReset(f"{address} closed the connection mid-response")
        return self._break_off(Outcome.TRUNCATED, error, now)

    # --- time and people --------------------------------------------------------------------

    def _timed_out_queued(self, event: AnyEvent, now: float) -> Effect:
        assert isinstance(event, TimedOut) and self.route is not None
        self.queued_for = now - self.started_at
        return self._reject(
            errors.QueueTimeout("waited too long for a free place in the cluster", retry_after=1),
            now,
        )

    def _timed_out_before_head(self, event: AnyEvent, now: float) -> Effect:
        assert isinstance(event, TimedOut) and self.route is not None and self.lease is not None
        address = self.lease.host.endpoint.address
        if event.stage is Stage.CONNECT:
            return self._connect_failed(event, now)
        if event.stage is Stage.TOTAL:
            error = errors.UpstreamTimeout("the request exceeded the route's total timeout")
            self._end_attempt(Outcome.TIMEOUT, now)
            return self._reject(error, now)
        error = errors.UpstreamTimeout(f"{address} sent no response head in time")
        retriable = self.route.retry.retries_reset()
        return self._retry_or_reject(Outcome.TIMEOUT, error, retriable, now)

    def _timed_out_streaming(self, event: AnyEvent, now: float) -> Effect:
        assert isinstance(event, TimedOut)
        error: errors.RouterError
        if event.stage is Stage.IDLE:
            error = errors.StreamIdle("the stream was idle for too long")
            return self._break_off(Outcome.TIMEOUT, error, now)
        # It was at work: how long an answer may take is the route's affair.
        error = errors.UpstreamTimeout("the request exceeded the route's total timeout")
        return self._break_off(Outcome.ABANDONED, error, now)

    def _client_gone(self, event: AnyEvent, now: float) -> Effect:
        self.flag = "DC"
        if self.lease is not None:
            self._end_attempt(Outcome.ABANDONED, now)
        self._end(_ABORTED, now)
        return FINISHED

    def _cancel(self, event: AnyEvent, now: float) -> Effect:
        assert isinstance(event, Cancel)
        error = errors.Cancelled(event.reason)
        if self.state is _STREAMING:
            return self._break_off(Outcome.ABANDONED, error, now)
        if self.lease is not None:
            self._end_attempt(Outcome.ABANDONED, now)
        return self._reject(error, now)

    # --- ends -------------------------------------------------------------------------------

    def _may_retry(self) -> bool:
        assert self.route is not None
        return (
            self.attempt <= self.route.retry.attempts
            and self.replayable
            and self.director.again(self)
        )

    def _retry_or_reject(
        self, outcome: Outcome, error: errors.RouterError, retriable: bool, now: float
    ) -> Effect:
        assert self.route is not None
        if retriable and self._may_retry():
            return self._again(outcome, now)
        self._end_attempt(outcome, now)
        effect = self._reject(error, now)
        if retriable and self.attempt > self.route.retry.attempts > 0:
            self.flag += ",URX"
        return effect

    def _again(self, outcome: Outcome, now: float) -> Effect:
        """Another attempt; ``director.again`` has taken it from the budget."""
        self._end_attempt(outcome, now)
        return self.connect(now)

    def _reject(self, error: errors.RouterError, now: float) -> Effect:
        self.flag = error.flag
        self.status = error.status
        self._end(_REJECTED, now)
        return Reject(error)

    def _break_off(self, outcome: Outcome, error: errors.RouterError, now: float) -> Effect:
        self.flag = error.flag
        self._end_attempt(outcome, now)
        self._end(_DONE, now)
        return Finish(error)

    def _end_attempt(self, outcome: Outcome, now: float) -> None:
        assert self.lease is not None and self.traffic is not None
        self.lease.release(outcome, now)
        self.lease = None
        self.traffic.places.give_back()

    def _end(self, state: State, now: float) -> None:
        was_queued = self.queued
        self.state = state
        self.ended_at = now
        self.director.ended(self, was_queued)

    def __repr__(self) -> str:
        return (
            f"<Exchange {self.request.id} {self.state.name} attempt={self.attempt} "
            f"status={self.status} flag={self.flag}>"
        )


Transition = Callable[[Exchange, AnyEvent, float], Effect]
_S, _E = State, EventKind

TRANSITIONS: Mapping[tuple[State, EventKind], Transition] = {
    (_S.NEW, _E.START): Exchange._start,
    (_S.QUEUED, _E.GRANTED): Exchange._granted,
    (_S.QUEUED, _E.TIMED_OUT): Exchange._timed_out_queued,
    (_S.QUEUED, _E.CLIENT_GONE): Exchange._client_gone,
    (_S.QUEUED, _E.CANCEL): Exchange._cancel,
    (_S.CONNECTING, _E.CONNECTED): Exchange._connected,
    (_S.CONNECTING, _E.CONNECT_FAILED): Exchange._connect_failed,
    (_S.CONNECTING, _E.TIMED_OUT): Exchange._timed_out_before_head,
    (_S.CONNECTING, _E.CLIENT_GONE): Exchange._client_gone,
    (_S.CONNECTING, _E.CANCEL): Exchange._cancel,
    (_S.WAITING_FIRST_BYTE, _E.HEAD): Exchange._head,
    (_S.WAITING_FIRST_BYTE, _E.RESET): Exchange._reset_before_head,
    (_S.WAITING_FIRST_BYTE, _E.TIMED_OUT): Exchange._timed_out_before_head,
    (_S.WAITING_FIRST_BYTE, _E.CLIENT_GONE): Exchange._client_gone,
    (_S.WAITING_FIRST_BYTE, _E.CANCEL): Exchange._cancel,
    (_S.STREAMING, _E.COMPLETE): Exchange._complete,
    (_S.STREAMING, _E.RESET): Exchange._truncated,
    (_S.STREAMING, _E.TIMED_OUT): Exchange._timed_out_streaming,
    (_S.STREAMING, _E.CLIENT_GONE): Exchange._client_gone,
    (_S.STREAMING, _E.CANCEL): Exchange._cancel,
}

"""The life of one request.

    NEW -> LIMITING -> DELAYED -> QUEUED -> CONNECTING -> WAITING_FIRST_BYTE -> STREAMING -> DONE
                                     ^          ^                 |
                                     |          +---- retry ------+     REJECTED, ABORTED from any
                                     +--- BACKING_OFF <-----------+

``feed(event, now)`` looks up (state, event) in the table of ``transitions``; a pair that is not
there is a bug in the driver and raises. Every way out of an attempt passes through ``end_attempt``,
which releases the lease; every way out of the exchange passes through ``end``, which settles the
reservation.
"""

from typing import TYPE_CHECKING, Final

from router.core import errors, fallback
from router.core.admission.controller import refuse
from router.core.admission.rate_limit import Standing
from router.core.admission.reservation import Reservation
from router.core.events import (
    Connect,
    Effect,
    Event,
    Finish,
    Reject,
    Stage,
    Wait,
)
from router.core.host import HostState, Lease, Outcome, Work
from router.core.model import EndpointId, LlmRequest
from router.core.retry import decision, race
from router.core.retry.race import Race
from router.core.states import IllegalEvent, State
from router.core.transitions import ROWS

if TYPE_CHECKING:
    from router.core.actions import Actions
    from router.core.admission.band import Ticket
    from router.core.admission.places import Places
    from router.core.director import Director
    from router.core.fallback import Detour
    from router.core.fault import Injection
    from router.core.routing import Route
    from router.core.trace import DecisionTrace
    from router.core.traffic import ClusterTraffic


# Module names: looking a member up in its enum costs five times as much (80 ns), ten times a
# request.
_NEW: Final = State.NEW
_QUEUED: Final = State.QUEUED
_CONNECTING: Final = State.CONNECTING
_BACKING_OFF: Final = State.BACKING_OFF
_DONE: Final = State.DONE
_REJECTED: Final = State.REJECTED


class Exchange:
    """One request from admission to its end.

    Attributes:
        serial: number of the exchange in this process; ``request.id`` is the client's to choose.
        attempt: attempts made so far.
        cookie: what a good answer sets, so that the session stays at its endpoint; None: nothing.
        status: what the client was or will be answered, 0 while unknown.
        flag: Envoy response flag, ``-`` while nothing went wrong.
        reason: the balancer's words for the last pick.
        replayable: whether the driver can still send the whole request again.
        refusal: response flag for why there is no further attempt, empty without one.
        pause: seconds to wait before the attempt that ``may_retry`` allowed.
        places: of its cluster and priority; None until it asked to be admitted.
        ticket: its place in their queue while it waits there.
        queued_for: seconds spent in the pending queue; the last time since ``queued_since``.
        detour: along the route's fallbacks; None while it is where the route sent it.
        injection: the route's faults in this exchange; None where there are none.
        race: where other attempts may run beside this one's; None where none may.
        standing: with its rate limits; None where none applied.
        reservation: what it holds of its rate limits; None where none applied.
        actions: what is done to the request and its response on this route; None for nothing.
        head_at: when the head went to the client; None before.
        work: what the balancer keeps of the attempt whose answer the client got, or gets.
    """

    __slots__ = (
        "actions",
        "attempt",
        "cookie",
        "detour",
        "director",
        "ended_at",
        "flag",
        "head_at",
        "injection",
        "lease",
        "pause",
        "places",
        "queued_for",
        "queued_since",
        "race",
        "reason",
        "refusal",
        "replayable",
        "request",
        "reservation",
        "retrying",
        "route",
        "serial",
        "standing",
        "started_at",
        "state",
        "status",
        "ticket",
        "trace",
        "traffic",
        "tried",
        "work",
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
        self.actions: Actions | None = None
        self.traffic = traffic
        self.director = director
        self.trace = trace
        self.state = _NEW
        self.attempt = 0
        self.cookie: bytes | None = None
        self.tried: tuple[EndpointId, ...] = ()
        self.lease: Lease | None = None
        self.places: Places | None = None
        self.ticket: Ticket | None = None
        self.race: Race | None = None
        self.retrying = False
        self.replayable = True
        self.refusal = ""
        self.pause = 0.0
        self.status = 0
        self.flag = "-"
        self.reason = "-"
        self.started_at = now
        self.queued_for = 0.0
        self.queued_since = now
        self.injection: Injection | None = None
        self.detour: Detour | None = None
        self.standing: Standing | None = None
        self.reservation: Reservation | None = None
        self.head_at: float | None = None
        self.ended_at: float | None = None
        self.work: Work | None = None

    @property
    def queued(self) -> bool:
        return self.state is _QUEUED

    @property
    def over(self) -> bool:
        return self.state >= _DONE

    def feed(self, event: Event, now: float) -> Effect:
        """Take one event and say what to do.

        Raises:
            IllegalEvent: if the event cannot happen in the present state.
        """
        transition = ROWS[self.state][event.kind]
        if transition is None:
            raise IllegalEvent(f"{event.kind.name} in {self.state.name}")
        return transition(self, event, now)

    def first_byte(self, now: float) -> None:
        """A report, not an event: the first byte of the response's body has come.

        Not the head: engines send it before they have computed anything. Errors say nothing of
        how fast an endpoint is, so only good answers are samples of its latency.
        """
        if self.status < 400 and self.lease is not None:
            assert self.places is not None
            seen = self.places.hedges.latencies
            if seen is not None and not self.lease.heard:
                seen.observe(now - self.lease.since)
            self.lease.first_byte(now, self.request.stream)

    def usage(self, prompt: int, cached: int | None) -> None:
        """A report, not an event: how many tokens the engine counted. Once it is over.

        Args:
            prompt: tokens of the prompt.
            cached: how many of them it had in its cache; None: it does not say.
        """
        if self.work is not None and self.status < 400:
            work, self.work = self.work, None
            work.usage(prompt, cached)

    def prefix_tip(self, block: int, count: int) -> None:
        """What the engine that answers calls the prompt's last full block, and how many it has."""
        if self.lease is not None and self.lease.work is not None:
            self.lease.work.prefix_tip(block, count)

    # --- getting a place ------------------------------------------------------------------

    def enqueue(self) -> Effect:
        """The director found no free place."""
        assert self.route is not None
        self.state = _QUEUED
        return Wait(self.route.timeouts.queue)

    def connect(self, now: float) -> Effect:
        """Pick an endpoint and start an attempt, or give up if there is none."""
        assert self.route is not None and self.traffic is not None and self.places is not None
        if self.route.fallbacks and fallback.hopeless(self):
            picked = None
        else:
            picked = self.director.pick(self, now)
        if picked is None:
            if self.traffic.limit and not self.traffic.has_room():
                return refuse(self, "endpoints", "every endpoint is full", now)
            cluster = self.traffic.cluster.name
            error = errors.NoHealthyUpstream(
                f"no endpoint of cluster {cluster!r} is available", retry_after=1
            )
            return self.reject(error, now)
        host, self.reason = picked
        self.attempt += 1
        self.lease = self.new_lease(host, now)
        self.places.take()
        self.tried += (host.endpoint.id,)
        self.state = _CONNECTING
        if self.ticket is not None:
            self.leave_queue(granted=True)
        self.trace.picked(host, self.reason, self.attempt)
        route = self.route
        if route.hedge is not None:
            return race.start(self, host)
        return Connect(
            host.endpoint,
            self.attempt,
            route.timeouts.connect,
            route.head_limit,
        )

    def new_lease(self, host: HostState, now: float) -> Lease:
        """A claim on an endpoint for one more attempt."""
        assert self.traffic is not None
        accounts = self.traffic.accounts
        if accounts is None:
            return Lease(host, now)
        return Lease(host, now, accounts.begin(self.request, host, now))

    # --- ends -------------------------------------------------------------------------------

    def may_retry(self, now: float, lines: bytes = b"") -> bool:
        """Whether a failed attempt is followed by another, which is then taken from the budget.

        Args:
            lines: of the response head that is retried, if there is one.
        """
        self.refusal = ""
        return decision.allowed(self, lines, now)

    def retry_or_reject(
        self, outcome: Outcome, error: errors.RouterError, retriable: bool, now: float
    ) -> Effect:
        if retriable and self.may_retry(now):
            return self.again(outcome, now)
        self.end_attempt(outcome, now)
        effect = self.reject(error, now)
        if retriable and self.refusal and self.over:
            self.flag += "," + self.refusal
        return effect

    def again(self, outcome: Outcome, now: float) -> Effect:
        """Another attempt, now or after a pause; ``may_retry`` has allowed it."""
        self.end_attempt(outcome, now)
        if self.pause:
            self.state = _BACKING_OFF
            return Wait(self.pause, Stage.BACK_OFF)
        return self.connect(now)

    def reject(self, error: errors.RouterError, now: float) -> Effect:
        """End it with an error, unless the route has somewhere else for it to go."""
        if self.route is not None and self.route.fallbacks:
            effect = fallback.instead(self, error, now)
            if effect is not None:
                return effect
        self.flag = error.flag
        self.status = error.status
        if self.actions is not None and self.actions.cors is not None:
            # A script that may not read the error would be told of a broken network instead.
            error.headers += tuple(self.actions.cors.lines(self.request))
        self.end(_REJECTED, now)
        return Reject(error)

    def break_off(self, outcome: Outcome, error: errors.RouterError, now: float) -> Effect:
        self.flag = error.flag
        self.end_attempt(outcome, now)
        self.end(_DONE, now)
        return Finish(error)

    def end_attempt(self, outcome: Outcome, now: float) -> None:
        assert self.lease is not None and self.places is not None
        self.lease.release(outcome, now)
        self.work = self.lease.work
        self.lease = None
        self.places.give_back()

    def end(self, state: State, now: float) -> None:
        if self.injection is not None:
            self.flag = self.injection.ended(self.flag)
        if self.race is not None and self.race.rivals:
            race.release_rivals(self, now)
        self.state = state
        self.ended_at = now
        if self.reservation is not None:
            self.director.limiter.settle(self, now)
        self.director.ended(self)

    def leave_queue(self, *, granted: bool = False) -> None:
        """Give the ticket up, or use it."""
        ticket, places = self.ticket, self.places
        assert ticket is not None and places is not None
        self.ticket = None
        if granted:
            places.granted += 1
            places.queue.granted(ticket)
        else:
            places.queue.leave(ticket)
        places.counted()

    def __repr__(self) -> str:
        return (
            f"<Exchange {self.request.id} {self.state.name} attempt={self.attempt} "
            f"status={self.status} flag={self.flag}>"
        )

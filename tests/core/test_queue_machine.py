"""The queue and the breakers, with anything happening at any time.

Two machines. One drives the queue alone against a model that remembers everything; the other
drives whole exchanges of all priorities through a cluster with every limit there is.
"""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from router.core.admission.band import Ticket
from router.core.admission.breaker import CircuitBreaker, EndpointLimits, QueuePolicy, Thresholds
from router.core.admission.fair_queue import AGED_TURN, FairQueue
from router.core.balancers.least_request import LeastRequest
from router.core.events import (
    CANCEL,
    CLIENT_GONE,
    COMPLETE,
    CONNECT_FAILED,
    CONNECTED,
    DISPLACED,
    GRANTED,
    Effect,
    Event,
    EventKind,
    Head,
    Reject,
    Reset,
    Stage,
    TimedOut,
)
from router.core.exchange import Exchange
from router.core.model import AdminState, Priority
from router.core.retry.policy import RetryOn, RetryPolicy
from router.core.states import State
from router.core.transitions import TRANSITIONS
from tests.core.world import World, snapshot

TENANTS = ("a", "b", "c", "d")
LEVELS = [priority.value for priority in Priority]
NOBODY: Any = None
AGE = 3.0


class Queue(RuleBasedStateMachine):
    """Each ticket is granted or leaves, once; bands are strict but for turns by age."""

    def __init__(self) -> None:
        super().__init__()
        self.line = FairQueue(1000, age_after=AGE)
        self.now = 0.0
        self.tickets: list[Ticket] = []
        self.gone: list[Ticket] = []
        # Grants since a ticket had aged, and how many older ones stood in its band then.
        self.aged: dict[Ticket, tuple[int, int]] = {}
        # What each pair of tenants was given while both waited all the time, by band.
        self.together: dict[tuple[int, str, str], list[float]] = {}
        self.largest = 1.0

    @rule(
        key=st.sampled_from(TENANTS),
        level=st.sampled_from(LEVELS),
        cost=st.floats(1, 20),
    )
    def join(self, key: str, level: int, cost: float) -> None:
        self.largest = max(self.largest, cost)
        before = self.line.prospect(key, level)
        ticket = self.line.join(NOBODY, self.now, key=key, level=level, cost=cost)
        self.tickets.append(ticket)
        assert self.line.position(ticket) == before

    @rule(seconds=st.floats(0.1, 2))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for ticket in self.tickets:
            if ticket not in self.aged and self.now - ticket.since > AGE:
                older = [t for t in self.tickets if t.level == ticket.level and t is not ticket]
                older = older[: self.tickets.index(ticket)]
                self.aged[ticket] = (0, len(older))

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.tickets))
        self.line.leave(ticket)
        self._remove(ticket)

    @precondition(lambda self: self.tickets)
    @rule()
    def grant(self) -> None:
        ticket = self.line.first(self.now)
        assert ticket is not None and ticket.waiting
        highest = max(t.level for t in self.tickets)
        if ticket.level != highest:
            assert self.now - ticket.since > AGE, "below the highest band only by age"
        self.line.granted(ticket)
        own = (ticket.level, ticket.key)
        for level, one, other in list(self.together):
            if own == (level, one):
                self.together[level, one, other][0] += ticket.cost
            elif own == (level, other):
                self.together[level, one, other][1] += ticket.cost
        self._remove(ticket)
        for waiting, (grants, older) in list(self.aged.items()):
            assert grants + 1 <= AGED_TURN * len(LEVELS) * (older + 1), "somebody starves"
            self.aged[waiting] = (grants + 1, older)

    def _remove(self, ticket: Ticket) -> None:
        assert not ticket.waiting
        self.tickets.remove(ticket)
        self.gone.append(ticket)
        self.aged.pop(ticket, None)

    @invariant()
    def the_books_balance(self) -> None:
        assert self.line.waiting == len(self.tickets)
        assert all(ticket.waiting for ticket in self.tickets)
        by_level = {level: sum(t.level == level for t in self.tickets) for level in LEVELS}
        assert self.line.by_level() == {k: v for k, v in by_level.items() if v}
        assert (self.line.first(self.now) is None) is (not self.tickets)
        positions = [self.line.position(ticket) for ticket in self.tickets]
        assert all(1 <= position <= len(self.tickets) for position in positions)

    @invariant()
    def tenants_that_wait_together_are_given_alike(self) -> None:
        """Start-time fair queueing's bound; turns by age are no part of it."""
        waiting = {(ticket.level, ticket.key) for ticket in self.tickets}
        for level in LEVELS:
            for one in TENANTS:
                for other in TENANTS:
                    if one >= other:
                        continue
                    pair = (level, one, other)
                    if {(level, one), (level, other)} <= waiting and not self.aged:
                        given = self.together.setdefault(pair, [0.0, 0.0])
                        assert abs(given[0] - given[1]) <= 2 * self.largest + 1e-6
                    else:
                        self.together.pop(pair, None)

    def teardown(self) -> None:
        while self.tickets:
            self.grant()
        self.the_books_balance()


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


EVENTS: dict[EventKind, st.SearchStrategy[Event]] = {
    EventKind.CONNECTED: st.just(CONNECTED),
    EventKind.CONNECT_FAILED: st.just(CONNECT_FAILED),
    EventKind.HEAD: st.sampled_from([200, 404, 500, 503]).map(Head),
    EventKind.RESET: st.booleans().map(Reset),
    EventKind.COMPLETE: st.just(COMPLETE),
    EventKind.TIMED_OUT: st.sampled_from([*Stage][:5]).map(TimedOut),
    EventKind.CLIENT_GONE: st.just(CLIENT_GONE),
    EventKind.CANCEL: st.just(CANCEL),
}


class Breaker(RuleBasedStateMachine):
    """Never more than the limits; nobody is lost; refusals say when to come again."""

    @initialize(
        size=st.integers(1, 3),
        places=st.integers(1, 4),
        pending=st.integers(0, 4),
        requests=st.integers(2, 6),
        retries=st.none() | st.integers(0, 2),
        high=st.none() | st.integers(1, 2),
        each=st.none() | st.integers(1, 2),
        per_tenant=st.none() | st.integers(1, 2),
        shed=st.none() | st.just(4.0),
    )
    def configure(
        self,
        size: int,
        places: int,
        pending: int,
        requests: int,
        retries: int | None,
        high: int | None,
        each: int | None,
        per_tenant: int | None,
        shed: float | None,
    ) -> None:
        self.breaker = CircuitBreaker(
            max_connections=places,
            max_pending=pending,
            max_requests=requests,
            max_retries=retries,
            high=None if high is None else Thresholds(max_connections=high, max_pending=pending),
            per_endpoint=None if each is None else EndpointLimits(max_connections=each),
        )
        self.options: dict[str, Any] = {
            "breaker": self.breaker,
            "queue": QueuePolicy(max_per_tenant=per_tenant, shed_above=shed, age_after=2.0),
            "retry": RetryPolicy(on=RetryOn.FIVE_XX, attempts=2, min_retry_concurrency=5),
            "balancer": LeastRequest.Spec(),
        }
        self.size, self.generation = size, 1
        self.world = World(snapshot(size, **self.options))
        self.exchanges: list[Exchange] = []

    def look(self, effect: Effect) -> None:
        if isinstance(effect, Reject) and effect.error.kind == "overloaded_error":
            assert effect.error.retry_after is not None
            assert 1 <= effect.error.retry_after <= 60

    def settle(self) -> None:
        """What a driver does after each event."""
        director = self.world.director
        while (exchange := director.next_displaced()) is not None:
            self.look(self.world.feed(exchange, DISPLACED))
        while (exchange := director.next_granted(self.world.clock.now())) is not None:
            self.look(self.world.feed(exchange, GRANTED))
            assert not exchange.queued

    @rule(tenant=st.sampled_from(TENANTS), priority=st.sampled_from(Priority))
    def arrive(self, tenant: str, priority: Priority) -> None:
        exchange, effect = self.world.begin(tenant=tenant, priority=priority)
        self.look(effect)
        self.exchanges.append(exchange)
        self.settle()

    @rule(data=st.data())
    def happen(self, data: st.DataObject) -> None:
        alive = [exchange for exchange in self.exchanges if not exchange.over]
        if not alive:
            return
        exchange = data.draw(st.sampled_from(alive))
        kinds = [kind for state, kind in TRANSITIONS if state is exchange.state and kind in EVENTS]
        self.look(self.world.feed(exchange, data.draw(EVENTS[data.draw(st.sampled_from(kinds))])))
        self.settle()

    @rule(seconds=st.floats(0.1, 5))
    def pass_time(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(index=st.integers(0, 2), state=st.sampled_from(AdminState))
    def operate(self, index: int, state: AdminState) -> None:
        ids = list(self.world.fleet.hosts)
        self.world.fleet.set_admin(ids[index % len(ids)], state)

    @rule()
    def reload(self) -> None:
        self.generation += 1
        update = snapshot(self.size, generation=self.generation, **self.options)
        self.world.director.update(update)

    @invariant()
    def limits_hold(self) -> None:
        if not hasattr(self, "world"):
            return
        director, breaker = self.world.director, self.breaker
        alive = [exchange for exchange in self.exchanges if not exchange.over]
        assert set(director.active.values()) == set(alive)
        queued = [exchange for exchange in alive if exchange.state is State.QUEUED]
        assert all(exchange.ticket is not None for exchange in queued)
        pools = {name: places for _, name, places in director.all_places()}
        assert sum(places.queue.waiting for places in pools.values()) == len(queued)
        in_flight = sum(exchange.lease is not None for exchange in alive)
        assert sum(places.in_flight for places in pools.values()) == in_flight
        for places in pools.values():
            limits = places.limits
            assert 0 <= places.in_flight <= min(limits.max_connections, limits.max_requests)
            assert places.queue.waiting <= limits.max_pending
            assert places.budget.in_flight >= 0
            if limits.max_retries is not None:
                assert places.budget.in_flight <= limits.max_retries
        if breaker.per_endpoint is not None:
            hosts = self.world.fleet.hosts.values()
            assert all(host.in_flight <= breaker.per_endpoint.lowest for host in hosts)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        # Whoever waits gets a place in the end, if only those before it go.
        for host in self.world.fleet.hosts.values():
            self.world.fleet.set_admin(host.id, AdminState.READY)
        self.settle()
        waiting = [exchange for exchange in self.exchanges if exchange.queued]
        while any(exchange.queued for exchange in waiting):
            running = next(e for e in self.exchanges if e.lease is not None)
            self.world.feed(running, CLIENT_GONE)
            self.settle()
        for exchange in self.exchanges:
            if not exchange.over:
                self.world.feed(exchange, CLIENT_GONE)
        self.limits_hold()
        for _, _, places in self.world.director.all_places():
            assert (places.in_flight, places.queue.waiting, places.budget.in_flight) == (0, 0, 0)
        assert not self.world.director.active


TestBreaker = Breaker.TestCase
TestBreaker.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

"""Whatever happens in whatever order, the books balance."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from router.core.admission.breaker import CircuitBreaker
from router.core.balancers import REGISTRY
from router.core.events import (
    CANCEL,
    CLIENT_GONE,
    COMPLETE,
    CONNECT_FAILED,
    CONNECTED,
    GRANTED,
    MARK,
    Event,
    EventKind,
    Head,
    OfAttempt,
    Reset,
    Stage,
    TimedOut,
)
from router.core.exchange import Exchange
from router.core.fallback import Fallback
from router.core.fault import Abort, Cut, Delay, Fault, Stall
from router.core.model import AdminState
from router.core.retry.hedge import Hedge
from router.core.retry.policy import RetryOn, RetryPolicy
from router.core.states import State
from router.core.transitions import TRANSITIONS
from tests.core.world import World, snapshot, spare

EVENTS: dict[EventKind, st.SearchStrategy[Event]] = {
    EventKind.CONNECTED: st.just(CONNECTED),
    EventKind.CONNECT_FAILED: st.just(CONNECT_FAILED),
    EventKind.HEAD: st.sampled_from([200, 404, 429, 500, 503]).map(Head),
    EventKind.RESET: st.booleans().map(Reset),
    EventKind.COMPLETE: st.just(COMPLETE),
    EventKind.TIMED_OUT: st.sampled_from(Stage).map(TimedOut),
    EventKind.CLIENT_GONE: st.just(CLIENT_GONE),
    EventKind.CANCEL: st.just(CANCEL),
    EventKind.MARK: st.just(MARK),
}
FAULTS = [
    None,
    Fault(delay=Delay(1.0, 50), abort=Abort(500, 20), max_active=2),
    Fault(cut=Cut(3, 50), stall=Stall(2, 1.0, 50), max_active=1),
]


HEDGES = [
    None,
    Hedge(after=1, most=2, budget_percent=100),
    Hedge(after=1, min_concurrency=1),
    Hedge(on_per_try_timeout=True),
]
RACING = {
    State.CONNECTING: (EventKind.CONNECTED, EventKind.CONNECT_FAILED, EventKind.TIMED_OUT),
    State.WAITING_FIRST_BYTE: (EventKind.HEAD, EventKind.RESET, EventKind.TIMED_OUT),
}
STAGES = {
    State.CONNECTING: [Stage.CONNECT, Stage.HEDGE],
    State.WAITING_FIRST_BYTE: [Stage.FIRST_BYTE, Stage.HEDGE],
}
UNTOLD = (EventKind.CONNECTED, EventKind.CONNECT_FAILED, EventKind.HEAD, EventKind.RESET)
"""Of an exchange that has several attempts under way, these are told as of one of them."""


class Traffic(RuleBasedStateMachine):
    """Requests, faults, operators and reloads, interleaved at will."""

    @initialize(
        size=st.integers(1, 4),
        balancer=st.sampled_from(REGISTRY),
        places=st.integers(1, 4),
        pending=st.integers(0, 3),
        on=st.sampled_from([RetryOn.NONE, RetryOn.RESET, RetryOn.FIVE_XX]),
        attempts=st.integers(0, 3),
        fault=st.sampled_from(FAULTS),
        spares=st.sampled_from([(), (spare("s"),)]),
        hedge=st.sampled_from(HEDGES),
        try_=st.sampled_from([0.0, 1.0]),
    )
    def configure(self, size, balancer, places, pending, on, attempts, fault, spares, hedge, try_):  # type: ignore[no-untyped-def]
        self.options = {
            "balancer": balancer.Spec(),
            "breaker": CircuitBreaker(max_connections=places, max_pending=pending),
            "retry": RetryPolicy(on=on, attempts=attempts, per_try_timeout=try_),
            "hedge": hedge,
            "fault": fault,
            "spares": spares,
            "fallbacks": tuple(Fallback(one.name) for one in spares),
        }
        self.generation = 1
        self.world = World(snapshot(size, **self.options))
        self.exchanges: list[Exchange] = []

    @rule(key=st.none() | st.integers(0, 5).map(lambda n: n << 44), replayable=st.booleans())
    def arrive(self, key: int | None, replayable: bool) -> None:
        exchange, _ = self.world.begin(prefix_hash=key, stream=True)
        exchange.replayable = replayable
        self.exchanges.append(exchange)

    @rule(data=st.data())
    def happen(self, data: st.DataObject) -> None:
        alive = [exchange for exchange in self.exchanges if not exchange.over]
        if not alive:
            return
        exchange = data.draw(st.sampled_from(alive))
        if exchange.race is not None and exchange.state in RACING and data.draw(st.booleans()):
            self.race(exchange, data)
            return
        kinds = [kind for state, kind in TRANSITIONS if state is exchange.state and kind in EVENTS]
        if exchange.injection is None or not exchange.injection.marks:
            kinds = [kind for kind in kinds if kind is not EventKind.MARK]
        event = data.draw(EVENTS[data.draw(st.sampled_from(kinds))])
        if exchange.race is not None and exchange.race.rivals and exchange.state in RACING:
            if event.kind in UNTOLD:
                return
            if isinstance(event, TimedOut) and event.stage is not Stage.HEDGE:
                event = TimedOut(Stage.TOTAL)
        if isinstance(event, TimedOut) and event.stage is Stage.HEDGE and exchange.race is None:
            return
        if isinstance(event, TimedOut) and event.stage is Stage.HOLD and exchange.injection is None:
            return
        self.world.feed(exchange, event)
        self.grant()

    def race(self, exchange: Exchange, data: st.DataObject) -> None:
        """Something happens to one of the attempts under way, as the driver tells it."""
        race = exchange.race
        assert race is not None
        states = {race.lead: exchange.state} | {n: r.state for n, r in race.rivals.items()}
        attempt = data.draw(st.sampled_from(sorted(states)))
        kind = data.draw(st.sampled_from(RACING[states[attempt]]))
        if kind is EventKind.TIMED_OUT:
            event: Event = TimedOut(data.draw(st.sampled_from(STAGES[states[attempt]])))
        else:
            event = data.draw(EVENTS[kind])
        if kind is not EventKind.HEAD or race.rivals:
            if isinstance(event, TimedOut) and event.stage is Stage.HEDGE:
                self.world.feed(exchange, event)
            else:
                self.world.feed(exchange, OfAttempt(attempt, event))  # type: ignore[arg-type]
        if kind is EventKind.HEAD and race.lead == attempt and exchange.state in RACING:
            assert not race.rivals
            self.world.feed(exchange, event)
        self.grant()

    def grant(self) -> None:
        while (exchange := self.world.director.next_granted()) is not None:
            self.world.feed(exchange, GRANTED)

    @rule(index=st.integers(0, 3), state=st.sampled_from(AdminState), healthy=st.booleans())
    def operate(self, index: int, state: AdminState, healthy: bool) -> None:
        ids = list(self.world.fleet.hosts)
        if ids:
            self.world.fleet.set_admin(ids[index % len(ids)], state)
            self.world.fleet.set_health(ids[index % len(ids)], healthy)

    @rule(size=st.integers(0, 4), weight=st.integers(1, 3))
    def reload(self, size: int, weight: int) -> None:
        self.generation += 1
        self.world.director.update(snapshot(size, generation=self.generation, **self.options))
        for id_ in list(self.world.fleet.hosts)[:1]:
            self.world.fleet.set_weight(id_, weight)

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "world"):
            return
        fleet, director = self.world.fleet, self.world.director
        alive = [exchange for exchange in self.exchanges if not exchange.over]
        leases = [exchange.lease for exchange in alive if exchange.lease is not None]
        rivals = [r for exchange in alive if exchange.race for r in exchange.race.rivals.values()]
        assert all(e.lease is not None for e in alive if e.race is not None and e.race.rivals)
        leases += [rival.lease for rival in rivals]
        assert not any(lease.released for lease in leases)
        known = {**fleet.leaving, **fleet.hosts}.values()
        assert sum(host.in_flight for host in known) == len(leases)
        assert all(host.in_flight >= 0 for host in known)
        lines = [director.places(name) for name in director.snapshot.clusters]
        assert sum(places.in_flight for places in lines) == len(leases)
        assert lines[0].in_flight <= self.options["breaker"].max_connections
        waiting = sum(exchange.state is State.QUEUED for exchange in alive)
        assert sum(places.queue.waiting for places in lines) == waiting
        assert sum(places.budget.in_flight for places in lines) == sum(
            exchange.retrying for exchange in alive
        )
        assert sum(p.hedges.in_flight for p in lines) == sum(rival.hedged for rival in rivals)
        assert set(director.active.values()) == set(alive)
        began = [e for e in alive if e.state is State.STREAMING and e.race is not None]
        assert not any(exchange.race.rivals for exchange in began if exchange.race)
        delayed = sum(exchange.state is State.DELAYED for exchange in alive)
        faults = director.faults("all")
        fault = self.options["fault"]
        assert delayed <= faults.active <= (fault.max_active if fault is not None else 0)
        assert all(exchange.attempt <= 10 for exchange in self.exchanges)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        for exchange in list(self.exchanges):
            if not exchange.over:
                self.world.feed(exchange, CLIENT_GONE)
        self.books_balance()
        assert not self.world.director.active
        assert self.world.director.places("c").in_flight == 0
        assert self.world.director.faults("all").active == 0
        self.world.fleet.prune()
        assert not self.world.fleet.leaving


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

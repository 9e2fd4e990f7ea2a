"""Whatever becomes of requests in whatever order, their buckets' books balance.

Three nested limits, of requests, of a tenant's tokens and of a tenant's tokens for each model, over
a store of this process and over the one that workers share.
"""

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.control.board import Board, create_file
from router.core.admission.estimates import Consumption, TokenEstimates
from router.core.admission.rate_limit import Descriptor, RateLimit
from router.core.admission.token_bucket import BucketSpec, LocalBuckets
from router.core.clock import HandClock
from router.core.director import Director
from router.core.events import (
    CANCEL,
    CLIENT_GONE,
    COMPLETE,
    CONNECT_FAILED,
    CONNECTED,
    GRANTED,
    RESET,
    START,
    Event,
    EventKind,
    Head,
    Reset,
    Stage,
    TimedOut,
)
from router.core.exchange import Exchange
from router.core.fleet import Fleet
from router.core.retry.policy import RetryOn, RetryPolicy
from router.core.routing import Destination, Matcher, Route, RouteTable
from router.core.snapshot import Snapshot
from router.core.states import State
from router.core.transitions import TRANSITIONS
from tests.core.world import request, snapshot

EVENTS: dict[EventKind, st.SearchStrategy[Event]] = {
    EventKind.CONNECTED: st.just(CONNECTED),
    EventKind.CONNECT_FAILED: st.just(CONNECT_FAILED),
    EventKind.HEAD: st.sampled_from([200, 200, 400, 503]).map(Head),
    EventKind.RESET: st.sampled_from([RESET, Reset(protocol=True)]),
    EventKind.COMPLETE: st.just(COMPLETE),
    EventKind.TIMED_OUT: st.sampled_from([Stage.IDLE, Stage.TOTAL]).map(TimedOut),
    EventKind.CLIENT_GONE: st.just(CLIENT_GONE),
    EventKind.CANCEL: st.just(CANCEL),
}
TENANT = (Descriptor("tenant"),)
LIMITS = (
    RateLimit(name="requests", bucket=BucketSpec(12, 0.5), per=TENANT),
    RateLimit(name="tokens", bucket=BucketSpec(2000, 20, 500), per=TENANT, unit="tokens"),
    RateLimit(
        name="model",
        bucket=BucketSpec(1200, 10, 1200),
        per=(*TENANT, Descriptor("model")),
        unit="tokens",
    ),
)


class Metered:
    """What each exchange's response has come to, as the story has it."""

    def __init__(self) -> None:
        self.seen: dict[int, Consumption] = {}

    def consumed(self, serial: int, *, usage: bool) -> Consumption:
        seen = self.seen.get(serial, Consumption())
        return seen if usage else Consumption(chunks=seen.chunks, body_bytes=seen.body_bytes)


class Limited(RuleBasedStateMachine):
    """Requests under limits, and all that can happen to them."""

    def make_store(self) -> LocalBuckets:
        return LocalBuckets()

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.began = self.clock.now()
        self.store = self.make_store()
        self.meter = Metered()
        self.exchanges: list[Exchange] = []
        plain = snapshot(2)
        route = Route(
            name="r",
            match=Matcher(),
            destinations=(Destination("c"),),
            limits=LIMITS,
            retry=RetryPolicy(on=RetryOn.RESET | RetryOn.FIVE_XX, attempts=2),
        )
        self.director = Director(
            Snapshot(
                generation=1,
                clusters=plain.clusters,
                routes=RouteTable([route]),
                estimates=TokenEstimates(learn=False),
            ),
            Fleet(),
            random.Random(1),
            buckets=self.store,
        )
        self.director.limiter.meter = self.meter

    def feed(self, exchange: Exchange, event: Event) -> None:
        exchange.feed(event, self.clock.now())

    def levels(self) -> dict[int, float]:
        now = self.clock.now()
        self.director.limiter.flush(now)
        return {
            key: self.store.level(key, limit.bucket, now)
            for tenant in "tu"
            for model in "mn"
            for limit in LIMITS
            if (key := limit.key(request(tenant=tenant, model=model))) is not None
        }

    @rule(
        tenant=st.sampled_from("tu"),
        model=st.sampled_from("mn"),
        size=st.integers(0, 8000),
        max_tokens=st.none() | st.integers(0, 3000),
        stream=st.booleans(),
    )
    def arrive(
        self, tenant: str, model: str, size: int, max_tokens: int | None, stream: bool
    ) -> None:
        asked = request(
            tenant=tenant, model=model, body_bytes=size, max_tokens=max_tokens, stream=stream
        )
        before = self.levels()
        exchange = self.director.begin(asked, self.clock.now())
        wanted = {limit.key(asked): self.director.limiter.amount(limit, asked) for limit in LIMITS}
        self.feed(exchange, START)
        self.exchanges.append(exchange)
        fits = all(before[key] + 1e-6 >= n for key, n in wanted.items() if key is not None)
        after = self.levels()
        if exchange.status == 429:
            assert not fits or exchange.flag != "RL"
            assert after == before, "a refusal takes nothing from anybody"
        elif not exchange.over:
            assert fits
            assert all(
                abs(after[key] - max(0.0, before[key] - n)) < 1e-6
                for key, n in wanted.items()
                if key is not None
            )

    @rule(data=st.data())
    def happen(self, data: st.DataObject) -> None:
        alive = [exchange for exchange in self.exchanges if not exchange.over]
        if not alive:
            return
        exchange = data.draw(st.sampled_from(alive))
        kinds = [kind for state, kind in TRANSITIONS if state is exchange.state and kind in EVENTS]
        if kinds:
            self.feed(exchange, data.draw(EVENTS[data.draw(st.sampled_from(kinds))]))
        while (granted := self.director.next_granted()) is not None:
            self.feed(granted, GRANTED)

    @rule(
        data=st.data(),
        chunks=st.integers(0, 900),
        usage=st.none() | st.tuples(st.integers(0, 2500), st.integers(0, 1500)),
    )
    def answer(self, data: st.DataObject, chunks: int, usage: tuple[int, int] | None) -> None:
        alive = [exchange for exchange in self.exchanges if exchange.head_at is not None]
        if not alive:
            return
        exchange = data.draw(st.sampled_from(alive))
        if exchange.over:
            return
        before = self.meter.seen.get(exchange.serial, Consumption()).chunks
        prompt, completion = usage if usage is not None else (None, None)
        self.meter.seen[exchange.serial] = Consumption(
            prompt, completion, before + chunks, 100 * (before + chunks)
        )

    @rule(seconds=st.floats(0, 90))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def debit(self) -> None:
        self.clock.advance(1.0)
        self.director.limiter.debit(self.clock.now())

    def spent(self, exchange: Exchange) -> float:
        """What an exchange that is over came to, by the rules of docs/rate-limits.md."""
        assert exchange.reservation is not None
        seen = self.meter.seen.get(exchange.serial, Consumption())
        if seen.prompt is None and (exchange.state is State.REJECTED or exchange.status >= 400):
            return 0.0
        prompt = exchange.request.body_bytes / 4 if seen.prompt is None else seen.prompt
        if seen.completion is not None:
            return prompt + seen.completion
        return prompt + (seen.chunks if exchange.request.stream else seen.body_bytes / 4)

    @invariant()
    def books_balance(self) -> None:
        """Of each bucket: what is charged now, over all requests ever made, is no more than the
        burst, what was filled since, and the debt; and no more is missing from it than that."""
        taken: dict[int, float] = {}
        for exchange in self.exchanges:
            reservation = exchange.reservation
            if reservation is None:
                continue
            assert reservation.settled is exchange.over
            for claim in reservation.claims:
                taken[claim.draw.key] = taken.get(claim.draw.key, 0.0) + claim.charged
                if exchange.over and not reservation.reached:
                    assert claim.charged == 0
                elif claim.limit.unit == "requests":
                    assert claim.charged == 1
                elif exchange.over:
                    assert abs(claim.charged - self.spent(exchange)) < 1e-6
        elapsed = self.clock.now() - self.began
        levels = self.levels()
        forgiven = self.director.limiter.counts.forgiven
        assert all(
            claim.draw.key in levels
            for e in self.exchanges
            if e.reservation is not None
            for claim in e.reservation.claims
        )
        for limit in LIMITS:
            bucket = limit.bucket
            for tenant in "tu":
                for model in "mn":
                    key = limit.key(request(tenant=tenant, model=model))
                    assert key is not None
                    level, used = levels[key], taken.get(key, 0.0)
                    assert -bucket.debt - 1e-6 <= level <= bucket.capacity
                    gained = bucket.fill_rate * elapsed
                    # Nothing is used that was not there: the rest is debt, or was forgiven.
                    assert used - forgiven <= bucket.capacity - level + gained + 1e-3
                    # Nothing is missing that was not used.
                    assert bucket.capacity - level <= used + 1e-3

    def teardown(self) -> None:
        for exchange in self.exchanges:
            if not exchange.over:
                self.feed(exchange, CLIENT_GONE)
        self.books_balance()
        assert not self.director.limiter._streams


class LimitedTogether(Limited):
    """The same over the buckets that workers share."""

    def make_store(self) -> LocalBuckets:
        self.board = Board(create_file(1, 1, 4), 1, 1, 4)
        return self.board.buckets()  # type: ignore[return-value]


TestLimited = Limited.TestCase
TestLimited.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestLimitedTogether = LimitedTogether.TestCase
TestLimitedTogether.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

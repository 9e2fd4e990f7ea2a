"""Requests that wait in the router rather than at a busy endpoint."""

import random
from typing import Any, cast

from router.core.admission.band import LOOK
from router.core.admission.breaker import CircuitBreaker, QueuePolicy
from router.core.admission.fair_queue import FairQueue
from router.core.balancers.predicted_ttft import PredictedTtft
from router.core.duration import Duration
from router.core.events import (
    CLIENT_GONE,
    COMPLETE,
    CONNECTED,
    GRANTED,
    Connect,
    Effect,
    Head,
    Reject,
    Stage,
    TimedOut,
    Wait,
)
from router.core.exchange import Exchange
from router.core.forecast.outlook import Outlook
from router.core.forecast.work import PrefillWork
from router.core.model import Priority
from router.core.prefix.blocks import checkpoints
from tests.core.world import World, snapshot

HOLD = PredictedTtft.Spec(hold_above=Duration(0.15))
LONG, SHORT = 16_000, 400
"""Tokens: half a second of prefill, and 20 milliseconds."""


class Late(World):
    """Endpoints whose prompts are read one after the other, as told."""

    def __init__(self, size: int = 2, **fields: Any) -> None:
        super().__init__(snapshot(size, balancer=HOLD, **fields))
        self.read: dict[Outlook, float] = {}

    def ask(self, tokens: int, seed: int = 0, **fields: Any) -> tuple[Exchange, Effect]:
        text = random.Random(seed).randbytes(4 * tokens)
        found = checkpoints([text], 0)
        fields = {"stream": True, "prompt_bytes": len(text), "checkpoints": found} | fields
        return self.begin(**fields)

    def begins(self, exchange: Exchange) -> list[Exchange]:
        """Its first token comes when it was expected; who is sent for it."""
        assert exchange.lease is not None
        work = exchange.lease.work
        assert isinstance(work, PrefillWork)
        outlook = work.outlook
        due = max(work.since, self.read.get(outlook, 0.0)) + work.cost
        self.clock.advance(max(0.0, due - self.clock.now()))
        self.read[outlook] = self.clock.now()
        self.feed(exchange, CONNECTED)
        self.feed(exchange, Head(200))
        exchange.first_byte(self.clock.now())
        return self.granted()

    def granted(self) -> list[Exchange]:
        sent = []
        while (ready := self.director.next_granted(self.clock.now())) is not None:
            assert isinstance(self.feed(ready, GRANTED), Connect)
            sent.append(ready)
        return sent


def test_a_request_waits_here_while_the_best_endpoint_is_busy_and_goes_with_the_first_token() -> (
    None
):
    world = Late(size=2)
    busy = [world.ask(LONG, seed)[0] for seed in (1, 2)]
    assert world.in_flight() == [1, 1]
    held, effect = world.ask(LONG, 3)
    assert isinstance(effect, Wait) and held.queued
    assert world.granted() == []
    assert world.begins(busy[0]) == [held]


def test_time_alone_lets_it_go() -> None:
    """The line gets shorter as the first prompt is being read: by prediction, not by report."""
    world = Late(size=1)
    first, _ = world.ask(LONG, 1)
    held, _ = world.ask(SHORT, 2)
    assert held.queued
    outlook = world.director.traffic("c").accounts.of(first.lease.host.id)
    world.clock.advance(outlook.wait(world.clock.now()) - 0.1)
    assert world.granted() == [held]


def test_short_ones_go_first_and_long_ones_when_they_have_waited() -> None:
    world = Late(size=1)
    first, _ = world.ask(LONG, 1)
    long, _ = world.ask(LONG, 2)
    short, _ = world.ask(SHORT, 3)
    assert world.begins(first) == [short, long], "short first; then there is room for the long one"


class Hold:
    """A lane that lets anybody go but those in ``kept``."""

    late = True

    def __init__(self) -> None:
        self.kept: set[object] = set()
        self.looks = 0

    def has_room(self) -> bool:
        return True

    def slack(self, now: float) -> bool:
        return True

    def held_up(self, exchange: object, now: float) -> float | None:
        self.looks += 1
        return 1.0 if exchange in self.kept else None


def test_the_highest_response_ratio_is_next() -> None:
    """(wait + own) / own at 10 s: 2.0 of ``long``, 5.0 of ``old``, 3.0 of ``new``."""
    lane, line = Hold(), FairQueue(100)
    for name, since, own in (("long", 0.0, 10.0), ("old", 2.0, 2.0), ("new", 9.0, 0.5)):
        line.join(cast(Any, name), since, lane=lane, own=own)
    order = []
    while (ticket := line.first(10.0)) is not None:
        order.append(ticket.exchange)
        line.granted(ticket)
    assert order == ["old", "new", "long"]


def test_who_cannot_be_sent_is_passed_over_and_looks_are_bounded() -> None:
    lane, line = Hold(), FairQueue(1000)
    for number in range(200):
        line.join(cast(Any, number), 0.0, lane=lane, own=1.0, key=str(number % 3))
    lane.kept = set(range(20))
    ticket = line.first(1.0)
    assert ticket is not None and ticket.exchange not in lane.kept
    lane.kept, lane.looks = set(range(200)), 0
    assert line.first(1.0) is None
    assert lane.looks == LOOK


def test_a_newcomer_whose_endpoint_is_free_does_not_wait_behind_who_waits_for_another() -> None:
    """The held one's prefix is at a busy endpoint, and long; another endpoint is idle soon."""
    world = Late(size=2)
    warm, _ = world.ask(60_000, 7)
    world.begins(warm)
    world.feed(warm, COMPLETE)
    where = warm.tried[0]
    world.ask(60_000, 7, prompt_bytes=240_000)  # the same prompt once more: to its prefix
    busy, _ = world.ask(60_000, 7, prompt_bytes=400_000)
    newcomer, effect = world.ask(SHORT, 9)
    assert isinstance(effect, Connect)
    assert newcomer.tried[0] != where or not busy.queued


def test_priorities_come_first_whatever_their_ratio() -> None:
    world = Late(size=1)
    first, _ = world.ask(LONG, 1)
    low, _ = world.ask(SHORT, 2, priority=Priority.LOW)
    world.clock.advance(0.1)
    high, _ = world.ask(LONG, 3, priority=Priority.HIGH)
    assert low.queued and high.queued
    assert world.begins(first)[0] is high


def test_a_flooding_tenant_delays_itself() -> None:
    world = Late(size=1)
    first, _ = world.ask(LONG, 0, tenant="flood")
    flood = [world.ask(SHORT, seed, tenant="flood")[0] for seed in range(1, 40)]
    modest, _ = world.ask(SHORT, 99, tenant="modest")
    sent = world.begins(first)
    assert modest in sent[:2], "by its share, not behind all of them"
    assert sum(one.queued for one in flood) > 25


def test_bounds_deadlines_and_leaving() -> None:
    world = Late(size=1, breaker=CircuitBreaker(max_pending=2))
    world.ask(LONG, 1)
    first, effect = world.ask(LONG, 2)
    assert isinstance(effect, Wait) and effect.stage is Stage.QUEUE and effect.timeout == 30.0
    second, _ = world.ask(LONG, 3)
    _, refused = world.ask(LONG, 4)
    assert isinstance(refused, Reject) and refused.error.status == 503
    world.feed(first, CLIENT_GONE)
    assert isinstance(world.feed(second, TimedOut(Stage.QUEUE)), Reject)
    assert world.director.places("c").queue.waiting == 0


def test_nothing_waits_for_an_endpoint_that_is_gone() -> None:
    world = Late(size=2)
    busy = [world.ask(LONG, seed)[0] for seed in (1, 2)]
    held, _ = world.ask(LONG, 3)
    for exchange in busy:
        assert exchange.lease is not None
        world.fleet.set_health(exchange.lease.host.id, False)
    assert world.granted() == [held], "what is lost has no line; panic sends it anyway"


def test_the_queues_policy_holds_for_those_held() -> None:
    world = Late(size=1, queue=QueuePolicy(max_per_tenant=1))
    world.ask(LONG, 1, tenant="a")
    world.ask(LONG, 2, tenant="a")
    _, refused = world.ask(LONG, 3, tenant="a")
    assert isinstance(refused, Reject)


def test_off_by_default() -> None:
    world = World(snapshot(1, balancer=PredictedTtft.Spec()))
    assert world.director.traffic("c").late is None

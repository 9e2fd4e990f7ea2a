"""What the events of an exchange say of the endpoint it went to."""

import pytest

from router.core.events import (
    CANCEL,
    CLIENT_GONE,
    COMPLETE,
    CONNECT_FAILED,
    CONNECTED,
    Head,
    Reset,
    Stage,
    TimedOut,
)
from router.core.health.outlier import Outlier
from router.core.host import Outcome
from router.core.retry.policy import RetryPolicy
from router.core.routing import Timeouts
from tests.core.world import World, snapshot

OK = (CONNECTED, Head(200))
NEITHER = (0, 0, 0, 0)

# Events after the start -> (server errors, gateway failures, local-origin failures, cut streams),
# and what the attempt came to.
ROWS = [
    ((*OK, COMPLETE), NEITHER, Outcome.SUCCESS),
    ((CONNECTED, Head(404), COMPLETE), NEITHER, Outcome.SUCCESS),
    ((CONNECTED, Head(429), COMPLETE), NEITHER, Outcome.PUSHED_BACK),
    ((CONNECTED, Head(503, retry_after=1.0), COMPLETE), NEITHER, Outcome.PUSHED_BACK),
    ((CONNECTED, Head(500, retry_after=1.0), COMPLETE), (1, 0, 0, 0), Outcome.STATUS_ERROR),
    ((CONNECTED, Head(500)), (1, 0, 0, 0), None),
    ((CONNECTED, Head(503), COMPLETE), (1, 1, 0, 0), Outcome.STATUS_ERROR),
    ((CONNECT_FAILED,), (1, 1, 0, 0), Outcome.CONNECT_FAILURE),
    ((TimedOut(Stage.CONNECT),), (1, 1, 0, 0), Outcome.CONNECT_FAILURE),
    ((CONNECTED, Reset()), (1, 1, 0, 0), Outcome.RESET),
    ((CONNECTED, Reset(protocol=True)), (1, 1, 0, 0), Outcome.RESET),
    ((CONNECTED, TimedOut(Stage.FIRST_BYTE)), (1, 1, 0, 0), Outcome.TIMEOUT),
    ((CONNECTED, TimedOut(Stage.TOTAL)), (1, 1, 0, 0), Outcome.TIMEOUT),
    ((*OK, Reset()), (0, 0, 0, 1), Outcome.TRUNCATED),
    ((*OK, TimedOut(Stage.IDLE)), (0, 0, 0, 1), Outcome.TIMEOUT),
    ((*OK, TimedOut(Stage.TOTAL)), NEITHER, Outcome.ABANDONED),
    ((*OK, CLIENT_GONE), NEITHER, Outcome.ABANDONED),
    ((*OK, CANCEL), NEITHER, Outcome.ABANDONED),
    ((CLIENT_GONE,), NEITHER, Outcome.ABANDONED),
    ((CONNECTED, CANCEL), NEITHER, Outcome.ABANDONED),
    ((CONNECTED, Head(500), CLIENT_GONE), (1, 0, 0, 0), Outcome.ABANDONED),
]


@pytest.mark.parametrize(("events", "counts", "outcome"), ROWS)
def test_what_an_attempt_says_of_its_endpoint(events, counts, outcome):
    world = World(snapshot(1, outlier=Outlier(), retry=RetryPolicy(attempts=0)))
    exchange, _ = world.begin()
    for event in events:
        world.feed(exchange, event)
    host = world.host(0)
    assert tuple(host.monitor.counts().values()) == counts
    assert [o for o in Outcome if host.outcomes[o]] == ([] if outcome is None else [outcome])


def test_a_connection_is_a_success_where_origins_are_told_apart():
    outlier = Outlier(split_external_local_origin_errors=True)
    world = World(snapshot(1, outlier=outlier, retry=RetryPolicy(back_off=None)))
    for events in [(CONNECT_FAILED,) * 3, (CONNECTED, CLIENT_GONE)]:
        exchange, _ = world.begin()
        for event in events:
            world.feed(exchange, event)
    assert set(world.host(0).monitor.counts().values()) == {0}


def test_every_attempt_counts_retries_too():
    world = World(snapshot(2, outlier=Outlier(), retry=RetryPolicy(attempts=1)))
    exchange, _ = world.begin()
    for event in (CONNECT_FAILED, CONNECT_FAILED):
        world.feed(exchange, event)
    assert [next(iter(world.host(n).monitor.counts().values())) for n in (0, 1)] == [1, 1]


def test_streams_are_timed_from_their_attempt_to_their_first_byte():
    world = World(snapshot(1, outlier=Outlier(), timeouts=Timeouts()))
    for stream, wait in [(True, 0.25), (True, 0.75), (False, 9.0)]:
        exchange, _ = world.begin(stream=stream)
        began = exchange.lease.since
        for event in OK:
            world.feed(exchange, event)
        exchange.first_byte(began + wait)
        exchange.first_byte(began + 100)
        world.feed(exchange, COMPLETE)
    assert world.host(0).first_bytes == 2
    assert world.host(0).first_byte_seconds == pytest.approx(1.0)


def test_an_ejected_host_takes_no_request_but_counts_in_panic():
    world = World(snapshot(4, outlier=Outlier()))
    hosts = world.director.traffic("c").hosts
    for number in (0, 1):
        world.fleet.set_ejected(world.host(number).id, True)
    assert hosts.usable() == (world.host(2), world.host(3))
    world.fleet.set_health(world.host(2).id, False)
    assert hosts.usable() == hosts.all
    assert hosts.panic
    world.fleet.set_ejected(world.host(0).id, False)
    assert hosts.usable() == (world.host(0), world.host(3))


def test_a_reload_may_change_or_end_the_watch():
    world = World(snapshot(1, outlier=Outlier()))
    world.host(0).monitor.answered(500)
    monitor = world.host(0).monitor
    world.director.update(snapshot(1, outlier=Outlier(), generation=2))
    assert world.host(0).monitor is monitor
    world.director.update(snapshot(1, outlier=Outlier(consecutive_5xx=2), generation=3))
    assert next(iter(world.host(0).monitor.counts().values())) == 1, "what was counted stays"
    assert world.host(0).monitor.policy.consecutive_5xx == 2
    world.director.update(snapshot(1, generation=4))
    assert world.host(0).monitor is None

"""LLM tokens: reserved at the start, debited on the way, settled once by what was really used."""

import pytest

from router.core.admission.estimates import Consumption, Estimator, TokenEstimates
from router.core.admission.rate_limit import RateLimit
from router.core.admission.reservation import Reservation
from router.core.errors import ReservationError
from router.core.events import (
    CANCEL,
    CLIENT_GONE,
    COMPLETE,
    CONNECT_FAILED,
    CONNECTED,
    RESET,
    Connect,
    Head,
    Reject,
)
from router.core.exchange import Exchange
from tests.core.test_rate_limit import limit, limited
from tests.core.world import World, request

TOKENS = limit(1000, 0.001, unit="tokens")


class Counted:
    """A meter that says what the story says."""

    def __init__(self, **seen: int) -> None:
        self.seen = Consumption(**seen)

    def consumed(self, serial: int, *, usage: bool) -> Consumption:
        return self.seen


def world_with(*limits: RateLimit, **seen: int) -> World:
    world = limited(*(limits or (TOKENS,)))
    world.director.limiter.meter = Counted(**seen)
    return world


def left(world: World, of: RateLimit = TOKENS) -> int:
    key = of.key(request())
    assert key is not None
    world.director.limiter.flush(world.clock.now())
    level = world.director.limiter.store.level(key, of.bucket, world.clock.now())  # type: ignore[attr-defined]
    return round(level)


def begin(world: World, **fields: object) -> Exchange:
    """A request of 100 prompt tokens that may get 200."""
    exchange, effect = world.begin(**{"body_bytes": 400, "max_tokens": 200} | fields)
    assert isinstance(effect, Connect)
    return exchange


def test_the_estimate_is_reserved_and_the_usage_is_charged() -> None:
    world = world_with(prompt=90, completion=50)
    exchange = begin(world)
    assert left(world) == 700
    for event in (CONNECTED, Head(200), COMPLETE):
        world.feed(exchange, event)
    assert left(world) == 1000 - 140
    assert world.director.limiter.counts.charged == 140


def test_more_than_was_reserved_becomes_debt_that_has_to_be_waited_for() -> None:
    world = world_with(prompt=900, completion=600)
    exchange = begin(world)
    for event in (CONNECTED, Head(200), COMPLETE):
        world.feed(exchange, event)
    assert left(world) == -500
    _, effect = world.begin(body_bytes=400, max_tokens=1)
    assert isinstance(effect, Reject)
    assert "may need 101, 0 are left" in effect.error.message
    assert effect.error.retry_after == pytest.approx(601_000, abs=5)


def test_debt_has_a_bound_and_what_is_beyond_is_counted() -> None:
    world = world_with(prompt=5000, completion=0)
    exchange = begin(world)
    for event in (CONNECTED, Head(200), COMPLETE):
        world.feed(exchange, event)
    assert left(world) == -1000
    assert world.director.limiter.counts.forgiven == pytest.approx(3000, abs=1)


def test_a_long_answer_is_felt_while_it_streams() -> None:
    world = world_with(chunks=150, body_bytes=9)
    exchange = begin(world, stream=True)
    world.feed(exchange, CONNECTED)
    world.feed(exchange, Head(200))
    limiter = world.director.limiter
    limiter.debit(world.clock.advance(1))
    assert left(world) == 700, "within what was reserved"
    limiter.meter = Counted(chunks=650, body_bytes=9)
    limiter.debit(world.clock.advance(1))
    assert left(world) == 250
    limiter.debit(world.clock.advance(0.5))
    limiter.meter = Counted(chunks=700, prompt=100, completion=700)
    world.feed(exchange, COMPLETE)
    assert left(world) == 200


@pytest.mark.parametrize(
    ("story", "seen", "charged"),
    [
        # No endpoint saw it.
        ([CONNECT_FAILED], {}, 0),
        ([CLIENT_GONE], {}, 0),
        ([CANCEL], {}, 0),
        # One saw it and gave nothing.
        ([CONNECTED, RESET], {}, 0),
        ([CONNECTED, Head(500), COMPLETE], {"chunks": 1, "body_bytes": 80}, 0),
        ([CONNECTED, Head(400), COMPLETE], {"chunks": 1, "body_bytes": 80}, 0),
        # Its prompt was computed when the client left.
        ([CONNECTED, CLIENT_GONE], {}, 100),
        ([CONNECTED, Head(200), CLIENT_GONE], {"chunks": 7, "body_bytes": 900}, 107),
        # Cut or aborted: what came.
        ([CONNECTED, Head(200), RESET], {"chunks": 9, "body_bytes": 900}, 109),
        ([CONNECTED, Head(200), CANCEL], {"chunks": 9, "body_bytes": 900}, 109),
        # Without usage the chunks count; with it they do not.
        ([CONNECTED, Head(200), COMPLETE], {"chunks": 40, "body_bytes": 9000}, 140),
        ([CONNECTED, Head(200), COMPLETE], {"chunks": 40, "prompt": 80, "completion": 44}, 124),
    ],
)
def test_every_way_out_settles_once(story: list, seen: dict[str, int], charged: int) -> None:  # type: ignore[type-arg]
    world = world_with(**seen)
    exchange = begin(world, stream=True)
    for event in story:
        world.feed(exchange, event)
    assert exchange.over
    assert exchange.reservation is not None and exchange.reservation.settled
    assert left(world) == 1000 - charged
    assert not world.director.limiter._streams


def test_settling_twice_is_a_bug() -> None:
    reservation = Reservation()
    reservation.settle(0, 0.0)
    with pytest.raises(ReservationError):
        reservation.settle(0, 0.0)


def test_requests_and_tokens_hold_together() -> None:
    requests = limit(2, 0.001)
    world = world_with(requests, TOKENS, prompt=600, completion=100)
    first = begin(world)
    for event in (CONNECTED, Head(200), COMPLETE):
        world.feed(first, event)
    assert (left(world, requests), left(world)) == (1, 300)
    _, effect = world.begin(body_bytes=2000)
    assert isinstance(effect, Reject)
    assert (left(world, requests), left(world)) == (1, 300), "nothing was taken from either"


def test_the_log_says_which_limit_refused() -> None:
    world = world_with(limit(0.5, 0.001), TOKENS)
    exchange, _ = world.begin()
    assert (exchange.status, exchange.reason) == (429, "rate limit 0.5 requests")


def test_a_request_larger_than_the_bucket_waits_for_a_full_one() -> None:
    world = world_with(prompt=10, completion=10)
    exchange = begin(world, max_tokens=100_000)
    assert left(world) == 0
    world.feed(exchange, CONNECT_FAILED)
    assert left(world) == 1000


# --- estimates --------------------------------------------------------------------------------


def test_a_model_teaches_what_its_tokens_weigh() -> None:
    estimator = Estimator(TokenEstimates(bytes_per_token=4, output=100))
    ask = request(model="m", body_bytes=1200)
    assert estimator.expected(ask) == (300, 100)
    for _ in range(100):
        estimator.learn(ask, Consumption(prompt=600, completion=20, body_bytes=400))
    prompt, output = estimator.expected(ask)
    assert (round(prompt), round(output)) == (599, 20)
    assert estimator.expected(request(model="n", body_bytes=1200)) == (300, 100)


def test_what_a_request_says_of_itself_goes_first() -> None:
    estimator = Estimator()
    assert estimator.expected(request(max_tokens=7))[1] == 7
    assert estimator.expected(request(path="/v1/embeddings"))[1] == 0


def test_images_are_no_text() -> None:
    """A body of a megabyte is taken for no more than a context, and teaches nothing."""
    estimator = Estimator(TokenEstimates(context=8000))
    ask = request(model="m", body_bytes=1 << 20)
    assert estimator.expected(ask)[0] == 8000
    estimator.learn(ask, Consumption(prompt=900, completion=5))
    assert estimator.expected(request(model="m", body_bytes=400))[0] == 100


def test_a_stream_whose_reads_were_joined_is_measured_by_its_bytes() -> None:
    estimator = Estimator()
    ask = request(model="m", stream=True, body_bytes=400)
    assert estimator.answered(ask, Consumption(chunks=10, body_bytes=20_000)) == 10
    estimator.learn(ask, Consumption(100, 50, chunks=50, body_bytes=10_000))
    assert estimator.answered(ask, Consumption(chunks=10, body_bytes=20_000)) == 100


def test_learning_can_be_switched_off_and_is_bounded() -> None:
    off = Estimator(TokenEstimates(learn=False))
    off.learn(request(model="m", body_bytes=400), Consumption(prompt=10))
    assert off.expected(request(model="m", body_bytes=400))[0] == 100
    estimator = Estimator()
    for number in range(1100):
        estimator.learn(request(model=f"m{number}", body_bytes=400), Consumption(prompt=100))
    assert repr(estimator) == "<Estimator models=1024>"

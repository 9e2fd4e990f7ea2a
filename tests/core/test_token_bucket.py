"""Token buckets: Envoy's timelines, and what no sequence of requests can do."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.control.board import Board, create_file
from router.core.admission.rate_limit import RateLimit, Standing, draw_all
from router.core.admission.token_bucket import BucketSpec, BucketStore, LocalBuckets, Verdict
from router.core.events import Connect, Reject
from router.core.routing import Destination, Matcher, Route, RouteTable
from router.core.snapshot import Snapshot
from tests.core.world import World, request, snapshot


def shared() -> BucketStore:
    return Board(create_file(1, 1, 4), 1, 1, 4).buckets()


STORES = pytest.mark.parametrize("store", [LocalBuckets, shared], ids=["local", "shared"])


def codes(store: BucketStore, spec: BucketSpec, count: int, now: float, key: int = 7) -> str:
    verdicts = [store.take(key, spec, 1.0, now).allowed for _ in range(count)]
    return "".join("." if allowed else "x" for allowed in verdicts)


@STORES
def test_envoys_timeline(store: type[BucketStore]) -> None:
    """5 at most, 2 a second, as Envoy 1.40 was seen to fill it: continuously."""
    buckets, spec = store(), BucketSpec(5, 2)
    assert codes(buckets, spec, 8, 100.0) == ".....xxx"
    assert codes(buckets, spec, 3, 100.6) == ".xx"
    assert codes(buckets, spec, 7, 103.6) == ".....xx"


@STORES
def test_each_key_has_its_own_and_a_reload_keeps_what_was_used(store: type[BucketStore]) -> None:
    buckets = store()
    assert codes(buckets, BucketSpec(2, 1), 3, 0.0, key=1) == "..x"
    assert codes(buckets, BucketSpec(2, 1), 3, 0.0, key=2) == "..x"
    # More generous from now on: what is missing comes at the new rate.
    assert codes(buckets, BucketSpec(10, 5), 6, 1.0, key=1) == ".....x"


@STORES
def test_the_wait_is_when_it_will_be_allowed(store: type[BucketStore]) -> None:
    buckets, spec = store(), BucketSpec(1, 0.25)
    assert buckets.take(3, spec, 1.0, 0.0) == Verdict(True, 0.0, 0.0)
    refused = buckets.take(3, spec, 1.0, 1.0)
    assert refused == Verdict(False, 0.25, 3.0)
    assert buckets.take(3, spec, 1.0, 1.0 + refused.wait).allowed


@STORES
@settings(max_examples=100, deadline=None)
@given(
    capacity=st.integers(1, 20),
    rate=st.floats(0.01, 50),
    gaps=st.lists(st.floats(0, 5), min_size=1, max_size=60),
)
def test_never_more_than_rate_times_time_and_the_burst(
    store: type[BucketStore], capacity: int, rate: float, gaps: list[float]
) -> None:
    buckets, spec, now, allowed = store(), BucketSpec(capacity, rate), 1000.0, []
    for gap in gaps:
        now += gap
        if buckets.take(9, spec, 1.0, now).allowed:
            allowed.append(now)
    for first, start in enumerate(allowed):
        for last in range(first, len(allowed)):
            span = allowed[last] - start
            assert last - first + 1 <= capacity + rate * span + 1e-6


def test_local_buckets_are_bounded_and_forget_the_longest_untouched() -> None:
    buckets, spec = LocalBuckets(limit=3), BucketSpec(1, 0.001)
    for key in (1, 2, 3, 1, 4):
        buckets.take(key, spec, 1.0, 0.0)
    assert repr(buckets) == "<LocalBuckets 3/3 forgotten=1>"
    assert buckets.take(2, spec, 1.0, 0.0).allowed  # it was the one forgotten
    assert not buckets.take(1, spec, 1.0, 0.0).allowed


def test_processes_share_one_bucket_exactly() -> None:
    fd = create_file(1, 4, 4)
    spec = BucketSpec(500, 1e-9)
    ends = []
    for _ in range(4):
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            buckets = Board(fd, 1, 4, 4).buckets()
            granted = sum(buckets.take(42, spec, 1.0, 5.0).allowed for _ in range(300))
            os.write(write, granted.to_bytes(4, "big"))
            os._exit(0)
        os.close(write)
        ends.append((child, read))
    granted = []
    for child, read in ends:
        granted.append(int.from_bytes(os.read(read, 4), "big"))
        os.close(read)
        os.waitpid(child, 0)
    os.close(fd)
    assert sum(granted) == 500


def limit(capacity: float, rate: float, *per: str) -> RateLimit:
    return RateLimit(name="l", bucket=BucketSpec(capacity, rate), per=per)


def test_a_limit_applies_only_where_its_descriptors_are() -> None:
    buckets = LocalBuckets()
    limits = [limit(1, 0.1, "user", "header:X-Team")]
    team = ((b"x-team", b"a"),)
    assert draw_all(limits, request(user="u"), buckets, 0.0) is None
    assert draw_all(limits, request(headers=team), buckets, 0.0) is None
    for user, allowed in [("u", True), ("u", False), ("v", True)]:
        standing = draw_all(limits, request(user=user, headers=team), buckets, 0.0)
        assert standing is not None
        assert standing.verdict.allowed is allowed


def test_the_first_empty_bucket_refuses_and_later_ones_keep_their_tokens() -> None:
    buckets = LocalBuckets()
    tight, wide = limit(1, 0.1, "model"), limit(5, 0.1, "address")
    ask = request(model="m", client="1.2.3.4")
    first = draw_all([tight, wide], ask, buckets, 0.0)
    assert first == Standing(tight, Verdict(True, 0.0, 0.0))
    draw_all([tight, wide], ask, buckets, 0.0)
    standing = draw_all([wide], ask, buckets, 0.0)
    assert standing is not None
    assert standing.verdict.remaining == 3


def test_headers_say_what_envoy_says() -> None:
    """Reset is 0 while tokens remain, else whole seconds to the next: 30 for 2 per 60 s."""
    slow = limit(2, 2 / 60)
    assert Standing(slow, Verdict(True, 1.0, 0.0)).headers()[1:] == (
        b"x-ratelimit-remaining: 1",
        b"x-ratelimit-reset: 0",
    )
    assert Standing(slow, Verdict(True, 0.0, 0.0)).headers() == (
        b"x-ratelimit-limit: 2",
        b"x-ratelimit-remaining: 0",
        b"x-ratelimit-reset: 30",
    )


def test_an_exchange_over_its_limit_is_429_and_never_reaches_an_endpoint() -> None:
    plain = snapshot(1)
    route = Route(
        name="r",
        match=Matcher(),
        destinations=(Destination("c"),),
        limits=(limit(2, 0.5, "model"),),
    )
    world = World(Snapshot(generation=1, clusters=plain.clusters, routes=RouteTable([route])))
    assert isinstance(world.begin(model="m")[1], Connect)
    assert isinstance(world.begin(model="m")[1], Connect)
    exchange, effect = world.begin(model="m")
    assert isinstance(effect, Reject)
    assert (effect.error.status, exchange.flag) == (429, "RL")
    assert effect.error.retry_after == 2
    assert b"x-ratelimit-remaining: 0" in effect.error.headers
    assert world.in_flight() == [2]
    assert isinstance(world.begin(model="other")[1], Connect)

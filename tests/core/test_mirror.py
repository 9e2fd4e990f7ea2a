"""Copies for mirrors: who gets one, what it is counted in, and what bounds it."""

import pytest

from router.core.admission.token_bucket import BucketSpec
from router.core.cluster import CircuitBreaker
from router.core.events import Connect
from router.core.exchange import Exchange
from router.core.health.outlier import Outlier
from router.core.mirror import Mirror, Shadow, Skipped, begin
from tests.core.world import World, snapshot, spare

PER_MINUTE = BucketSpec(1000.0, 1000.0 / 60, 1000.0)


def world(mirror: Mirror, **cluster: object) -> World:
    spares = (spare("s", outlier=Outlier(consecutive_5xx=1), **cluster),)
    return World(snapshot(1, mirrors=(mirror,), spares=spares))


def copies(world: World, lacks: Skipped | None = None, **fields: object) -> list[Shadow]:
    exchange = begun(world, **fields)
    return begin(exchange, lacks, world.clock.now())


def begun(world: World, **fields: object) -> Exchange:
    exchange, effect = world.begin(**fields)
    assert isinstance(effect, Connect)
    assert effect.endpoint.cluster == "c"
    return exchange


def skipped(world: World) -> dict[Skipped, int]:
    return dict(world.director.mirrored("all", "s").skipped)


def test_a_copy_counts_in_flight_and_in_nothing_else() -> None:
    at = world(Mirror(cluster="s"))
    [shadow] = copies(at)
    host = next(host for host in at.fleet.hosts.values() if host.endpoint.cluster == "s")
    places, state = at.director.places("s"), at.director.mirrored("all", "s")
    assert (host.in_flight, places.in_flight, state.in_flight) == (1, 1, 1)
    for _ in range(2):  # the second changes nothing
        shadow.end("failed", None, 1.0)
    assert (host.in_flight, places.in_flight, state.in_flight) == (0, 0, 0)
    assert host.total == 0
    assert not any(at.fleet.failures.values())  # type: ignore[attr-defined]
    assert dict(state.ended) == {"failed": 1}


def test_a_share_of_the_requests() -> None:
    at = world(Mirror(cluster="s", percent=30))
    exchange = begun(at)
    taken = 0
    for _ in range(2000):
        for shadow in begin(exchange, None, 0.0):
            shadow.end("completed", None, 0.0)
            taken += 1
    assert taken / 2000 == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize("lacks", ["body", "memory"])
def test_what_the_driver_lacks(lacks: Skipped) -> None:
    at = world(Mirror(cluster="s"))
    assert copies(at, lacks) == []
    assert skipped(at) == {lacks: 1}


def test_no_more_than_max_in_flight() -> None:
    at = world(Mirror(cluster="s", max_in_flight=2))
    first = copies(at) + copies(at)
    assert copies(at) == []
    assert skipped(at) == {"in_flight": 1}
    first[0].end("completed", None, 1.0)
    assert len(copies(at)) == 1


def test_a_copy_takes_no_place_that_is_not_free() -> None:
    at = world(Mirror(cluster="s"), breaker=CircuitBreaker(max_connections=1))
    assert len(copies(at)) == 1
    assert copies(at) == []
    assert skipped(at) == {"saturated": 1}


def test_nobody_is_there_to_get_it() -> None:
    at = World(snapshot(1, mirrors=(Mirror(cluster="s"),), spares=(spare("s", 0),)))
    assert copies(at) == []
    assert skipped(at) == {"unavailable": 1}


def test_tokens_are_reserved_and_settled_by_what_it_came_to() -> None:
    at = world(Mirror(cluster="s", tokens=PER_MINUTE, assumed_tokens=300))
    [shadow] = copies(at, body_bytes=400)  # 100 of the prompt, 300 assumed
    [other] = copies(at, body_bytes=400, max_tokens=500)
    assert copies(at, body_bytes=400) == []  # 0 of 1000 left
    assert skipped(at) == {"tokens": 1}
    shadow.end("completed", 10, at.clock.now())  # 390 come back
    [third] = copies(at, body_bytes=40)
    third.end("completed", 2310, at.clock.now())  # beyond what was assumed: a debt
    other.end("cancelled", None, at.clock.now())  # nobody said: what was reserved is used
    assert at.director.mirrored("all", "s").tokens == 2320
    at.clock.advance(60)
    assert copies(at, body_bytes=40) == []
    at.clock.advance(60)
    assert len(copies(at, body_bytes=40)) == 1


def test_a_reload_may_take_the_mirror_away() -> None:
    at = world(Mirror(cluster="s"))
    exchange = begun(at)
    [shadow] = copies(at)
    at.director.update(snapshot(1, generation=2))
    assert begin(exchange, None, 1.0) == []
    shadow.end("completed", None, 1.0)
    assert at.director.mirrored("all", "s").in_flight == 0

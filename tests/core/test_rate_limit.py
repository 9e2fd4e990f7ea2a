"""Limits of requests: which apply, that they hold together, and what a client is told."""

import dataclasses

import pytest

from router.core.admission.rate_limit import Descriptor, RateLimit, Standing, Unit, span
from router.core.admission.token_bucket import BucketSpec, Draw, Verdict
from router.core.events import COMPLETE, CONNECT_FAILED, CONNECTED, Connect, Head, Reject
from router.core.exchange import Exchange
from router.core.retry.policy import RetryPolicy
from router.core.routing import Destination, Matcher, Route, RouteTable
from router.core.snapshot import Snapshot
from tests.core.world import World, request, snapshot, spare


def limit(
    capacity: float, rate: float, *per: str, unit: Unit = "requests", enforce: bool = True
) -> RateLimit:
    return RateLimit(
        name=f"{capacity:g} {unit}",
        bucket=BucketSpec(capacity, rate, capacity if unit == "tokens" else 0),
        per=tuple(map(Descriptor.parse, per)),
        unit=unit,
        enforce=enforce,
    )


def limited(*limits: RateLimit, tenants: dict[str, tuple[RateLimit, ...]] | None = None) -> World:
    plain = snapshot(1)
    route = Route(
        name="r",
        match=Matcher(),
        destinations=(Destination("c"),),
        limits=limits,
        retry=RetryPolicy(attempts=0),
    )
    return World(
        Snapshot(
            generation=1,
            clusters=plain.clusters,
            routes=RouteTable([route]),
            tenant_limits=tenants or {},
        )
    )


def served(world: World, **fields: object) -> Exchange:
    """One request that goes well."""
    exchange, effect = world.begin(**fields)
    if isinstance(effect, Connect):
        world.feed(exchange, CONNECTED)
        world.feed(exchange, Head(200))
        world.feed(exchange, COMPLETE)
    return exchange


def statuses(world: World, count: int, **fields: object) -> str:
    return "".join("." if served(world, **fields).status == 200 else "x" for _ in range(count))


@pytest.mark.parametrize(
    ("per", "has", "lacks"),
    [
        ("tenant", {"tenant": "a"}, {}),
        ("tenant=a", {"tenant": "a"}, {"tenant": "b"}),
        ("model", {"model": "m"}, {}),
        ("model=m", {"model": "m"}, {"model": "n"}),
        ("user", {"user": "u"}, {}),
        ("address", {"client": "10.0.0.1"}, None),
        ("header:X-Team", {"headers": ((b"x-team", b"a"),)}, {}),
        ("header:x-team=a", {"headers": ((b"x-team", b"a"),)}, {"headers": ((b"x-team", b"b"),)}),
        ("key", {"headers": ((b"authorization", b"Bearer k"),)}, {"headers": ((b"x-k", b"k"),)}),
        ("key", {"headers": ((b"x-api-key", b"k"),)}, {}),
    ],
)
def test_a_limit_applies_only_where_its_descriptors_are(
    per: str, has: dict[str, object], lacks: dict[str, object] | None
) -> None:
    world = limited(limit(1, 0.001, per))
    assert statuses(world, 2, **has) == ".x"
    if lacks is not None:
        assert statuses(world, 2, **lacks) == ".."
    assert str(Descriptor.parse(per)) == per.lower()


@pytest.mark.parametrize("text", ["tenants", "header", "header:", "model:x", "route"])
def test_there_are_no_other_descriptors(text: str) -> None:
    with pytest.raises(ValueError):
        Descriptor.parse(text)


def test_values_of_several_descriptors_are_kept_apart() -> None:
    both = limit(1, 0.001, "user", "model")
    assert both.key(request(user="ab", model="c")) != both.key(request(user="a", model="bc"))
    assert both.key(request(user="a")) is None


def test_nested_limits_give_together_or_not_at_all() -> None:
    """Three requests of one model are allowed, six of one tenant."""
    world = limited(limit(6, 0.001, "tenant"), limit(3, 0.001, "tenant", "model"))
    assert statuses(world, 5, tenant="t", model="a") == "...xx"
    assert statuses(world, 5, tenant="t", model="b") == "...xx", "a's refusals took nothing"
    assert statuses(world, 1, tenant="t", model="c") == "x"
    assert statuses(world, 1, tenant="u", model="c") == "."


def test_a_tenants_limits_stand_beside_the_routes() -> None:
    world = limited(limit(4, 0.001), tenants={"a": (limit(2, 0.001),)})
    assert statuses(world, 3, tenant="a") == "..x"
    assert statuses(world, 3, tenant="b") == "..x", "the route's four are used up"
    assert world.director.limiter.counts.refused == {"2 requests": 1, "4 requests": 1}


def test_a_clusters_limits_hold_for_all_routes_that_send_there() -> None:
    plain = snapshot(2, limits=(limit(4, 0.001),), spares=(spare("d"),))

    def route(name: str, cluster: str, *limits: RateLimit) -> Route:
        return Route(
            name=name,
            match=Matcher(model=name),
            destinations=(Destination(cluster),),
            limits=limits,
            retry=RetryPolicy(attempts=0),
        )

    routes = RouteTable([route("a", "c"), route("b", "c", limit(3, 0.001)), route("x", "d")])
    world = World(dataclasses.replace(plain, routes=routes))
    assert statuses(world, 2, model="a") == ".."
    assert statuses(world, 3, model="b") == "..x", "the cluster's four are used up"
    assert statuses(world, 1, model="a") == "x"
    assert statuses(world, 3, model="x") == "...", "another cluster"
    assert world.director.limiter.counts.refused == {"4 requests": 2}
    # What the cluster refused took nothing from the route.
    [of_route, of_cluster] = world.director.limiter.limits(world.begin(model="b")[0])
    level = world.director.limiter.store.level(of_route.own_key, of_route.bucket, world.clock.now())
    assert level == pytest.approx(1, abs=0.01)
    assert of_cluster.name == "4 requests"


def test_a_reload_changes_a_clusters_limits_and_keeps_what_was_used() -> None:
    world = World(snapshot(1, limits=(limit(2, 0.001),)))
    assert statuses(world, 3) == "..x"
    world.director.update(snapshot(1, generation=2))
    assert statuses(world, 3) == "..."
    world.director.update(snapshot(1, generation=3, limits=(limit(2, 0.001),)))
    assert statuses(world, 1) == "x"


def test_a_limit_that_is_not_enforced_counts_and_lets_pass() -> None:
    world = limited(limit(1, 1 / 60, enforce=False))
    exchanges = [served(world) for _ in range(3)]
    assert [exchange.status for exchange in exchanges] == [200] * 3
    assert world.director.limiter.counts.passed == {"1 requests": 2}
    for exchange in exchanges:
        assert exchange.standing is not None
        assert exchange.standing.headers()[1:3] == (
            b"x-ratelimit-remaining: 0",
            b"x-ratelimit-reset: 60",
        )


def test_a_request_that_no_endpoint_saw_gets_its_token_back() -> None:
    world = limited(limit(1, 0.001))
    exchange, effect = world.begin()
    assert isinstance(effect, Connect)
    world.feed(exchange, CONNECT_FAILED)
    assert exchange.status == 503
    assert statuses(world, 2) == ".x"


def standing(*said: tuple[RateLimit, Verdict]) -> Standing:
    limits, verdicts = zip(*said, strict=True)
    return Standing(limits, tuple(Draw(1, one.bucket, 1) for one in limits), verdicts)


def test_headers_say_what_envoy_and_openai_say() -> None:
    """Envoy's reset is 0 while tokens remain, else whole seconds to the next: 30 for 2 per 60 s.
    OpenAI's is when the bucket is full."""
    slow = limit(2, 2 / 60)
    assert standing((slow, Verdict(True, 1.0, 0.0))).headers()[1:3] == (
        b"x-ratelimit-remaining: 1",
        b"x-ratelimit-reset: 0",
    )
    assert standing((slow, Verdict(True, 0.0, 0.0))).headers() == (
        b"x-ratelimit-limit: 2",
        b"x-ratelimit-remaining: 0",
        b"x-ratelimit-reset: 30",
        b"x-ratelimit-limit-requests: 2",
        b"x-ratelimit-remaining-requests: 0",
        b"x-ratelimit-reset-requests: 1m0s",
    )


def test_headers_tell_of_both_units() -> None:
    asked, spent = limit(10, 1), limit(1000, 10, unit="tokens")
    both = standing((asked, Verdict(True, 9.0, 0.0)), (spent, Verdict(True, 400.0, 0.0)))
    assert both.headers() == (
        b"x-ratelimit-limit: 10",
        b"x-ratelimit-remaining: 9",
        b"x-ratelimit-reset: 0",
        b"x-ratelimit-limit-requests: 10",
        b"x-ratelimit-remaining-requests: 9",
        b"x-ratelimit-reset-requests: 1s",
        b"x-ratelimit-limit-tokens: 1000",
        b"x-ratelimit-remaining-tokens: 400",
        b"x-ratelimit-reset-tokens: 1m0s",
    )


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, b"0ms"), (0.02, b"20ms"), (1, b"1s"), (1.2, b"2s"), (60, b"1m0s"), (3661, b"1h1m1s")],
)
def test_spans(seconds: float, written: bytes) -> None:
    assert span(seconds) == written


def test_an_exchange_over_its_limit_is_429_and_never_reaches_an_endpoint() -> None:
    world = limited(limit(2, 0.5, "model"))
    assert isinstance(world.begin(model="m")[1], Connect)
    assert isinstance(world.begin(model="m")[1], Connect)
    exchange, effect = world.begin(model="m")
    assert isinstance(effect, Reject)
    assert (effect.error.status, exchange.flag) == (429, "RL")
    assert effect.error.retry_after == 2
    assert b"x-ratelimit-remaining: 0" in effect.error.headers
    assert world.in_flight() == [2]
    assert isinstance(world.begin(model="other")[1], Connect)

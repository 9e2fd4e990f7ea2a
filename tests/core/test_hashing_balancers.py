"""Ring and Maglev, placed by a second computation that shares nothing with the first one.

The rules are those of Envoy, whose placement of these very keys was recorded and agreed with this
computation, in all of 180 requests.
"""

import math
import random
from collections import Counter
from typing import Any

import msgspec
import pytest
import xxhash

from router.core.balancers import maglev, ring_hash
from router.core.balancers.base import Balancer, BalancerSpec
from router.core.balancers.maglev import Maglev
from router.core.balancers.ring_hash import RingHash
from router.core.hash_key import HashKey
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest
from tests.core.world import hosts, request

KEYS = [f"k{number}" for number in range(60)]
SPECS: list[BalancerSpec] = [
    RingHash.Spec(key=("header:x-key",)),
    Maglev.Spec(key=("header:x-key",)),
]
RNG = random.Random(1)


def xx(text: str, seed: int = 0) -> int:
    return xxhash.xxh64_intdigest(text.encode(), seed=seed)


def keyed(key: str) -> LlmRequest:
    return request(headers=((b"x-key", key.encode()),))


def build(spec: BalancerSpec) -> Balancer:
    return spec.build(random.Random(1), ClusterMemory.alone(64))


def placed(balancer: Balancer, ring: tuple[HostState, ...]) -> list[str]:
    return [balancer.pick(keyed(key), ring, RNG)[0].endpoint.address for key in KEYS]


def settle(balancer: Balancer, ring: tuple[HostState, ...]) -> None:
    """Requests during which a table is built."""
    for _ in range(80):
        balancer.pick(keyed("-"), ring, RNG)


# --- the second computation: dictionaries and linear search, as plain as can be ---------------


def on_ring(weights: dict[str, int], minimum: int = 1024, maximum: int = 16384) -> list[str]:
    total = sum(weights.values())
    least = min(weights.values()) / total
    scale = min(math.ceil(least * minimum) / least, maximum)
    points: dict[int, str] = {}
    target = 0.0
    for address, weight in weights.items():
        target += scale * (weight / total)
        count = 0
        while len(points) < target:
            points[xx(f"{address}_{count}")] = address
            count += 1
    ordered = sorted(points)
    return [
        points[next((point for point in ordered if point >= xx(key)), ordered[0])] for key in KEYS
    ]


def by_maglev(weights: dict[str, int], size: int = 65537) -> list[str]:
    total = sum(weights.values())
    most = max(weights.values()) / total
    table: dict[int, str] = {}
    position = dict.fromkeys(sorted(weights), 0)
    target = dict.fromkeys(position, 0.0)
    lap = 0
    while len(table) < size:
        lap += 1
        for address in position:
            if lap * (weights[address] / total) < target[address] or len(table) == size:
                continue
            target[address] += most
            while True:
                skip = xx(address, 1) % (size - 1) + 1
                slot = (xx(address) + skip * position[address]) % size
                position[address] += 1
                if slot not in table:
                    table[slot] = address
                    break
    return [table[xx(key) % size] for key in KEYS]


def weights_of(ring: tuple[HostState, ...]) -> dict[str, int]:
    return {host.endpoint.address: host.weight for host in ring}


@pytest.mark.parametrize("weights", [(1,), (1, 1, 1), (5, 2, 1), (3, 1, 1, 1, 7), (1,) * 40])
def test_the_ring_places_every_key_where_envoy_would(weights: tuple[int, ...]) -> None:
    ring = hosts(*weights)
    assert placed(build(SPECS[0]), ring) == on_ring(weights_of(ring))


@pytest.mark.parametrize("weights", [(1,), (1, 1, 1), (5, 2, 1), (3, 1, 1, 1, 7)])
def test_maglev_places_every_key_where_envoy_would(weights: tuple[int, ...]) -> None:
    ring = hosts(*weights)
    spec = Maglev.Spec(key=("header:x-key",), table_size=5003)
    assert placed(build(spec), ring) == by_maglev(weights_of(ring), 5003)
    if weights == (1, 1, 1):
        assert placed(build(SPECS[1]), ring) == by_maglev(weights_of(ring))


@pytest.mark.parametrize(("spec", "expected"), [(SPECS[0], on_ring), (SPECS[1], by_maglev)])
def test_an_endpoint_goes_and_comes_back(spec: BalancerSpec, expected: Any) -> None:
    ring = hosts(1, 1, 1)
    balancer = build(spec)
    before = placed(balancer, ring)
    left = ring[:1] + ring[2:]
    # From the first request on, the one that is gone gets none.
    assert ring[1].endpoint.address not in placed(balancer, left)
    settle(balancer, left)
    without = placed(balancer, left)
    assert without == expected(weights_of(left))
    stayed = sum(a == b for a, b in zip(before, without, strict=True))
    assert stayed >= 60 - before.count(ring[1].endpoint.address) - 15
    settle(balancer, ring)
    assert placed(balancer, ring) == before


def test_a_small_ring_is_capped_and_the_lightest_decides_the_scale() -> None:
    light = hosts(1, 1000)
    for maximum, points in ((16384, 1026), (100, 100)):
        balancer = RingHash(RingHash.Spec(key=("user",), maximum_ring_size=maximum))
        balancer.pick(request(user="a"), light, RNG)
        scale = min(math.ceil(1024 / 1001) * 1001, maximum)
        assert repr(balancer) == f"<RingHash {scale} points, 2 hosts>"
        assert scale <= 2 * points


@pytest.mark.parametrize("spec", SPECS)
def test_keys_spread_by_weight(spec: BalancerSpec) -> None:
    ring = hosts(4, 1, 1, 2)
    balancer = build(spec)
    picks = Counter(
        balancer.pick(keyed(f"key-{number}"), ring, RNG)[0].slot for number in range(8000)
    )
    for slot, weight in enumerate((4, 1, 1, 2)):
        assert abs(picks[slot] / 8000 - weight / 8) < 0.05


@pytest.mark.parametrize("spec", SPECS)
def test_a_request_without_a_key_goes_anywhere(spec: BalancerSpec) -> None:
    ring = hosts(1, 1, 1)
    balancer, rng = build(spec), random.Random(12345)
    picks: Counter[int] = Counter()
    for _ in range(3000):
        host, reason = balancer.pick(request(), ring, rng)
        assert reason == "random, no hash key"
        picks[host.slot] += 1
    assert all(abs(picks[slot] - 1000) < 250 for slot in range(3))


@pytest.mark.parametrize("spec", SPECS)
def test_a_retry_goes_elsewhere_and_always_to_the_same_place(spec: BalancerSpec) -> None:
    ring = hosts(1, 1, 1, 1)
    balancer = build(spec)
    for key in KEYS:
        first, _ = balancer.pick(keyed(key), ring, RNG)
        second, _ = balancer.pick(keyed(key), ring, RNG, (first.id,))
        third, _ = balancer.pick(keyed(key), ring, RNG, (first.id, second.id))
        assert len({first, second, third}) == 3
        assert balancer.pick(keyed(key), ring, RNG, (first.id,))[0] is second
    everywhere = tuple(host.id for host in ring)
    assert balancer.pick(keyed("k"), ring, RNG, everywhere)[0] in ring


def test_a_retry_on_the_ring_takes_the_next_points_owner() -> None:
    ring = hosts(1, 1, 1)
    balancer = build(SPECS[0])
    points = sorted(
        (xx(f"{host.endpoint.address}_{k}"), host.slot) for host in ring for k in range(342)
    )
    for key in KEYS:
        first, _ = balancer.pick(keyed(key), ring, RNG)
        turned = [slot for point, slot in points if point >= xx(key)] + [s for _, s in points]
        following = next(slot for slot in turned if slot != first.slot)
        assert balancer.pick(keyed(key), ring, RNG, (first.id,))[0].slot == following


def test_a_retry_of_maglev_flips_the_key_as_envoy_does() -> None:
    ring = hosts(1, 1, 1)
    balancer = build(SPECS[1])
    table = maglev.Table(ring, 65537)
    while not table.grow():
        pass
    for key in KEYS:
        first, _ = balancer.pick(keyed(key), ring, RNG)
        flips = (table.owner(xx(key) ^ ~0 % 2**64 - attempt + 1) for attempt in range(1, 16))
        assert balancer.pick(keyed(key), ring, RNG, (first.id,))[0] is next(
            host for host in flips if host is not first
        )


def test_a_popular_key_stays_within_the_balance_factor() -> None:
    ring = hosts(1, 1, 1, 1)
    balancer = RingHash(RingHash.Spec(key=("user",), hash_balance_factor=150))
    alone, _ = balancer.pick(request(user="a"), ring, RNG)
    for count in range(1, 201):
        host, _ = balancer.pick(request(user="a"), ring, RNG)
        host.in_flight += 1
        assert max(h.in_flight for h in ring) <= math.ceil(count * 1.5 / 4)
    assert alone.in_flight == max(h.in_flight for h in ring)


def test_a_ring_is_not_built_again_for_the_same_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = hosts(1, 1, 1)
    balancer = build(SPECS[0])
    before = placed(balancer, ring)
    monkeypatch.setattr(ring_hash, "xxh64_intdigest", None)  # whoever builds, fails
    assert placed(balancer, (*ring,)) == before
    ring[0].weight = 2
    with pytest.raises(TypeError):
        balancer.pick(keyed("k"), (*ring,), RNG)


def test_a_maglev_table_grows_with_the_requests_while_the_old_one_serves() -> None:
    ring = hosts(1, 1, 1)
    balancer = build(SPECS[1])
    balancer.pick(keyed("k"), ring, RNG)
    assert repr(balancer) == "<Maglev 65537 entries, 3 hosts, complete>"
    left = ring[:2]
    growing = 0
    while True:
        balancer.pick(keyed("k"), left, RNG)
        if repr(balancer).endswith("complete>"):
            break
        growing += 1
    assert 32 < growing < 80
    balancer.pick(keyed("k"), ring, RNG)
    assert repr(balancer) == "<Maglev 65537 entries, 3 hosts, complete>", "tables are kept"


def test_one_heavy_endpoint_among_many_does_not_cost_a_round_for_each_entry() -> None:
    ring = hosts(1_000_000, *[1] * 500)
    table = maglev.Table(ring, 65537)
    while not table.grow():
        pass
    counts = Counter(table.entries)
    heavy = next(number for number, host in enumerate(table.hosts) if host.weight > 1)
    assert counts[heavy] == 65537 - 500
    assert set(counts.values()) == {1, 65537 - 500}


@pytest.mark.parametrize("size", [0, 1, 100, 65536, 1_048_574, 5_000_011])
def test_a_table_size_is_a_prime_within_limits(size: int) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"type": "maglev", "table_size": size}, Maglev.Spec)


def test_explanations_agree_with_the_picks() -> None:
    ring = hosts(2, 1, 1)
    by_ring, by_table = (spec.build(RNG, ClusterMemory.alone(64)) for spec in SPECS)
    assert isinstance(by_ring, RingHash)
    assert isinstance(by_table, Maglev)
    for key in KEYS[:20]:
        scores = by_ring.explain(keyed(key), ring)
        order = sorted(scores.hosts, key=lambda id_: scores.hosts[id_]["order"])
        first, _ = by_ring.pick(keyed(key), ring, RNG)
        second, _ = by_ring.pick(keyed(key), ring, RNG, (first.id,))
        assert order[:2] == [first.id, second.id]
        assert by_table.explain(keyed(key), ring).notes["entry"] == xx(key) % 65537
    points = [scores.hosts[host.id]["points"] for host in ring]
    entries = [by_table.explain(request(), ring).hosts[host.id]["entries"] for host in ring]
    assert points == [512, 256, 256]
    assert sum(int(count) for count in entries) == 65537
    assert by_ring.explain(request(), ring).notes == {"key": "none: any point of the ring"}


ALICE = {"user": "alice", "client": "10.1.1.1", "prefix_hash": 77}
HEADERS = {"headers": ((b"x-key", b"v"), (b"cookie", b"a=b; sid=s1"), (b"x-empty", b""))}


def rotated(value: int) -> int:
    return (value * 2 + (value >> 63)) % 2**64


@pytest.mark.parametrize(
    ("sources", "combine", "fields", "key"),
    [
        (("prefix",), "all", ALICE, 77),
        (("prefix",), "all", {}, None),
        (("user",), "all", ALICE, xx("alice")),
        (("source_ip",), "all", ALICE, xx("10.1.1.1")),
        (("source_ip",), "all", {"client": "-"}, None),
        (("header:X-Key",), "all", HEADERS, xx("v")),
        (("header:x-empty",), "all", HEADERS, None),
        (("cookie:sid",), "all", HEADERS, xx("s1")),
        (("cookie:other",), "all", HEADERS, None),
        (("user", "source_ip"), "all", ALICE, rotated(xx("alice")) ^ xx("10.1.1.1")),
        (("cookie:sid", "user"), "all", ALICE, xx("alice")),
        (("cookie:sid", "user"), "first", ALICE, xx("alice")),
        (("user", "source_ip"), "first", ALICE, xx("alice")),
    ],
)
def test_hash_keys(sources: Any, combine: Any, fields: dict[str, Any], key: int | None) -> None:
    assert HashKey(sources, combine).of(request(**fields)) == key

"""Balancers by their distributions, with fixed seeds, against Envoy's where it was observed."""

import importlib
import pkgutil
import random
from collections import Counter

import pytest

from router.core import balancers
from router.core.affinity import AffinityTable
from router.core.balancers import REGISTRY
from router.core.balancers.base import Balancer, BalancerSpec
from router.core.balancers.cache_aware import CacheAware
from router.core.balancers.chwbl import Chwbl
from router.core.balancers.edf import EdfSchedule
from router.core.balancers.least_request import LeastRequest
from router.core.balancers.peak_ewma import PeakEwma
from router.core.balancers.prefix_hash import PrefixHash
from router.core.balancers.ring_hash import RingHash
from router.core.balancers.round_robin import RoundRobin
from router.core.host import HostState, Latency
from router.core.memory import ClusterMemory
from tests.core.world import hosts, request


def build(spec: BalancerSpec, seed: int = 1) -> Balancer:
    return spec.build(random.Random(seed), ClusterMemory.alone(1024))


def test_every_balancer_file_is_in_the_registry() -> None:
    specs = {
        member.Spec
        for module in pkgutil.iter_modules(balancers.__path__)
        for member in vars(importlib.import_module(f"router.core.balancers.{module.name}")).values()
        if isinstance(spec := getattr(member, "Spec", None), type)
        and issubclass(spec, BalancerSpec)
    }
    assert specs == {balancer.Spec for balancer in REGISTRY}


def test_round_robin_takes_turns_from_a_random_start() -> None:
    ring = hosts(1, 1, 1)
    starts = set()
    for seed in range(20):
        balancer = build(RoundRobin.Spec(), seed)
        picks = [balancer.pick(request(), ring, random.Random(0))[0].slot for _ in range(6)]
        assert picks[:3] == picks[3:]
        assert sorted(picks[:3]) == [0, 1, 2]
        starts.add(picks[0])
    assert starts == {0, 1, 2}


def test_weighted_rotation_interleaves_as_envoy_was_seen_to() -> None:
    ring = hosts(5, 2, 1)
    schedule = EdfSchedule(ring, lambda host: host.weight)
    picks = "".join(str(schedule.next().slot) for _ in range(24))
    assert Counter(picks) == {"0": 15, "1": 6, "2": 3}
    # Envoy 1.40 repeats 0 0 0 1 0 0 2 1; where in the cycle it starts is chance.
    assert "00010021" in picks


@pytest.mark.parametrize("spec", [RoundRobin.Spec(), LeastRequest.Spec()])
def test_weights_are_exact_when_requests_do_not_overlap(spec: BalancerSpec) -> None:
    ring = hosts(5, 2, 1)
    balancer = build(spec)
    picks = Counter(balancer.pick(request(), ring, random.Random(0))[0].slot for _ in range(400))
    assert picks == {0: 250, 1: 100, 2: 50}


@pytest.mark.parametrize("balancer", [one.Spec() for one in REGISTRY])
@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (5, 2, 1), (1, 1, 10), (3, 3)])
def test_every_balancer_honours_weights(balancer: BalancerSpec, weights: tuple[int, ...]) -> None:
    """Of many different requests, one after the other, each endpoint gets its share.

    The sum of squared deviations over the expectation stays below what chance exceeds once in
    100,000 times with as many degrees of freedom; rings are uneven by themselves.
    """
    ring = hosts(*weights)
    for host in ring:
        host.latency = Latency(10.0, 0.1, 10.0)
    picker, rng = build(balancer), random.Random(12345)
    count = 8000
    picks = Counter(
        picker.pick(request(prefix_hash=rng.getrandbits(64)), ring, rng)[0].slot
        for _ in range(count)
    )
    expected = [count * weight / sum(weights) for weight in weights]
    if isinstance(balancer, RingHash.Spec | Chwbl.Spec):
        assert all(abs(picks[n] - share) < 0.2 * share for n, share in enumerate(expected))
    else:
        off = sum((picks[n] - share) ** 2 / share for n, share in enumerate(expected))
        assert off < {2: 19.6, 3: 23.1, 4: 25.9}[len(weights)], picks


@pytest.mark.parametrize("balancer", [PrefixHash.Spec(), PeakEwma.Spec(), CacheAware.Spec()])
def test_where_load_decides_it_is_load_by_weight(balancer: BalancerSpec) -> None:
    """Requests that never end: in flight are as many as the weights say.

    Not so with least_request, whose weight is Envoy's: divided by the load, at each turn.
    """
    ring = hosts(5, 2, 1)
    picker, rng = build(balancer), random.Random(12345)
    for _ in range(800):
        asked = request(prefix_hash=rng.getrandbits(64))
        picker.pick(asked, ring, rng)[0].in_flight += 1
    assert [host.in_flight for host in ring] == pytest.approx([500, 200, 100], rel=0.1)


def test_two_choices_prefer_the_less_loaded() -> None:
    """One of four busy: it is picked only when both draws fall on it, 1 in 16."""
    ring = hosts(1, 1, 1, 1)
    ring[2].in_flight = 10
    balancer, rng = build(LeastRequest.Spec()), random.Random(12345)
    picks = Counter(balancer.pick(request(), ring, rng)[0].slot for _ in range(16_000))
    assert abs(picks[2] - 1000) < 150


def test_full_scan_never_picks_a_busier_host_and_breaks_ties_evenly() -> None:
    ring = hosts(1, 1, 1, 1)
    ring[0].in_flight = 1
    balancer, rng = build(LeastRequest.Spec(selection="full_scan")), random.Random(12345)
    picks = Counter(balancer.pick(request(), ring, rng)[0].slot for _ in range(9_000))
    assert picks[0] == 0
    assert all(abs(picks[slot] - 3000) < 200 for slot in (1, 2, 3))


def serve(balancer: Balancer, ring: tuple[HostState, ...], slow: int, steps: int) -> Counter[int]:
    """A discrete-event run: 100 requests a second, hosts answer at once but one takes 100 ms."""
    rng, picks = random.Random(12345), Counter[int]()
    finishing: list[tuple[int, HostState]] = []
    for step in range(steps):
        while finishing and finishing[0][0] <= step:
            finishing.pop(0)[1].in_flight -= 1
        host, _ = balancer.pick(request(), ring, rng)
        picks[host.slot] += 1
        if host.slot == slow:
            host.in_flight += 1
            finishing.append((step + 10, host))
    return picks


def test_a_slow_host_gets_as_little_as_envoy_gave_it() -> None:
    """Of 300 requests Envoy sent 52 to the slow one of three by two choices, 23 by full scan."""
    by_choices = serve(build(LeastRequest.Spec()), hosts(1, 1, 1), slow=2, steps=3000)
    by_scan = serve(
        build(LeastRequest.Spec(selection="full_scan")), hosts(1, 1, 1), slow=2, steps=3000
    )
    assert 0.13 < by_choices[2] / 3000 < 0.21
    assert 0.05 < by_scan[2] / 3000 < 0.11


class TestPrefixHash:
    def test_a_conversation_stays_and_a_new_one_goes_to_the_less_loaded(self) -> None:
        ring, rng = hosts(1, 1), random.Random(1)
        balancer = build(PrefixHash.Spec())
        first, reason = balancer.pick(request(prefix_hash=7 << 40), ring, rng)
        assert reason == "new session, least loaded"
        first.in_flight += 1
        other, _ = balancer.pick(request(prefix_hash=8 << 40), ring, rng)
        assert other is not first
        first.in_flight -= 1
        again, reason = balancer.pick(request(prefix_hash=7 << 40), ring, rng)
        assert again is first
        assert reason == "prefix hit"

    def test_no_host_goes_beyond_its_bound(self) -> None:
        """Everybody has the same prefix: load still spreads within 1.25 of the mean."""
        ring, rng = hosts(1, 1, 1, 1), random.Random(1)
        balancer = build(PrefixHash.Spec())
        for count in range(1, 201):
            host, _ = balancer.pick(request(prefix_hash=99), ring, rng)
            host.in_flight += 1
            assert max(h.in_flight for h in ring) <= -(-count * 1.25 // 4)

    def test_weights_scale_the_bound(self) -> None:
        ring, rng = hosts(3, 1), random.Random(1)
        balancer = build(PrefixHash.Spec())
        for _ in range(400):
            balancer.pick(request(prefix_hash=99), ring, rng)[0].in_flight += 1
        assert ring[1].in_flight <= 1.25 * 100 + 1

    def test_a_retry_moves_the_conversation(self) -> None:
        ring, rng = hosts(1, 1, 1), random.Random(1)
        balancer = build(PrefixHash.Spec())
        first, _ = balancer.pick(request(prefix_hash=5), ring, rng)
        second, _ = balancer.pick(request(prefix_hash=5), ring, rng, (first.id,))
        assert second is not first
        assert balancer.pick(request(prefix_hash=5), ring, rng) == (second, "prefix hit")

    @pytest.mark.parametrize(
        ("key", "fields"),
        [
            ("user", {"user": "alice"}),
            ("header:X-Session", {"headers": ((b"x-session", b"s1"),)}),
            ("cookie:sid", {"headers": ((b"cookie", b"a=b; sid=s1"),)}),
        ],
    )
    def test_other_keys(self, key: str, fields: dict[str, object]) -> None:
        ring, rng = hosts(1, 1, 1, 1), random.Random(1)
        balancer = build(PrefixHash.Spec(key=key))
        first, _ = balancer.pick(request(**fields), ring, rng)
        assert balancer.pick(request(**fields), ring, rng) == (first, "prefix hit")
        assert balancer.pick(request(), ring, rng)[1] == "least loaded, no session key"

    def test_hash_mode_agrees_between_processes_and_moves_only_lost_keys(self) -> None:
        ring, rng = hosts(1, 1, 1, 1), random.Random(1)
        one, two = (build(PrefixHash.Spec(new_sessions="hash"), seed) for seed in (1, 2))
        keys = [random.Random(key).getrandbits(64) for key in range(400)]
        before = {key: one.pick(request(prefix_hash=key), ring, rng)[0] for key in keys}
        assert all(two.pick(request(prefix_hash=k), ring, rng)[0] is h for k, h in before.items())
        assert all(70 < count < 130 for count in Counter(h.slot for h in before.values()).values())
        rest = ring[1:]
        for key, host in before.items():
            if host is not ring[0]:
                assert one.pick(request(prefix_hash=key), rest, rng)[0] is host


def test_affinity_table_remembers_is_bounded_and_rejects_odd_sizes() -> None:
    table = AffinityTable.of_size(64)
    rng = random.Random(3)
    keys = [rng.getrandbits(64) for _ in range(10_000)]
    for key in keys:
        table.put(key, key % 1000)
        assert table.get(key) == key % 1000
    assert len(table) == 64
    assert sum(table.get(key) == key % 1000 for key in keys) <= 64
    table.put(0, 0)  # an all-zero tag is a tag like any other
    assert table.get(0) == 0
    with pytest.raises(ValueError, match="power of two"):
        AffinityTable.of_size(100)

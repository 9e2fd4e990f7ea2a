"""KubeAI's consistent hashing with bounded loads, against a second computation of its rules."""

import random
from collections import Counter
from typing import Any

import msgspec
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.balancers import chwbl
from router.core.balancers.chwbl import Chwbl
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest
from tests.core.rivals import Stage, prompt
from tests.core.world import hosts, request

RNG = random.Random(1)


def built(**fields: Any) -> Chwbl:
    balancer = Chwbl.Spec(**fields).build(RNG, ClusterMemory.alone(64))
    assert isinstance(balancer, Chwbl)
    return balancer


def keyed(number: int) -> LlmRequest:
    return request(prefix_hash=random.Random(number).getrandbits(64))


def expected(ring: tuple[HostState, ...], key: int, replication: int = 256) -> HostState:
    """KubeAI's rules, as plain as can be: the whole ring in order, the load checked at each."""
    points = sorted(
        (xxhash.xxh64_intdigest(f"{host.endpoint.address}{n}".encode()), host.slot)
        for host in ring
        for n in range(replication)
    )
    turned = [slot for point, slot in points if point >= key] + [slot for _, slot in points]
    total = sum(host.in_flight for host in ring)
    for slot in turned:
        if total == 0 or ring[slot].in_flight + 1 <= (total + 1) / len(ring) * 1.25:
            return ring[slot]
    return ring[turned[0]]


@settings(deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=9), st.integers(0, 2**64 - 1))
def test_a_key_goes_where_kubeai_would_send_it(loads: list[int], key: int) -> None:
    ring = hosts(*[1] * len(loads))
    for host, load in zip(ring, loads, strict=True):
        host.in_flight = load
    picked, _ = built().pick(request(prefix_hash=key), ring, RNG)
    assert picked is expected(ring, key)


def test_a_popular_key_spreads_once_there_is_a_request_for_each_endpoint() -> None:
    ring, balancer = hosts(1, 1, 1, 1), built()
    home, reason = balancer.pick(keyed(7), ring, RNG)
    assert reason == "hash"
    # 1.25 times the mean is less than one request: the bound is rounded down and nobody has it.
    for count in range(1, 4):
        home.in_flight = count - 1
        assert balancer.pick(keyed(7), ring, RNG) == (home, "hash")
    home.in_flight = 3
    spilled, reason = balancer.pick(keyed(7), ring, RNG)
    assert spilled is not home
    assert reason == "hash, next on the ring"
    for count in range(4, 400):
        host, _ = balancer.pick(keyed(7), ring, RNG)
        host.in_flight += 1
        assert max(one.in_flight for one in ring) <= max(3, 1.25 * (count + 1) / 4)


def test_weights_scale_shares_and_bounds() -> None:
    ring, balancer = hosts(4, 1, 1, 2), built()
    shares = Counter(balancer.pick(keyed(n), ring, RNG)[0].slot for n in range(8000))
    for slot, weight in enumerate((4, 1, 1, 2)):
        assert abs(shares[slot] / 8000 - weight / 8) < 0.04
    for _ in range(800):
        balancer.pick(keyed(7), ring, RNG)[0].in_flight += 1
    for host in ring:
        assert host.in_flight <= 1.25 * 801 * host.weight / 8


def test_only_the_keys_of_who_left_move() -> None:
    ring = hosts(1, 1, 1, 1)
    balancer = built()
    before = [balancer.pick(keyed(n), ring, RNG)[0] for n in range(500)]
    left = ring[:1] + ring[2:]
    after = [balancer.pick(keyed(n), left, RNG)[0] for n in range(500)]
    assert all(a is b for a, b in zip(before, after, strict=True) if a is not ring[1])
    assert len({host.slot for a, host in zip(before, after, strict=True) if a is ring[1]}) == 3


def test_a_retry_goes_on_round_the_ring() -> None:
    ring, balancer = hosts(1, 1, 1), built()
    for n in range(50):
        first, _ = balancer.pick(keyed(n), ring, RNG)
        second, _ = balancer.pick(keyed(n), ring, RNG, (first.id,))
        third, _ = balancer.pick(keyed(n), ring, RNG, (first.id, second.id))
        assert {first, second, third} == set(ring)
        everywhere = tuple(host.id for host in ring)
        assert balancer.pick(keyed(n), ring, RNG, everywhere)[0] in ring


def test_without_a_key_by_load() -> None:
    ring = hosts(1, 1, 1)
    ring[0].in_flight = ring[2].in_flight = 1
    assert built().pick(request(), ring, RNG) == (ring[1], "least loaded, no hash key")


def test_a_depth_puts_together_what_begins_alike() -> None:
    stage = Stage(Chwbl.Spec(depth=4), hosts(1, 1, 1, 1, 1, 1))
    asked = [prompt(n, 8, shared=4) for n in range(40)]
    assert len({stage.pick(one).slot for one in asked}) == 1
    deeper = Stage(Chwbl.Spec(depth=5), hosts(1, 1, 1, 1, 1, 1))
    assert len({deeper.pick(one).slot for one in asked}) == 6
    # What is shorter goes by its key, here the conversation.
    assert len({stage.pick(prompt(n, 3.5, shared=3)).slot for n in range(40)}) == 6


@pytest.mark.parametrize(("depth", "near"), [(9, 8), (15, 14), (1 << 40, 32768)])
def test_a_depth_is_one_that_prompts_are_hashed_at(depth: int, near: int) -> None:
    with pytest.raises(msgspec.ValidationError, match=f"such as {near}$"):
        msgspec.convert({"type": "chwbl", "depth": depth}, Chwbl.Spec)


def test_only_a_depth_reads_prompts() -> None:
    assert not Chwbl.Spec().reads_prompt
    assert Chwbl.Spec(depth=8).reads_prompt


def test_a_large_ring_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chwbl, "LARGEST", 1000)
    balancer = built()
    balancer.pick(keyed(1), hosts(*[1] * 40, 100), RNG)
    assert repr(balancer) in ("<Chwbl 994 points, 41 hosts>", "<Chwbl 1000 points, 41 hosts>")
    few = built()
    few.pick(keyed(1), hosts(1, 1), RNG)
    assert repr(few) == "<Chwbl 512 points, 2 hosts>"


def test_the_explanation_agrees_with_the_picks() -> None:
    stage = Stage(Chwbl.Spec(), hosts(1, 1, 1))
    for n in range(20):
        order = stage.column(keyed(n), "order")
        first = stage.pick(keyed(n))
        second = stage.pick(keyed(n), first)
        assert (order[first.slot], order[second.slot]) == (1, 2)
    for host in stage.hosts:
        host.in_flight = 3
    assert stage.column(keyed(1), "bound") == pytest.approx([1.25 * 10 / 3] * 3)
    assert stage.column(keyed(1), "points") == [256] * 3
    assert stage.column(request(), "active") == [3, 3, 3]

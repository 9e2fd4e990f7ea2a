"""Dynamo's cost, by a second computation and as timelines. Numbers are tokens, 128 to a block."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.balancers.dynamo_cost import DynamoCost
from router.core.duration import Interval
from router.core.host import Lease, Outcome
from router.core.prefix.blocks import DEPTHS
from router.core.prefix.placements import Placements
from tests.core.rivals import Stage, prompt
from tests.core.world import hosts, request

BLOCK = 128


def test_what_is_to_be_computed_counts_until_the_first_token_and_what_is_used_to_the_end() -> None:
    stage = Stage(DynamoCost.Spec(), hosts(1, 1))
    asked = prompt(9, 2)
    lease = stage.send(prompt(1, 10.5), to=stage.hosts[0])
    assert stage.column(asked, "prefill") == [12.5 * BLOCK, 2 * BLOCK]
    assert stage.column(asked, "decode") == [12.5 * BLOCK, 2 * BLOCK]
    lease.first_byte(1.0, True)
    assert stage.column(asked, "prefill") == [2 * BLOCK, 2 * BLOCK]
    assert stage.column(asked, "decode") == [12.5 * BLOCK, 2 * BLOCK]
    lease.release(Outcome.SUCCESS, 2.0)
    assert stage.column(asked, "cost") == [4 * BLOCK, 4 * BLOCK]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_however_an_attempt_ends_nothing_is_left_of_it(outcome: Outcome) -> None:
    stage = Stage(DynamoCost.Spec(), hosts(1, 1))
    for heard in (False, True):
        lease = stage.send(prompt(1, 10), to=stage.hosts[0])
        if heard:
            lease.first_byte(1.0, False)
        lease.release(outcome, 2.0)
    assert stage.column(prompt(9, 2), "cost") == [4 * BLOCK, 4 * BLOCK]


def test_a_hit_is_worth_what_it_saves_and_no_more() -> None:
    stage = Stage(DynamoCost.Spec(), hosts(1, 1))
    holder, other = stage.hosts
    stage.serve(prompt(1, 16), to=holder)
    # Idle, the holder computes 4 blocks instead of 20.
    assert stage.pick(prompt(1, 20)) is holder
    # With 17 blocks ahead of it, nothing is gained by going there: 21 against 20, and more in use.
    stage.send(prompt(2, 17), to=holder)
    assert stage.pick(prompt(1, 20)) is other
    # For a longer hit it is worth it even so.
    stage.serve(prompt(3, 64), to=holder)
    assert stage.pick(prompt(3, 64)) is holder


def test_beginnings_that_are_in_use_are_counted_once() -> None:
    stage = Stage(DynamoCost.Spec(), hosts(1, 1))
    one = stage.send(prompt(1, 10, shared=8), to=stage.hosts[0])
    two = stage.send(prompt(2, 10, shared=8), to=stage.hosts[0])
    asked = prompt(3, 8.5, shared=8)
    # 8 + 2 + 2 blocks are in use; this one would add half a block there, all of it elsewhere.
    assert stage.column(asked, "decode") == [12.5 * BLOCK, 8.5 * BLOCK]
    one.release(Outcome.SUCCESS, 1.0)
    assert stage.column(asked, "decode") == [10.5 * BLOCK, 8.5 * BLOCK]
    two.release(Outcome.SUCCESS, 1.0)
    assert stage.column(asked, "decode") == [8.5 * BLOCK, 8.5 * BLOCK]


def test_a_prefix_is_forgotten_after_its_time() -> None:
    stage = Stage(DynamoCost.Spec(ttl=Interval(120)), hosts(1, 1, 1))
    holder = stage.serve(prompt(1, 8))
    stage.now = 119.0
    assert {stage.pick(prompt(1, 9)) for _ in range(20)} == {holder}
    stage.now = 122.0
    assert {stage.pick(prompt(1, 9)) for _ in range(50)} == set(stage.hosts)


def test_scale_and_credit() -> None:
    asked = prompt(1, 20)
    for scale, credit, expected in [(1.0, 1.0, 4), (2.0, 1.0, 8), (1.0, 0.5, 12), (0.0, 1.0, 0)]:
        spec = DynamoCost.Spec(prefill_load_scale=scale, overlap_score_credit=credit)
        stage = Stage(spec, hosts(1, 1))
        stage.serve(prompt(1, 16), to=stage.hosts[0])
        assert stage.column(asked, "prefill")[0] == expected * BLOCK


@settings(deadline=None)
@given(st.data())
def test_the_cost_is_the_one_of_its_definition(data: st.DataObject) -> None:
    """Turns of one conversation, begun, heard and ended in any order: what is cached is the longest
    turn sent, what is in use the longest in flight."""
    stage = Stage(DynamoCost.Spec(), hosts(1, 1, 1))
    depths = st.sampled_from(DEPTHS[:14])
    flying: list[tuple[Lease, int, int]] = []
    longest = [0, 0, 0]
    for _ in range(data.draw(st.integers(0, 12))):
        depth, slot = data.draw(depths), data.draw(st.integers(0, 2))
        lease = stage.send(prompt(1, depth), to=stage.hosts[slot])
        flying.append((lease, depth, max(0, depth - longest[slot])))
        longest[slot] = max(longest[slot], depth)
        for _ in range(data.draw(st.integers(0, 1))):
            data.draw(st.sampled_from(flying))[0].first_byte(0.0, True)
        for _ in range(data.draw(st.integers(0, 1))):
            flying.pop(data.draw(st.integers(0, len(flying) - 1)))[0].release(Outcome.SUCCESS)
    asked = data.draw(depths)
    costs = stage.column(prompt(1, asked), "cost")
    for slot, host in enumerate(stage.hosts):
        here = [row for row in flying if row[0].host is host]
        ahead = sum(fresh for lease, _, fresh in here if not lease.heard)
        in_use = max([asked, *(depth for _, depth, _ in here)])
        assert costs[slot] == (ahead + asked - min(asked, longest[slot]) + in_use) * BLOCK
    assert stage.pick(prompt(1, asked)).slot in [n for n in range(3) if costs[n] == min(costs)]


def test_equal_costs_are_drawn_by_weight_and_load_counts_by_it() -> None:
    stage = Stage(DynamoCost.Spec(), hosts(3, 1))
    picks = Counter(stage.pick(prompt(n, 4)).slot for n in range(4000))
    assert abs(picks[0] - 3000) < 150
    # Requests that never end: what is in use comes to the weights.
    for n in range(400):
        stage.send(prompt(n, 4))
    sent = [stage.memory.keep(Placements).outstanding(host.id).requests for host in stage.hosts]
    assert sent == pytest.approx([300, 100], rel=0.1)


def test_a_temperature_draws_and_the_cheaper_is_likelier() -> None:
    """A softmax of costs over their range: the dearest of two is e**(1/T) times less likely."""
    for temperature, expected in [(0.1, 0.0000454), (1.0, 0.2689), (100.0, 0.4975)]:
        stage = Stage(DynamoCost.Spec(temperature=temperature), hosts(1, 1))
        stage.send(prompt(1, 30), to=stage.hosts[0])
        picks = Counter(stage.pick(prompt(2, 4)).slot for _ in range(8000))
        assert abs(picks[0] / 8000 - expected) < 0.015
        assert stage.reason == "drawn by cost"
        assert {stage.pick(prompt(2, 4), stage.hosts[1]) for _ in range(50)} == {stage.hosts[0]}
        assert stage.pick(prompt(2, 4), *stage.hosts) in stage.hosts


def test_a_retry_goes_elsewhere() -> None:
    stage = Stage(DynamoCost.Spec(), hosts(1, 1, 1))
    stage.serve(prompt(1, 8), to=stage.hosts[1])
    assert stage.pick(prompt(1, 8)) is stage.hosts[1]
    assert stage.pick(prompt(1, 8), stage.hosts[1]) in (stage.hosts[0], stage.hosts[2])
    assert stage.pick(prompt(1, 8), *stage.hosts) is stage.hosts[1]


def test_requests_without_checkpoints_count_by_the_size_of_their_body() -> None:
    stage = Stage(DynamoCost.Spec(), hosts(1, 1))
    stage.send(request(body_bytes=4000), to=stage.hosts[0])
    assert stage.column(request(body_bytes=400), "cost") == [2200, 200]
    assert stage.pick(request(body_bytes=400)) is stage.hosts[1]


def test_an_endpoint_that_was_lost_is_empty_but_keeps_what_is_in_flight() -> None:
    stage = Stage(DynamoCost.Spec(), hosts(1, 1))
    lease = stage.send(prompt(1, 10, shared=4), to=stage.hosts[0])
    lease.first_byte(0.0, True)
    asked = prompt(2, 6, shared=4)
    assert stage.column(asked, "cost") == [(2 + 12) * BLOCK, 12 * BLOCK]
    stage.memory.lost(stage.hosts[0].id)
    assert stage.column(asked, "cost") == [(6 + 16) * BLOCK, 12 * BLOCK]
    later = stage.send(prompt(3, 10, shared=4), to=stage.hosts[0])
    lease.release(Outcome.RESET, 1.0)
    later.release(Outcome.SUCCESS, 1.0)
    assert stage.column(prompt(4, 2), "cost") == [4 * BLOCK] * 2


def test_nothing_is_kept_of_endpoints_that_are_gone() -> None:
    stage = Stage(DynamoCost.Spec(), hosts(*[1] * 50))
    placements = stage.memory.keep(Placements)
    leases = [stage.send(prompt(n, 4), to=host) for n, host in enumerate(stage.hosts)]
    for host in stage.hosts[:25]:
        stage.memory.lost(host.id)
    for lease in leases:
        lease.release(Outcome.SUCCESS, 1.0)
    for host in stage.hosts[25:]:
        stage.memory.lost(host.id)
    assert placements._outstanding == {}
    assert repr(placements.active) == "<ActivePrefixes 0 names at 0 endpoints>"

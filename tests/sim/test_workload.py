"""Traffic at the load that was asked for."""

from collections import Counter
from itertools import pairwise

import pytest

from router.sim.data import CONVERSATION
from router.sim.profile import PICOSECONDS
from router.sim.trace import Row, assemble, load
from router.sim.workload import APART, arrivals

TRACE = load(CONVERSATION)


@pytest.mark.parametrize("rate", [2.0, 3.0, 9.4])
def test_the_rate_is_met_by_more_users_not_by_faster_ones(rate: float) -> None:
    got = arrivals(TRACE, rate=rate, duration=TRACE.span, seed=1)
    assert len(got) == pytest.approx(rate * TRACE.span, rel=0.02)
    tokens = sum(one.prompt for one in got) / len(got)
    recorded = sum(one.prompt for one in TRACE.requests) / len(TRACE.requests)
    assert tokens == pytest.approx(recorded, rel=0.06)


def test_copies_share_system_prompts_and_nothing_else() -> None:
    got = arrivals(TRACE, rate=9.0, duration=600, seed=1)
    copies: dict[int, set[int]] = {}
    for one in got:
        copies.setdefault(one.conversation // APART, set()).update(one.blocks)
    assert len(copies) == 3
    first, second, third = copies.values()
    assert first & second == second & third == TRACE.common


def test_what_is_left_out_is_left_out_by_whole_conversations() -> None:
    whole = Counter(one.conversation for one in TRACE.requests)
    kept = Counter(one.conversation for one in arrivals(TRACE, rate=2, duration=TRACE.span, seed=1))
    assert 0 < len(kept) < len(whole)
    assert all(whole[conversation] == turns for conversation, turns in kept.items())


def test_rounded_times_are_spread_unless_they_are_wanted() -> None:
    spread = arrivals(TRACE, rate=3, duration=300, seed=1)
    raw = arrivals(TRACE, rate=3, duration=300, seed=1, smooth=False)
    assert len({one.at for one in spread}) == len(spread)
    assert len({one.at for one in raw}) < len(raw) / 3
    gaps = [later.at - one.at for one, later in pairwise(spread)]
    assert max(gaps) < 4 * PICOSECONDS


def test_they_come_in_order_and_a_seed_gives_the_same_again() -> None:
    once = arrivals(TRACE, rate=5, duration=200, seed=7)
    assert once == arrivals(TRACE, rate=5, duration=200, seed=7)
    assert once != arrivals(TRACE, rate=5, duration=200, seed=8)
    assert [one.at for one in once] == sorted(one.at for one in once)
    assert [one.key for one in once] == list(range(1, len(once) + 1))


def test_a_run_longer_than_the_trace_goes_on_with_new_content() -> None:
    trace = assemble(
        "t", 10, [Row(1000 * at, 30, 1, (1, 10 * at, 10 * at + 1)) for at in range(40)]
    )
    got = arrivals(trace, rate=trace.rate, duration=2 * trace.span, seed=1)
    assert len(got) == 2 * len(trace.requests)
    seconds = Counter(one.blocks[1] for one in got)
    assert set(seconds.values()) == {1}


@pytest.mark.parametrize(("rate", "duration"), [(1e5, 10), (1, 1e6)])
def test_a_trace_is_not_stretched_beyond_reason(rate: float, duration: float) -> None:
    with pytest.raises(ValueError, match="mooncake_conversation"):
        arrivals(TRACE, rate=rate, duration=duration, seed=1)


def test_a_trace_that_is_not_turned_comes_as_it_was_recorded() -> None:
    got = arrivals(TRACE, rate=TRACE.rate, duration=TRACE.span, seed=3, smooth=False, turned=False)
    assert [(one.at, one.prompt, one.blocks) for one in got] == [
        (one.at * PICOSECONDS // 1000, one.prompt, one.blocks) for one in TRACE.requests
    ]
    twice = arrivals(TRACE, rate=2 * TRACE.rate, duration=TRACE.span, seed=3, turned=False)
    assert sum(one.conversation < APART for one in twice) == len(TRACE.requests)

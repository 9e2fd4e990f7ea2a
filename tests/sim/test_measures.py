"""Figures of a run, of outcomes written by hand."""

import math

import pytest

from router.sim.curves import averaged, curves
from router.sim.measures import Goal, measure, quantile
from router.sim.outcome import End, Outcome
from router.sim.profile import HBM, picoseconds
from router.sim.summary import Estimate, estimate, summarize
from router.sim.workload import Arrival


def outcome(at: float, ttft: float = 0.1, tpot: float = 0.01, **fields: int | End) -> Outcome:
    arrival = Arrival(
        key=1,
        at=picoseconds(at),
        prompt=int(fields.get("prompt", 1000)),
        answer=11,
        blocks=(),
        conversation=0,
        stream=None if "stream" not in fields else bool(fields["stream"]),
    )
    end = fields.get("end", End.DONE)
    assert isinstance(end, End)
    return Outcome(
        arrival=arrival,
        end=end,
        replica=0,
        attempts=1,
        cached=int(fields.get("cached", 0)),
        first=picoseconds(at + ttft),
        done=picoseconds(at + ttft + 10 * tpot),
        crowd=2.0,
    )


def test_only_what_came_in_the_time_is_measured() -> None:
    figures = measure([outcome(1), outcome(4), outcome(5), outcome(9)], HBM, 4, 9)
    assert figures.requests == 2
    assert measure([outcome(1), outcome(9)], HBM, 4).requests == 1


def test_hits_are_counted_in_tokens() -> None:
    figures = measure([outcome(1, prompt=900, cached=500), outcome(2, prompt=100)], HBM, 0)
    assert figures.hit_rate == 0.5


def test_tokens_are_those_of_whole_answers() -> None:
    figures = measure(
        [outcome(1, prompt=900, cached=500), outcome(2), outcome(3, end=End.FAILED)], HBM, 0
    )
    assert (figures.prompt_tokens, figures.computed_tokens) == (1900, 1400)
    assert figures.answer_tokens == 22


def test_who_is_known_not_to_stream_saw_no_first_token() -> None:
    whole = outcome(2, ttft=9, stream=False, cached=100)
    figures = measure([outcome(1, ttft=0.5, stream=True), whole], HBM, 0)
    assert (figures.requests, figures.ttft_mean, figures.slo) == (2, 0.5, 1.0)
    assert figures.hit_rate == 0.05
    alone = measure([whole], HBM, 0)
    assert math.isnan(alone.ttft_mean) and math.isnan(alone.slo)
    assert measure([outcome(1, ttft=9), whole], HBM, 0).slo == 0
    assert math.isnan(curves([whole], 0.0, 60.0).spread[0])


def test_in_time_is_as_the_goal_has_it() -> None:
    late = outcome(1, ttft=1.0, tpot=0.05)
    for goal, in_time in (
        (Goal(ttft=1.0, colds=0), True),
        (Goal(ttft=0.9, colds=0), False),
        (Goal(ttft=0.9, colds=1000), True),
        (Goal(ttft=1.0, colds=0, tpot=0.04), False),
    ):
        assert measure([late], HBM, 0, goal=goal).slo == in_time


def test_times() -> None:
    figures = measure([outcome(n, ttft=n / 100, tpot=n / 1000) for n in range(1, 101)], HBM, 0)
    assert figures.ttft_mean == pytest.approx(0.505)
    assert figures.ttft_p50 == pytest.approx(0.5)
    assert figures.ttft_p90 == pytest.approx(0.9)
    assert figures.ttft_p99 == pytest.approx(0.99)
    assert figures.tpot_mean == pytest.approx(0.0505)
    assert figures.tpot_p99 == pytest.approx(0.099)
    assert figures.imbalance == 2
    cold = HBM.cold(1000) / 1e12
    assert figures.slowdown_p99 == pytest.approx(0.99 / cold)


def test_in_time_is_within_two_seconds_or_twice_the_prompts_own_and_fluent() -> None:
    long = 100_000  # takes 9.8 s alone
    cases = [
        (outcome(1, ttft=1.99), True),
        (outcome(1, ttft=2.01), False),
        (outcome(1, ttft=19, prompt=long), True),
        (outcome(1, ttft=20, prompt=long), False),
        (outcome(1, tpot=0.099), True),
        (outcome(1, tpot=0.101), False),
        (outcome(1, end=End.REFUSED), False),
        (outcome(1, end=End.FAILED), False),
    ]
    for one, in_time in cases:
        assert measure([one], HBM, 0).slo == in_time
    figures = measure([one for one, _ in cases], HBM, 0)
    assert (figures.lost, figures.refused, figures.slo) == (2, 1, 3 / 8)


def test_of_nothing_there_is_no_figure() -> None:
    figures = measure([], HBM, 0)
    assert figures.requests == 0
    assert math.isnan(figures.ttft_mean) and math.isnan(figures.slo)


def test_a_quantile_is_one_of_the_values() -> None:
    assert [quantile([3, 1, 2], share) for share in (0.0, 0.33, 0.34, 0.99)] == [1, 1, 2, 3]


def test_the_margin_is_students() -> None:
    # Of 1, 2, 3: standard error 1 / sqrt(3), and 4.303 for two degrees of freedom.
    assert estimate([1.0, 2.0, 3.0]).margin == pytest.approx(4.303 / math.sqrt(3))
    assert estimate([float(n % 2) for n in range(100)]).margin == pytest.approx(0.1005, rel=0.01)
    assert estimate([math.nan, 2.0]) == Estimate(2.0, None)
    assert estimate([math.nan]) == Estimate(None, None)
    runs = [measure([outcome(1, ttft=ttft)], HBM, 0) for ttft in (0.1, 0.3)]
    assert summarize(runs)["ttft_mean"].mean == pytest.approx(0.2)


def test_curves_have_gaps_where_nobody_came() -> None:
    found = curves([outcome(1, ttft=0.2), outcome(2, ttft=0.4), outcome(40, ttft=3)], 2.0, 60.0)
    assert found.timeline[0] == pytest.approx(0.3)
    assert math.isnan(found.timeline[1])
    assert found.timeline[2] == 3
    assert (found.spread[0], found.spread[-1]) == (0.4, 3)
    assert averaged([(1.0, math.nan), (3.0, 5.0)]) == [2.0, 5.0]

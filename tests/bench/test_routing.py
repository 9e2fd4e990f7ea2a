"""The routing benchmark's traces and targets, without running it."""

from pathlib import Path

import pytest

from bench.capacity import highest
from bench.routing import loads, study
from bench.routing_targets import (
    AFTER,
    ALL,
    PREDICTED,
    ROUND_ROBIN,
    SEEDS,
    TARGETS,
    Case,
    cases,
    mean,
    seeds_of,
)
from bench.routing_traces import TracesMissing, find
from router.sim.capacity import CAPACITY, STUDY
from router.sim.data import CONVERSATION
from router.sim.measures import Measures
from router.sim.trace import load


def figures(**fields: float) -> Measures:
    return Measures(**{name: fields.get(name, 1.0) for name in Measures.__struct_fields__})  # type: ignore[arg-type]


def test_tool_calls_are_modelled_on_conversations(tmp_path: Path) -> None:
    (tmp_path / CONVERSATION.name).write_bytes(CONVERSATION.read_bytes())
    paths = find(tmp_path, tmp_path / "..")
    conversations, tools = load(paths["conv"]), load(paths["tool"])
    paths["tool"].unlink()
    calls = len(tools.requests) / len(conversations.requests)
    assert calls == pytest.approx(2.33, abs=0.05)
    # Both system prompts and the block that all conversations begin with.
    assert len(tools.common) == 12 + 5 + 1
    mean = sum(one.prompt for one in tools.requests) / len(tools.requests)
    assert mean == pytest.approx(8000, rel=0.1)
    assert tools.batch == conversations.batch


def test_without_traces_it_says_which(tmp_path: Path) -> None:
    with pytest.raises(TracesMissing, match=r"(?s)no mooncake.*FAST25-release/traces"):
        find(tmp_path, tmp_path)
    with pytest.raises(TracesMissing, match=r"(?s)where are the traces.*WARMPATH_TRACES"):
        find(None, tmp_path)


def test_a_target_is_missed_by_one_case_that_is_worse() -> None:
    good = {case: [(figures(slo=0.99),) * 3] for case in cases()}
    perfect = [target for target in TARGETS if target.met(good)]
    assert [target.goal for target in perfect if "oracle" in target.goal] == [
        f"{trace} 85 %: {words} / oracle's"
        for trace in ("conv", "tool")
        for words in ("mean TTFT", "p99 TTFT", "hit rate")
    ]
    bad = good | {Case("conv", 85, PREDICTED): [(figures(ttft_mean=1.06),)]}
    missed = [target.goal for target in perfect if not target.met(bad)]
    assert missed == ["conv 85 %: mean TTFT / oracle's"]


def test_every_case_can_be_run() -> None:
    for case in cases():
        whole = study(case, CONVERSATION)
        assert [one.seed for one in whole.scenarios] == list(seeds_of(case))
        phases = [phase.name for phase in whole.phases()]
        assert phases == (["all", "before", "540 to 600 s"] if case.fails else ["all"])
        assert phases[AFTER if case.fails else ALL] == phases[-1]


def test_only_the_tail_of_who_is_overloaded_takes_many_seeds() -> None:
    many = {case for case in cases() if len(seeds_of(case)) > SEEDS}
    assert many == {Case(t, 85, p) for t in ("conv", "tool") for p in (PREDICTED, ROUND_ROBIN)}
    # The other figures of these cases are of the first three all the same.
    late = [(figures(),) * 3] * SEEDS + [(figures(ttft_mean=9.0, ttft_p99=9.0),)] * 21
    case = Case("tool", 85, ROUND_ROBIN)
    even = {case: [(figures(),) * 3] * 24 for case in cases()}
    changed = [t.goal for t in TARGETS if t.value(even) != t.value(even | {case: late})]
    assert changed == ["tool 85 %: round robin's p99 TTFT / ours, 24 seeds"]
    assert mean(even | {case: late}, case, "ttft_p99") == 1.0


@pytest.mark.parametrize("limit", [9.0, 9.4, 10.0, 10.37, 14.9])
def test_capacity_is_the_last_rate_that_is_borne(limit: float) -> None:
    asked = []

    def bears(rate: float) -> bool:
        asked.append(rate)
        return rate <= limit

    found = highest(bears, 9.0, 0.4, 0.05)
    assert limit - 0.05 <= found <= limit
    assert len(asked) < 21


def test_what_is_overloaded_from_the_start_has_no_capacity() -> None:
    with pytest.raises(ValueError, match="9 is not borne"):
        highest(lambda rate: False, 9.0, 0.4, 0.05)


def test_loads_name_their_capacity() -> None:
    case = Case("tool", 85, PREDICTED)
    measured, earlier = (study(case, CONVERSATION, one).traffic.rate for one in (CAPACITY, STUDY))
    assert measured == pytest.approx(0.85 * 25.1)
    assert earlier == pytest.approx(0.85 * 23.6)
    assert "100 % is 11.8 requests a second of conv and 25.1 of tool" in loads(CAPACITY)
    assert "11.1 requests a second of conv and 23.6 of tool" in loads(STUDY)

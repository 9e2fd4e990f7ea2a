"""Sessions drawn from a description."""

from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from router.config.findings import ConfigError
from router.sim.study import trace
from router.sim.trace import Recorded, Trace

AGENTS = """
system_prompts: [{tokens: 4000, weight: 3}, {tokens: 900}]
question: {median: 120, p99: 3000}
answer: {median: 250, p99: 1500}
turns: 6
think: {median: 15s, p99: 3m}
span: 40m
"""


def drawn(tmp_path: Path, text: str = AGENTS) -> Trace:
    path = tmp_path / "agents.yaml"
    path.write_text(text)
    trace.cache_clear()
    return trace(path)


def by_session(got: Trace) -> list[list[Recorded]]:
    sessions = defaultdict(list)
    for one in got.requests:
        sessions[one.conversation].append(one)
    return list(sessions.values())


def test_it_is_as_described(tmp_path: Path) -> None:
    got = drawn(tmp_path)
    assert got.rate == pytest.approx(2.0, rel=0.2)
    assert median(one.answer for one in got.requests) == pytest.approx(250, rel=0.05)
    longest = sorted(one.answer for one in got.requests)[-len(got.requests) // 100]
    assert longest == pytest.approx(1500, rel=0.15)
    whole = [turns for turns in by_session(got) if turns[0].at < 1200_000]
    assert sum(len(turns) for turns in whole) / len(whole) == pytest.approx(6, rel=0.2)
    first = [turns[0].prompt for turns in by_session(got)]
    assert sum(prompt >= 4000 for prompt in first) / len(first) == pytest.approx(0.75, abs=0.1)


def test_a_turn_begins_with_all_that_was_said(tmp_path: Path) -> None:
    for turns in by_session(drawn(tmp_path)):
        for before, after in pairwise(turns):
            assert after.blocks[: len(before.blocks)] == before.blocks
            assert after.prompt > before.prompt + before.answer
            assert after.at >= before.at + 20 * before.answer


def test_sessions_share_system_prompts_and_nothing_else(tmp_path: Path) -> None:
    got = drawn(tmp_path)
    assert len(got.common) == 4000 // 64 + 900 // 64
    owners = defaultdict(set)
    for one in got.requests:
        for block in one.blocks:
            owners[block].add(one.conversation)
    assert {block for block, sessions in owners.items() if len(sessions) > 1} <= got.common


def test_one_description_gives_the_same_again(tmp_path: Path) -> None:
    assert drawn(tmp_path) == drawn(tmp_path)


def test_a_session_ends_where_the_context_does(tmp_path: Path) -> None:
    got = drawn(tmp_path, AGENTS + "context: 5000\n")
    assert 4500 < max(one.prompt for one in got.requests) <= 5000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (AGENTS + "context: 4000\n", "a system prompt of 4000 tokens fills the context"),
        (AGENTS + "rate: 500\n", "rate times span is at most 1000000 requests"),
        (AGENTS.replace("p99: 1500", "p99: 200"), "p99 is at least the median"),
        (AGENTS.replace("turns: 6", "turns: 0"), "agents.yaml:5:"),
        (AGENTS + "speed: 9\n", "speed"),
        ("answer: {median: 1, p99: 2}\n", "question"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        drawn(tmp_path, text)

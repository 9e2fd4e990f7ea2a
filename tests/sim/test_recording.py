"""An access log as a trace and as outcomes."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from router.sim import recording
from router.sim.access_log import read
from router.sim.fit import fit
from router.sim.in_force import policy
from router.sim.outcome import End
from router.sim.policies import NAMES, ORACLE, parse
from router.sim.profile import HBM
from router.sim.recording import Recording, record
from router.sim.trace import TraceError, load
from tests.sim.access_lines import lines, trace, write


def recorded(tmp_path: Path, written: list[bytes], **arguments: Any) -> Recording:
    path = write(tmp_path / "access.log", written)
    return record(read([path], io.BytesIO(), **arguments))


def changed(written: list[bytes], index: int, **changes: Any) -> list[bytes]:
    one = json.dumps(json.loads(written[index]) | changes).encode() + b"\n"
    return [*written[:index], one, *written[index + 1 :]]


def test_a_trace_survives_the_log(tmp_path: Path) -> None:
    made = trace(200)
    found = recorded(tmp_path, lines(made))
    path = tmp_path / "back.jsonl.gz"
    found.write(path)
    again = load(path)
    assert (again.block, again.block_bytes, found.endpoints) == (128, 512, 3)
    names: dict[int, int] = {}
    for one, other in zip(made.requests, again.requests, strict=True):
        assert (one.at, one.prompt, one.answer) == (other.at, other.prompt, other.answer)
        assert (other.stream, other.model, other.tenant) == (True, "llama", None)
        assert len(one.blocks) == len(other.blocks)
        for old, new in zip(one.blocks, other.blocks, strict=True):
            assert names.setdefault(old, new) == new
    assert len(set(names.values())) == len(names) > 300


def test_prompts_that_part_between_checkpoints_part_after_the_first(tmp_path: Path) -> None:
    made = trace(40)
    found = recorded(tmp_path, lines(made))
    deep = max(found.rows, key=lambda row: row.prompt)
    assert deep.prompt == 128 * len(deep.ids)
    assert len(set(deep.ids)) == len(deep.ids)


def test_tokens_of_what_failed_are_estimated(tmp_path: Path) -> None:
    written = lines(trace(9))
    usage = {"prompt_tokens": None, "completion_tokens": None, "cached_tokens": None}
    failed = changed(written, 4, status=503, flag="UO", endpoint="-", ttft=None, **usage)
    whole, found = recorded(tmp_path, written), recorded(tmp_path, failed)
    assert found.estimated == 1
    (index,) = (n for n, one in enumerate(found.outcomes) if one.end is End.REFUSED)
    assert found.rows[index].prompt == whole.rows[index].prompt
    answers = sorted(row.answer for n, row in enumerate(whole.rows) if n != index)
    assert found.rows[index].answer == round((answers[3] + answers[4]) / 2)
    broken = changed(written, 4, flag="UC", **usage)
    assert [one.end for one in recorded(tmp_path, broken).outcomes].count(End.FAILED) == 1


def test_outcomes_say_what_the_log_says(tmp_path: Path) -> None:
    written = changed(lines(trace(20)), 7, cached_tokens=None)
    found = recorded(tmp_path, written)
    by_id = {json.loads(one)["request_id"]: json.loads(one) for one in written}
    for outcome in found.outcomes:
        told = by_id[str(outcome.arrival.key)]
        assert (outcome.first - outcome.arrival.at) / 1e12 == pytest.approx(told["ttft"])
        assert (outcome.done - outcome.arrival.at) / 1e12 == pytest.approx(told["duration"])
        assert outcome.cached == (told["cached_tokens"] or 0)
    assert len(found.known_cached) == 19
    told = [one for one in by_id.values() if one["cached_tokens"] is not None]
    hits = sum(one["cached_tokens"] for one in told) / sum(one["prompt_tokens"] for one in told)
    assert found.hit_rate(0.0) == pytest.approx(hits)
    assert found.hit_rate(1e6) is None


def test_crowds_are_counted_as_requests_come(tmp_path: Path) -> None:
    """Two at one endpoint, one at another that was over by then, two more."""
    begin = "2026-05-28T20:26:4"
    written = lines(trace(4))
    for index, (second, place, duration) in enumerate(
        [(0, 1, 9), (1, 2, 1.5), (2, 1, 9), (3, 2, 1)]
    ):
        written = changed(
            written,
            index,
            time=f"{begin}{second}.000Z",
            endpoint=f"engines/replica-{place}:8000",
            duration=duration,
            queued=0.0,
            request_id=str(index),
        )
    crowds = [one.crowd for one in recorded(tmp_path, written).outcomes]
    assert crowds == [1.0, 2.0, 1.0, 2.0]


def test_without_streams_nobody_saw_a_first_token(tmp_path: Path) -> None:
    written = lines(trace(5))
    for index in range(5):
        written = changed(written, index, stream=False)
    found = recorded(tmp_path, written)
    assert {row.stream for row in found.rows} == {None}
    assert {one.arrival.stream for one in found.outcomes} == {False}
    mixed = recorded(tmp_path, changed(written, 1, stream=True))
    assert {row.stream for row in mixed.rows} == {True, False}


def test_there_is_an_end_to_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST_BLOCKS", 20)
    with pytest.raises(TraceError, match=r"more than 20 blocks of 512 bytes: .* --duration"):
        recorded(tmp_path, lines(trace(20)))


@pytest.mark.parametrize("name", [name for name in NAMES if name != ORACLE])
def test_the_policy_in_force_is_told_by_its_words(tmp_path: Path, name: str) -> None:
    """A wrong guess would be worse than none; hash balancers all say ``hash``."""
    guess = policy(recorded(tmp_path, lines(trace(120), parse(name))).reasons)
    shared = {"ring_hash", "maglev", "prefix_hash", "chwbl"}
    assert guess == name if name not in shared else guess in (None, name)


def test_a_log_of_two_policies_is_of_none(tmp_path: Path) -> None:
    written = lines(trace(60), parse("round_robin")) + lines(trace(60, seed=2), parse("random"))
    assert policy(recorded(tmp_path, written).reasons) is None
    full = lines(trace(60), parse("least_request:selection=full_scan"))
    assert policy(recorded(tmp_path, full).reasons) == "least_request:selection=full_scan"


def test_speed_is_found_from_requests_that_met_an_idle_engine(tmp_path: Path) -> None:
    slow = HBM.scaled(0.5, 1.0)
    found = fit(recorded(tmp_path, lines(trace(300, rate=0.5), replicas=(slow,) * 3)), HBM)
    assert found.prefill == pytest.approx(2.0, rel=0.05)
    assert found.decode == pytest.approx(2.0, rel=0.05)
    assert found.overhead < 0.002
    assert found.requests > 100
    profile = found.applied(HBM)
    assert profile.per_prefill_token == pytest.approx(slow.per_prefill_token, rel=0.05)
    assert profile.step == pytest.approx(slow.step, rel=0.05)


def test_speed_cannot_be_told_of_too_few_or_too_alike(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"--fit needs 20 streamed requests .*; there are \d+$"):
        fit(recorded(tmp_path, lines(trace(15))), HBM)
    written = lines(trace(60, rate=0.2))
    for index in range(60):
        written = changed(written, index, cached_tokens=0, prompt_tokens=500)
    with pytest.raises(TraceError, match="prompts of different lengths"):
        fit(recorded(tmp_path, written), HBM)

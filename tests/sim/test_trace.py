"""Reading recorded traffic."""

import gzip
from pathlib import Path

import pytest

from router.sim.data import CONVERSATION
from router.sim.trace import Row, TraceError, assemble, load


def test_our_own_format(tmp_path: Path) -> None:
    path = tmp_path / "small.jsonl.gz"
    lines = ['{"block": 10}', "[1000, 25, 3, [7, 8, 9]]", "[1500, 12, 0, [7, 11], 4]"]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    trace = load(path)
    assert (trace.name, trace.block, trace.batch) == ("small", 10, 1)
    first, second = trace.requests
    assert (first.at, first.prompt, first.answer, first.blocks) == (0, 25, 3, (7, 8))
    assert (second.at, second.answer, second.blocks, second.conversation) == (500, 1, (7,), 4)


def test_what_a_log_knows_beside(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = ['{"block": 10, "block_bytes": 45}', '[0, 25, 3, [7, 8], null, false, "m", "t"]']
    path.write_text("\n".join(lines))
    trace = load(path)
    assert trace.block_bytes == 45
    (one,) = trace.requests
    assert (one.blocks, one.stream, one.model, one.tenant) == ((7, 8), False, "m", "t")


def test_mooncakes_own_format(tmp_path: Path) -> None:
    path = tmp_path / "raw.jsonl"
    path.write_text(
        '{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}\n'
    )
    trace = load(path)
    assert trace.block == 512
    assert trace.requests[0].blocks == (46, 47)


def test_prompts_without_ids_share_nothing(tmp_path: Path) -> None:
    path = tmp_path / "azure.jsonl"
    path.write_text('{"source": "Azure"}\n[0, 1200, 5]\n[20, 1200, 5]\n')
    one, other = load(path).requests
    assert len(one.blocks) == len(other.blocks) == 2
    assert not set(one.blocks) & set(other.blocks)
    assert one.conversation != other.conversation


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no requests"),
        ('{"block": 0}\n[0, 1, 1]', r":1: .*`int` >= 1 - at `\$.block`"),
        ('{"block": 16}\n[0, 5, 1]\n[1, 0, 1]', r":3: .*`int` >= 1 - at `\$\[1\]`"),
        ('{"block": 16}\n[0, 5', ":2: "),
        ("nonsense", ":1: JSON is malformed"),
    ],
)
def test_what_cannot_be_read_is_told_by_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(TraceError, match=message):
        load(path)


def test_system_prompts_and_conversations_are_told_apart() -> None:
    # All begin with block 1; conversation 2 has four turns of forty requests.
    rows = [Row(at, 30, 1, (1, 2, 100 + at)) for at in range(4)]
    rows += [Row(at, 30, 1, (1, 10 * at, 10 * at + 1)) for at in range(100, 190)]
    trace = assemble("t", 10, rows)
    assert trace.common == {1}
    assert [request.conversation for request in trace.requests[:5]] == [2, 2, 2, 2, 1000]


def test_times_that_were_rounded_are_noticed() -> None:
    rounded = [Row(3000 * at + late, 5, 1) for at in range(5) for late in (0, 0, 0)]
    rounded[6] = Row(5999, 5, 1)  # as Mooncake's are, now and then
    assert assemble("t", 16, rounded).batch == 3000
    assert assemble("t", 16, [Row(317 * at, 5, 1) for at in range(9)]).batch == 1


def test_the_trace_that_comes_with_the_package() -> None:
    trace = load(CONVERSATION)
    assert (len(trace.requests), trace.block, trace.batch) == (2093, 512, 3000)
    assert len(trace.common) == 1
    assert trace.span == pytest.approx(600, abs=3)

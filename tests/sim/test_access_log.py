"""Which lines of an access log are replayed, and what is told of the others."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from router.sim import access_log
from router.sim.access_log import Log, read
from router.sim.trace import TraceError
from tests.sim.access_lines import lines, trace, write

GOOD = lines(trace(1))[0]


def line(**changes: Any) -> bytes:
    """A good line, but for these."""
    return json.dumps(json.loads(GOOD) | changes).encode() + b"\n"


def of(tmp_path: Path, *written: bytes, **arguments: Any) -> Log:
    return read([write(tmp_path / "access.log", list(written))], io.BytesIO(), **arguments)


NO_USAGE = {"prompt_tokens": None, "completion_tokens": None, "cached_tokens": None}


@pytest.mark.parametrize(
    ("left_out", "why"),
    [
        (GOOD[:-20], access_log.BROKEN),
        (b"\xff\xfe not text\n", access_log.BROKEN),
        (b'{"time": "\xff"}\n', access_log.BROKEN),
        (b"[1, 2]\n", access_log.OTHER),
        (b'{"level": "info", "message": "started"}\n', access_log.OTHER),
        (line(time="2026-05-28T20:26:40"), access_log.OTHER),
        (line(duration=-1), access_log.OTHER),
        (b"x" * (1 << 20) + b"x" * 100 + b"\n", access_log.ENDLESS),
        (GOOD, access_log.TWICE),
        (line(shadow=True), access_log.COPY),
        (line(path="/v1/embeddings"), access_log.PATH),
        (line(cluster="-", status=404, flag="NR"), access_log.UNROUTED),
        (line(status=429, flag="RL", **NO_USAGE), access_log.LIMITED),
        (line(status=503, flag="FI", **NO_USAGE), access_log.INJECTED),
        (line(prefix=None), access_log.NAMELESS),
        (line(prefix="????????"), access_log.MISNAMED),
        (line(prefix="QUJD"), access_log.MISNAMED),
        (line(status=400, **NO_USAGE), access_log.REJECTED),
        (line(**NO_USAGE), access_log.UNCOUNTED),
        (line(status=0, flag="DC", **NO_USAGE), access_log.UNCOUNTED),
        (line(completion_tokens=None), access_log.UNCOUNTED),
    ],
)
def test_what_is_left_out_is_counted_by_reason(tmp_path: Path, left_out: bytes, why: str) -> None:
    log = of(tmp_path, GOOD, left_out, b"\n", line(request_id="last"))
    assert dict(log.excluded) == {why: 1}
    assert [entry.line.request_id for entry in log.entries] == ["1", "last"]
    assert log.lines == 3


@pytest.mark.parametrize(("status", "flag"), [(503, "UO"), (429, "UO"), (504, "UT"), (200, "UC")])
def test_what_failed_for_want_of_room_was_asked_for(tmp_path: Path, status: int, flag: str) -> None:
    log = of(tmp_path, GOOD, line(request_id="2", status=status, flag=flag, **NO_USAGE))
    assert len(log.entries) == 2
    assert not log.excluded


def test_files_in_any_order_plain_gzipped_and_piped(tmp_path: Path) -> None:
    written = lines(trace(30))
    (tmp_path / "access.log.2.gz").write_bytes(gzip.compress(b"".join(written[:10])))
    write(tmp_path / "access.log.1", written[10:20])
    piped = io.BytesIO(b"".join(written[20:]))
    paths = [Path("-"), tmp_path / "access.log.1", tmp_path / "access.log.2.gz"]
    log = read(paths, piped)
    assert (log.lines, len(log.entries)) == (30, 30)
    assert [entry.line.request_id for entry in log.entries] == [str(n) for n in range(1, 31)]
    assert read([paths[2], paths[2]], piped).excluded == {access_log.TWICE: 10}


def test_standard_input_is_read_once() -> None:
    with pytest.raises(TraceError, match="can be read only once"):
        read([Path("-"), Path("-")], io.BytesIO())


def test_a_gzip_file_that_ends_early_is_read_so_far(tmp_path: Path) -> None:
    written = lines(trace(300))
    path = tmp_path / "access.log.gz"
    path.write_bytes(gzip.compress(b"".join(written))[:-3000])
    log = read([path], io.BytesIO())
    assert 100 < len(log.entries) < 300
    assert log.excluded[access_log.CUT_FILE] == 1


def test_a_gzip_file_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "access.log.gz"
    data = bytearray(gzip.compress(b"".join(lines(trace(300)))))
    data[-8:-4] = bytes(4)  # the checksum
    path.write_bytes(data)
    with pytest.raises(TraceError, match=r"access\.log\.gz: CRC"):
        read([path], io.BytesIO())


def test_a_log_without_names_is_told_what_to_set(tmp_path: Path) -> None:
    bare = line(prefix=None)
    with pytest.raises(TraceError, match=r"`access_log: {prefix: salted}` .* --without-prefix"):
        of(tmp_path, bare)
    assert of(tmp_path, bare, prefix=False).entries[0].names == b""


def test_a_log_of_nothing_of_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"nothing to replay in 0 lines$"):
        of(tmp_path)
    with pytest.raises(TraceError, match=r"in 1 lines: 1 no whole JSON object \(.*must be json"):
        of(tmp_path, b'[28/May/2026] "POST /v1/chat/completions" 200\n')
    with pytest.raises(TraceError, match="1 no generation"):
        of(tmp_path, line(path="/v1/embeddings"))


def test_a_log_is_cut_by_cluster_and_time(tmp_path: Path) -> None:
    later = line(request_id="2", time="2026-05-28T20:30:00.000Z")
    log = of(tmp_path, GOOD, line(request_id="3", cluster="code"), later)
    assert log.clusters() == {"engines": 2, "code": 1}
    chat = log.only("engines")
    assert chat.excluded == {access_log.ELSEWHERE: 1}
    assert [entry.line.request_id for entry in chat.entries] == ["1", "2"]
    early = chat.first(100)
    assert early.excluded == {access_log.ELSEWHERE: 1, access_log.LATE: 1}
    assert [entry.line.request_id for entry in early.entries] == ["1"]


def test_there_is_an_end_to_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MOST_LINES", 5)
    with pytest.raises(TraceError, match="more than 5 requests to replay"):
        of(tmp_path, *lines(trace(6)))

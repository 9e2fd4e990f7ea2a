"""Access log lines: their form, their bounds, and the thread that writes them."""

import io
import json
import threading
from pathlib import Path

import structlog.testing

from router.telemetry.access_writer import AccessWriter
from router.telemetry.accesslog import AccessRing, readable
from tests.telemetry.test_counting import record


def encode_line(*records) -> bytes:
    """A record's way through both processes."""
    ring = AccessRing()
    for one in records:
        ring.append(one)
    return readable(ring.take())


def encode_raw(one) -> bytes:
    ring = AccessRing()
    ring.append(one)
    return ring.take()


def test_a_line_is_json_with_its_time_and_without_noise():
    line = encode_line(record(duration=0.1234567891, flag="UF", ttft=None))
    assert line.endswith(b"}\n")
    fields = json.loads(line)
    assert fields["time"] == "2023-11-14T22:13:20.250Z"
    assert fields["duration"] == 0.123457
    assert fields["ttft"] is None
    assert fields["flag"] == "UF"
    assert "started_at" not in fields


def test_a_clients_text_cannot_forge_a_line():
    line = encode_line(record(path='/x"\n{"status":200}', model="\u2028\x00"))
    assert line.count(b"\n") == 1
    assert json.loads(line)["path"] == '/x"\n{"status":200}'


def test_the_ring_drops_what_does_not_fit_and_counts_it():
    probe = AccessRing()
    probe.append(record())
    ring = AccessRing(limit=3 * len(probe.take()))
    for _ in range(5):
        ring.append(record())
    assert ring.dropped == 2
    assert ring.take().count(b"\n") == 3
    assert ring.take() == b""
    ring.append(record())
    assert ring.take().count(b"\n") == 1


def test_a_rotated_file_is_left_alone_after_reopening(tmp_path):
    path = tmp_path / "access.log"
    writer = AccessWriter(path)
    one, two = (encode_raw(record(request_id=name)) for name in ("one", "two"))
    writer.write(one)
    while not path.read_bytes():
        pass
    path.rename(tmp_path / "access.log.1")
    writer.reopen()
    writer.write(two)
    writer.close()
    assert (tmp_path / "access.log.1").read_bytes() == readable(one)
    assert path.read_bytes() == readable(two)


class Stuck(io.BytesIO):
    """A pipe that nobody reads, until told."""

    def __init__(self):
        super().__init__()
        self.entered = threading.Event()
        self.go = threading.Event()

    def write(self, data):
        self.entered.set()
        self.go.wait(10)
        return super().write(data)


def test_a_stuck_stream_does_not_hold_up_the_writer():
    stream = Stuck()
    writer = AccessWriter(stream=stream, limit=2)
    raw = [encode_raw(record(request_id=str(number))) for number in range(6)]
    writer.write(raw[0])
    assert stream.entered.wait(10)
    for number in range(1, 6):
        writer.write(raw[number])
    assert writer.dropped == 3
    stream.go.set()
    writer.close()
    assert stream.getvalue() == b"".join(readable(one) for one in raw[:3])


class FullDisk(io.RawIOBase):
    """Takes so many bytes, then none until there is room again."""

    def __init__(self, room):
        self.room = room
        self.taken = b""

    def write(self, data):
        if not self.room:
            raise OSError(28, "No space left on device")
        part = bytes(data)[: self.room]
        self.room -= len(part)
        self.taken += part
        return len(part)


def test_a_full_disk_is_told_once_and_tears_no_other_line():
    raw = [encode_raw(record(request_id=str(number))) for number in range(5)]
    first = readable(raw[0])
    stream = FullDisk(len(first) + 10)
    with structlog.testing.capture_logs() as told:
        writer = AccessWriter(stream=stream)
        for one in raw[:3]:
            writer.write(one)
        while writer.dropped < 2:
            pass
        stream.room = 1 << 20
        for one in raw[3:]:
            writer.write(one)
        writer.close()
    assert writer.dropped == 2
    lines = stream.taken.splitlines(keepends=True)
    assert lines[0] == first
    assert lines[1] == readable(raw[1])[:10] + b"\n"
    assert lines[2:] == [readable(raw[3]), readable(raw[4])]
    assert [(line["event"], line["log_level"]) for line in told] == [
        ("cannot write, lines are lost", "error"),
        ("lines are written again", "warning"),
    ]
    assert told[0]["error"] == "No space left on device"
    assert told[1]["lost"] == 2


def test_the_device_that_is_always_full_ends_well():
    writer = AccessWriter(Path("/dev/full"))
    writer.write(encode_raw(record()))
    writer.close()
    assert not writer._thread.is_alive()
    assert writer.dropped == 1


def test_a_file_that_cannot_be_reopened_stays(tmp_path):
    path = tmp_path / "access.log"
    one, two = (encode_raw(record(request_id=name)) for name in ("one", "two"))
    with structlog.testing.capture_logs() as told:
        writer = AccessWriter(path)
        writer.write(one)
        while not path.read_bytes():
            pass
        kept = path.rename(tmp_path / "access.log.1")
        path.mkdir()
        writer.reopen()
        writer.write(two)
        writer.close()
    assert kept.read_bytes() == readable(one) + readable(two)
    assert [(line["event"], line["error"]) for line in told] == [
        ("cannot reopen", "Is a directory")
    ]

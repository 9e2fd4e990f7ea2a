"""Access log lines: their form, their bounds, and the thread that writes them."""

import io
import json
import threading

from router.telemetry.accesslog import AccessRing, AccessWriter, encode_line
from tests.telemetry.test_counting import record


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
    size = len(encode_line(record()))
    ring = AccessRing(limit=3 * size)
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
    writer.write(b"one\n")
    while not path.read_bytes():
        pass
    path.rename(tmp_path / "access.log.1")
    writer.reopen()
    writer.write(b"two\n")
    writer.close()
    assert (tmp_path / "access.log.1").read_bytes() == b"one\n"
    assert path.read_bytes() == b"two\n"


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
    writer.write(b"0\n")
    assert stream.entered.wait(10)
    for number in range(1, 6):
        writer.write(b"%d\n" % number)
    assert writer.dropped == 3
    stream.go.set()
    writer.close()
    assert stream.getvalue() == b"0\n1\n2\n"

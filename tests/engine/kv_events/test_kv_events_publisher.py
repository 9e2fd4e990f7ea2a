"""The publisher against real ZeroMQ sockets."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Sequence

import msgspec
import pytest
import zmq

from engine.kv_events import Event, EventLog, KvEventsConfig, KvEventsError, Publisher
from engine.kv_events import publisher as module
from engine.kv_events.publisher import reachable
from tests.engine.kv_events.listening import ANY_PORT, Peers

Publish = Callable[..., Publisher]
END = b"\xff" * 8


def removal(name: int) -> list[Event]:
    log = EventLog(1)
    log.removed(name)
    return log.take()


def stretch(blocks: int) -> list[Event]:
    log = EventLog(16)
    log.stored(range(blocks), range(blocks), None, list(range(blocks * 16)))
    return log.take()


BIG = stretch(64)


def names_in(payload: bytes) -> list[int]:
    return [name for event in msgspec.msgpack.decode(payload)[1] for name in event["block_hashes"]]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def replayed(sock: zmq.Socket[bytes]) -> list[tuple[int, list[int]]]:
    """Numbers and names until the end marker."""
    seen = []
    while True:
        empty, topic, number, payload = sock.recv_multipart()
        assert empty == b""
        if number == END:
            assert (topic, payload) == (b"", b"")
            return seen
        seen.append((int.from_bytes(number, "big"), names_in(payload)))


def test_a_batch_is_topic_number_and_payload(publish: Publish, peers: Peers) -> None:
    publisher = publish(topic="kv@pod")
    subscriber = peers.subscriber(publisher, b"kv@")
    first = peers.first
    before = time.time()
    for name in range(3):
        publisher.publish(removal(name))
    for name in range(3):
        topic, number, payload = subscriber.recv_multipart()
        assert (topic, number) == (b"kv@pod", (first + name).to_bytes(8, "big"))
        moment, _, rank = msgspec.msgpack.decode(payload)
        assert before <= moment <= time.time()
        assert (names_in(payload), rank) == ([name], 0)


def test_other_topics_hear_nothing(publish: Publish, peers: Peers) -> None:
    publisher = publish(topic="a")
    other = peers.open(zmq.SUB, publisher.endpoint)
    other.subscribe(b"b")
    ours = peers.subscriber(publisher, b"a")
    publisher.publish(removal(1))
    ours.recv_multipart()
    assert not other.poll(50)


def test_what_was_missed_is_replayed(publish: Publish, peers: Peers) -> None:
    publisher = publish()
    for name in range(10):
        publisher.publish(removal(name))
    wait_for(lambda: publisher.published == 10)
    assert replayed(peers.replay(publisher, 7)) == [(7, [7]), (8, [8]), (9, [9])]
    assert replayed(peers.replay(publisher, 10)) == []
    assert publisher.replays == 2


def test_replay_is_bounded_in_batches(publish: Publish, peers: Peers) -> None:
    publisher = publish(buffer_steps=3)
    for name in range(10):
        publisher.publish(removal(name))
    wait_for(lambda: publisher.published == 10)
    assert [number for number, _ in replayed(peers.replay(publisher, 0))] == [7, 8, 9]


def test_replay_is_bounded_in_bytes(
    publish: Publish, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_REPLAY_BYTES", 200)
    publisher = publish()
    for name in range(100):
        publisher.publish(removal(name))
    wait_for(lambda: publisher.published == 100)
    assert 100 < publisher.replay_bytes <= 200
    kept = [number for number, _ in replayed(peers.replay(publisher, 0))]
    assert kept == list(range(100 - len(kept), 100))
    assert kept


def test_a_long_replay_waits_for_its_reader_and_holds_nobody_up(
    publish: Publish, peers: Peers
) -> None:
    publisher = publish()
    for _ in range(4000):
        publisher.publish(BIG)
    wait_for(lambda: publisher.published == 4000)
    slow = peers.replay(publisher, 0, rcvhwm=1)
    wait_for(lambda: publisher.replays == 1)
    # The reader has not taken anything, so its pipe is full; others are served meanwhile.
    assert len(replayed(peers.replay(publisher, 3999))) == 1
    live = peers.subscriber(publisher)
    publisher.publish(removal(1))
    assert names_in(live.recv_multipart()[2]) == [1]
    assert [number for number, _ in replayed(slow)] == list(range(4000))


def test_peers_that_never_read_do_not_keep_replays_from_others(
    publish: Publish, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPLAY_PATIENCE", 0.05)
    publisher = publish()
    for _ in range(4000):
        publisher.publish(BIG)
    wait_for(lambda: publisher.published == 4000)
    for _ in range(module.MAX_REPLAYS):
        peers.replay(publisher, 0, rcvhwm=1, rcvbuf=4096)
    wait_for(lambda: publisher.replays == module.MAX_REPLAYS)
    assert len(replayed(peers.replay(publisher, 3999))) == 1


def test_malformed_replay_requests_are_ignored(publish: Publish, peers: Peers) -> None:
    publisher = publish()
    publisher.publish(removal(1))
    sock = peers.replay(publisher, 0)
    assert len(replayed(sock)) == 1
    for request in ([b""], [b"", b"\0" * 7], [b"", b"", b"\0" * 8], [b"\0" * 8]):
        sock.send_multipart(request)
    sock.send_multipart([b"", bytes(8)])
    assert len(replayed(sock)) == 1
    assert publisher.replays == 2


def test_a_full_queue_loses_batches_and_leaves_a_gap(publish: Publish, peers: Peers) -> None:
    blocked = True

    def encode(moment: float, events: Sequence[Event]) -> bytes:
        while blocked:
            time.sleep(0.001)
        return module.as_maps(moment, events)

    publisher = publish(encode, max_queue_size=2)
    publisher.publish(removal(0))
    wait_for(lambda: publisher.queued == 0)  # the thread has it in its hands
    began = time.thread_time()
    for name in range(1, 101):
        publisher.publish(removal(name))
    assert time.thread_time() - began < 0.5
    assert publisher.lost["queue_full"] == 98
    blocked = False
    wait_for(lambda: publisher.published == 3)
    publisher.publish(removal(101))
    wait_for(lambda: publisher.published == 4)
    assert [number for number, _ in replayed(peers.replay(publisher, 0))] == [0, 1, 2, 101]


def test_a_slow_subscriber_loses_batches_and_others_do_not(publish: Publish, peers: Peers) -> None:
    # Room for the batches of a millisecond: as often does ZeroMQ look at what the reader has read.
    publisher = publish(hwm=500)
    peers.subscriber(publisher, rcvhwm=1, rcvbuf=4096)  # and never reads again
    good = peers.subscriber(publisher)
    first = peers.first
    for step in range(2000):
        publisher.publish(BIG)
        number = int.from_bytes(good.recv_multipart()[1], "big")
        assert number == first + step
    assert publisher.lost["slow_subscriber"] > 0
    wait_for(lambda: publisher.published == first + 2000)


def test_what_cannot_be_encoded_is_counted(publish: Publish) -> None:
    def encode(moment: float, events: Sequence[Event]) -> bytes:
        if not events:
            raise ValueError("on purpose")
        return module.as_maps(moment, events)

    publisher = publish(encode)
    publisher.publish([])
    publisher.publish(removal(1))
    wait_for(lambda: publisher.published == 1)
    assert publisher.lost["error"] == 1
    assert publisher.readings() == {
        "kv_event_batches": [1.0],
        "kv_event_batches_lost": [0.0, 0.0, 1.0],
        "kv_event_replays": [0.0],
        "kv_event_queue": [0.0],
        "kv_event_replay_bytes": [float(publisher.replay_bytes)],
    }


def test_closing_sends_what_is_queued(publish: Publish, peers: Peers) -> None:
    publisher = publish()
    subscriber = peers.subscriber(publisher)
    for name in range(50):
        publisher.publish(removal(name))
    publisher.close()
    assert [names_in(subscriber.recv_multipart()[2]) for _ in range(50)] == [
        [name] for name in range(50)
    ]
    publisher.close()
    publisher.publish(removal(50))
    assert (publisher.queued, publisher.lost["error"]) == (0, 0)


def test_sources_name_an_address_that_can_be_reached(publish: Publish) -> None:
    publisher = publish(endpoint="tcp://*:0", topic="t")
    (source,) = publisher.sources("10.1.2.3")
    assert source["endpoint"].startswith("tcp://10.1.2.3:")
    assert source["replay_endpoint"] == publisher.replay_endpoint
    assert (source["data_parallel_rank"], source["topic"]) == (0, "t")
    assert publish(replay_endpoint=None).sources("h")[0]["replay_endpoint"] is None


@pytest.mark.parametrize(
    ("endpoint", "host", "shown"),
    [
        ("tcp://0.0.0.0:5557", "10.0.0.1", "tcp://10.0.0.1:5557"),
        ("tcp://[::]:5557", "fd00::1", "tcp://[fd00::1]:5557"),
        ("tcp://127.0.0.1:5557", "10.0.0.1", "tcp://127.0.0.1:5557"),
        ("ipc:///run/kv.sock", "10.0.0.1", "ipc:///run/kv.sock"),
    ],
)
def test_reachable(endpoint: str, host: str, shown: str) -> None:
    assert reachable(endpoint, host) == shown


@pytest.mark.parametrize("field", ["endpoint", "replay_endpoint"])
def test_an_address_in_use_is_named(publish: Publish, field: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(KvEventsError, match=f"^{field}: cannot bind {endpoint}: Address"):
            publish(**{field: endpoint})


def test_without_pyzmq_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zmq", None)
    with pytest.raises(KvEventsError, match=r"pip install 'warmpath\[kv-events\]'"):
        Publisher(KvEventsConfig(enable_kv_cache_events=True, endpoint=ANY_PORT))

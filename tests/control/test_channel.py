"""Messages arrive whole and in order, however the bytes are cut; bad peers are cut off."""

import asyncio
import socket

import pytest

from router.control import channel as channel_module
from router.control.channel import Channel
from router.control.messages import (
    Ack,
    Cancel,
    HostStates,
    HostUpdate,
    SnapshotUpdate,
    StatsReport,
    decode_to_control,
    decode_to_worker,
    encode,
)
from router.core.load import Adapters, LoadReport
from router.telemetry.totals import Spread, Totals


class Recipient:
    def __init__(self):
        self.messages = []
        self.lost = asyncio.Event()

    def channel(self, decode):
        return Channel(decode, self.messages.append, self.lost.set)


async def pair(decode=decode_to_worker):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    recipient, sender = Recipient(), Recipient()
    loop = asyncio.get_running_loop()
    receiving, sending = recipient.channel(decode), sender.channel(decode)
    await loop.create_connection(lambda: receiving, sock=ours)
    await loop.create_connection(lambda: sending, sock=theirs)
    return recipient, receiving, sending


LOAD = LoadReport(1.5, 2, 3, None, 40, 50, Adapters(frozenset("ab"), frozenset(), 4))
MESSAGES = [
    SnapshotUpdate(generation=3, config=b"\x00" * 300_000, slots={"c/h:1": 1, "c": 0}),
    HostStates(hosts=(HostUpdate(id="c/h:1", admin=1, load=LOAD),)),
    Cancel(serial=9, query=1),
]


async def test_messages_of_all_sizes_arrive_in_order():
    recipient, receiving, sending = await pair()
    for message in MESSAGES * 5:
        sending.send(message)
    sending.close()
    await recipient.lost.wait()
    assert recipient.messages == MESSAGES * 5
    receiving.close()


async def test_frames_cut_anywhere_are_put_together():
    got = Recipient()
    channel = got.channel(decode_to_worker)
    payload = encode(MESSAGES[1])
    frame = len(payload).to_bytes(4, "big") + payload
    for byte in frame * 2:
        channel.data_received(bytes([byte]))
    assert got.messages == [MESSAGES[1]] * 2


async def test_a_frame_that_claims_too_much_ends_the_channel(monkeypatch):
    monkeypatch.setattr(channel_module, "MAX_MESSAGE", 100)
    recipient, receiving, sending = await pair()
    sending._transport.write((101).to_bytes(4, "big"))
    await recipient.lost.wait()
    assert not receiving.open
    sending.close()


async def test_a_message_too_large_to_send_is_refused(monkeypatch):
    monkeypatch.setattr(channel_module, "MAX_MESSAGE", 100)
    _, receiving, sending = await pair()
    with pytest.raises(ValueError, match="100 bytes"):
        sending.send(MESSAGES[0])
    sending.close()
    receiving.close()


async def test_a_peer_that_does_not_read_is_cut_off(monkeypatch):
    monkeypatch.setattr(channel_module, "MAX_BACKLOG", 500_000)
    _, receiving, sending = await pair()
    receiving._transport.pause_reading()
    for _ in range(20):
        sending.send(MESSAGES[0])
        await asyncio.sleep(0)
    assert not sending.open
    assert sending.backlog < 2_000_000
    receiving.close()


def test_totals_survive_the_journey():
    totals = Totals(
        counters={"requests_total": {("r", "c", "m", "200", "-"): 4}},
        histograms={"event_loop_lag_seconds": {(): Spread([1, 2, 3], 0.5)}},
    )
    assert decode_to_control(encode(StatsReport(totals=totals))).totals == totals


def test_either_side_refuses_the_others_messages():
    with pytest.raises(ValueError, match="Ack"):
        decode_to_worker(encode(Ack(generation=1)))

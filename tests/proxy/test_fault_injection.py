"""Faults that a route injects on purpose, over real sockets."""

import asyncio
import dataclasses

import msgspec
import pytest

from router.core.fault import Abort, Cut, Delay, Fault, Stall
from router.core.host import Outcome
from router.core.routing import StringMatch, Timeouts
from tests.proxy.rig import SSE_HEAD, EngineConnection, Rig, Watched, answering, chat, whole

STREAM = b'{"model":"m","stream":true}'
LONG = 3600.0
"""Seconds that no test waits for."""


def events(first: int, last: int) -> bytes:
    return b"".join(b"data: %d\n\n" % number for number in range(first, last + 1))


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def unchunked(data: bytes) -> bytes:
    payload = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        payload += data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]
    return payload


def expire(rig: Rig) -> None:
    """Let what is held be over now."""
    [relay] = rig.server.relays.values()
    assert relay.fault is not None
    rig.server.wheel.set(relay.fault, 0.0)


async def test_an_abort_is_an_error_of_the_routers_own(rig: Rig) -> None:
    rig.terms = {"fault": Fault(abort=Abort(555))}
    await rig.start(answering(whole()))
    client = await rig.client()
    for _ in range(2):  # the connection stays usable
        await client.send(chat())
        status, headers, body = await client.response()
        assert status == 555
        assert headers["content-type"] == "application/json"
        assert msgspec.json.decode(body)["error"]["code"] == "fault_injected"
    await rig.settled()
    assert rig.engines[0].connections == 0
    assert [record.flag for record in rig.recorder.records] == ["FI", "FI"]


async def test_a_delay_and_then_the_answer(rig: Rig) -> None:
    rig.terms = {"fault": Fault(delay=Delay(0.2))}
    rig.timeouts = Timeouts(total=0.1)  # begins after the delay, as in Envoy
    await rig.start(answering(whole()))
    status, _, body = await rig.post()
    assert (status, body) == (200, b'{"ok":true}')
    await rig.settled()
    [record] = rig.recorder.records
    assert record.flag == "DI"
    assert record.duration >= 0.2
    assert record.queued == 0


async def test_the_total_holds_after_a_delay(rig: Rig) -> None:
    rig.terms = {"fault": Fault(delay=Delay(0.1))}
    rig.timeouts = Timeouts(total=0.1)
    await rig.start(Watched())
    status, _, _ = await rig.post()
    assert status == 504
    await rig.settled()
    assert rig.recorder.records[0].flag == "UT,DI"


async def test_a_client_that_leaves_during_the_delay_ends_it(rig: Rig) -> None:
    rig.terms = {"fault": Fault(delay=Delay(LONG))}
    await rig.start(answering(whole()))
    client = await rig.client()
    await client.send(chat())
    await rig.until(lambda: rig.states() == ["delayed"])
    client.close()
    await rig.settled()
    assert rig.director.faults("r").active == 0
    assert rig.engines[0].connections == 0


async def test_a_body_that_arrives_during_the_delay_is_kept(rig: Rig) -> None:
    rig.terms = {"fault": Fault(delay=Delay(LONG))}
    rig.limits = dataclasses.replace(rig.limits, buffer_body=20_000)
    await rig.start(answering(whole()))
    client = await rig.client()
    body = b'{"model":"m","prompt":"%b"}' % (b"x" * 50_000)
    request = chat(body)
    await client.send(request[:30_000])
    await rig.until(lambda: rig.states() == ["delayed"])
    await client.send(request[30_000:])
    expire(rig)
    status, _, _ = await client.response()
    assert status == 200
    await rig.settled()
    [(_, seen)] = rig.engines[0].seen
    assert seen == body


async def test_a_request_that_is_cancelled_while_it_is_delayed(rig: Rig) -> None:
    rig.terms = {"fault": Fault(delay=Delay(LONG))}
    await rig.start(answering(whole()))
    client = await rig.client()
    await client.send(chat())
    await rig.until(lambda: rig.states() == ["delayed"])
    rig.server.abort_all("over")
    status, _, _ = await client.response()
    assert status == 503


async def test_the_condition_is_on_the_requests_headers(rig: Rig) -> None:
    on = (("x-chaos", StringMatch("exact", "on")),)
    rig.terms = {"fault": Fault(abort=Abort(500), headers=on)}
    await rig.start(answering(whole()))
    assert (await rig.post(x_chaos="on"))[0] == 500
    assert (await rig.post(x_chaos="off"))[0] == 200


# --- streams ----------------------------------------------------------------------------------

READS: dict[str, list[bytes]] = {
    "one event a read": [chunks(events(n, n)) for n in range(1, 6)],
    "all in one read": [chunks(events(1, 5))],
    "a chunk for each": [b"".join(chunks(events(n, n)) for n in range(1, 6))],
    "torn anywhere": [chunks(events(1, 5))[at : at + 3] for at in range(0, 60, 3)],
    "two and a half at a time": [chunks(events(1, 2) + b"data: 3"), chunks(b"\n\n" + events(4, 5))],
    "other line ends": [chunks(events(1, 5).replace(b"\n", b"\r\n"))],
}


def streaming(reads: list[bytes], end: bytes = b"0\r\n\r\n") -> object:
    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(SSE_HEAD)
        for read in reads:
            await connection.send(read)
            await asyncio.sleep(0.002)
        await connection.send(end)
        await connection.gone()

    return script


@pytest.mark.parametrize("name", READS)
async def test_a_stream_is_cut_after_so_many_events(rig: Rig, name: str) -> None:
    rig.terms = {"fault": Fault(cut=Cut(3))}
    await rig.start(streaming(READS[name]))  # type: ignore[arg-type]
    client = await rig.client()
    await client.send(chat(STREAM))
    await client.read_until(b"\r\n\r\n")
    body = unchunked(await client.rest())
    wanted = events(1, 3)
    if "line ends" in name:
        wanted = wanted.replace(b"\n", b"\r\n")
    assert body.startswith(wanted)
    error = msgspec.json.decode(body[len(wanted) :].strip().removeprefix(b"data: "))["error"]
    assert (error["type"], error["code"]) == ("upstream_error", "upstream_reset")
    assert "fault.cut" in error["message"]
    await rig.settled()
    assert rig.recorder.records[0].flag == "FI"
    [host] = rig.fleet.hosts.values()
    assert host.outcomes[Outcome.ABANDONED] == 1
    assert host.outcomes[Outcome.TRUNCATED] == 0


async def test_a_stream_that_ends_before_the_mark_is_whole(rig: Rig) -> None:
    rig.terms = {"fault": Fault(cut=Cut(30))}
    await rig.start(streaming(READS["torn anywhere"]))  # type: ignore[arg-type]
    client = await rig.client()
    await client.send(chat(STREAM))
    status, _, body = await client.response()
    assert (status, body) == (200, events(1, 5))
    await rig.settled()
    assert rig.recorder.records[0].flag == "-"


async def test_an_answer_that_is_no_stream_is_left_alone(rig: Rig) -> None:
    rig.terms = {"fault": Fault(cut=Cut(1))}
    await rig.start(answering(whole()))
    assert (await rig.post(STREAM))[0] == 200


async def test_a_client_of_http_1_0_sees_the_cut_as_well(rig: Rig) -> None:
    rig.terms = {"fault": Fault(cut=Cut(2))}
    await rig.start(streaming(READS["all in one read"]))  # type: ignore[arg-type]
    client = await rig.client()
    await client.send(chat(STREAM).replace(b"HTTP/1.1", b"HTTP/1.0"))
    await client.read_until(b"\r\n\r\n")
    body = await client.rest()
    assert body.startswith(events(1, 2) + b"\n\ndata: ")
    assert b"upstream_reset" in body


@pytest.mark.parametrize("name", READS)
async def test_a_stream_stalls_and_goes_on(rig: Rig, name: str) -> None:
    rig.terms = {"fault": Fault(stall=Stall(2, LONG))}
    await rig.start(streaming(READS[name]))  # type: ignore[arg-type]
    client = await rig.client()
    await client.send(chat(STREAM))
    await client.read_until(b"\r\n\r\n")
    await rig.until(lambda: rig.director.faults("r").active == 1)
    [relay] = rig.server.relays.values()
    before = relay.bytes_out
    await asyncio.sleep(0.05)  # the engine sends the rest meanwhile
    assert relay.bytes_out == before
    expire(rig)
    body = unchunked(await client.read_until(b"\r\n0\r\n\r\n"))
    assert body.replace(b"\r", b"") == events(1, 5)
    await rig.settled()
    assert rig.recorder.records[0].flag == "DI"
    assert rig.director.faults("r").injected["stall"] == 1
    # The connections on both sides are fit for another request.
    assert rig.director.faults("r").active == 0


async def test_a_stalled_engine_feels_the_back_pressure(rig: Rig) -> None:
    sent = 0

    async def script(connection: EngineConnection) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(SSE_HEAD)
        for _ in range(400):
            await connection.send(chunks(b"data: %b\n\n" % (b"x" * 65536)))
            sent += 1
        await connection.send(b"0\r\n\r\n")
        await connection.gone()

    rig.terms = {"fault": Fault(stall=Stall(1, LONG))}
    await rig.start(script)
    client = await rig.client()
    await client.send(chat(STREAM))
    await rig.until(lambda: rig.director.faults("r").active == 1)
    before = -1
    while before != sent:  # until it can send no more
        before = sent
        await asyncio.sleep(0.1)
    assert sent < 400
    expire(rig)
    _, _, body = await client.response()
    assert body.count(b"data: ") == 400


async def test_a_client_that_leaves_a_stalled_stream_frees_the_engine(rig: Rig) -> None:
    engine = Watched(SSE_HEAD + chunks(events(1, 3)))
    rig.terms = {"fault": Fault(stall=Stall(1, LONG))}
    await rig.start(engine)
    client = await rig.client()
    await client.send(chat(STREAM))
    await rig.until(lambda: rig.director.faults("r").active == 1)
    client.close()
    async with asyncio.timeout(5):
        await engine.left.wait()
    await rig.settled()
    assert rig.recorder.records[0].flag == "DC,DI"


async def test_a_stall_and_then_the_cut(rig: Rig) -> None:
    rig.terms = {"fault": Fault(stall=Stall(1, 0.05), cut=Cut(4))}
    await rig.start(streaming(READS["one event a read"]))  # type: ignore[arg-type]
    client = await rig.client()
    await client.send(chat(STREAM))
    await client.read_until(b"\r\n\r\n")
    body = unchunked(await client.rest())
    assert body.startswith(events(1, 4) + b"\n\ndata: ")
    await rig.settled()
    assert rig.recorder.records[0].flag == "DI,FI"


async def test_a_stall_is_bound_by_the_total(rig: Rig) -> None:
    rig.terms = {"fault": Fault(stall=Stall(1, LONG))}
    rig.timeouts = Timeouts(total=0.1, idle=0.05)
    await rig.start(streaming(READS["one event a read"]))  # type: ignore[arg-type]
    client = await rig.client()
    await client.send(chat(STREAM))
    await client.read_until(b"\r\n\r\n")
    assert b"upstream_timeout" in unchunked(await client.rest())
    await rig.settled()
    assert rig.recorder.records[0].flag == "UT,DI"

"""Request bodies on their way to an engine: large, slow, refused, and never sent twice."""

import asyncio
import gc

import pytest

from router.core.listener import ListenerLimits
from router.core.retry.policy import RetryPolicy
from router.core.routing import Timeouts
from router.proxy.downstream import Downstream
from router.proxy.relay import Relay
from router.proxy.upstream import Upstream
from tests.proxy.rig import EVENT, SSE_HEAD, EngineConnection, Rig, Watched, answering, chat, whole

LARGE = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 3_000_000 + b'"}]}'


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("model_last", [False, True])
async def test_large_body_arrives_unchanged(rig: Rig, chunked: bool, model_last: bool) -> None:
    body = LARGE
    if model_last:
        body = b'{"messages":[{"content":"' + b"\xc3\xa4" * 1_500_000 + b'"}],"model":"m"}'
    rig.limits = ListenerLimits(buffer_body=100_000)
    seen: list[bytes] = []

    async def script(connection: EngineConnection) -> None:
        head, body = await connection.request()
        assert head.lower().count(b"content-length") + head.lower().count(b"chunked") == 1
        seen.append(body)
        await connection.send(whole())

    await rig.start(script)
    client = await rig.client()
    if chunked:
        head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        await client.send(head)
        for at in range(0, len(body), 70_000):
            piece = body[at : at + 70_000]
            await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await client.send(b"0\r\n\r\n")
    else:
        await client.send(chat(body))
    assert (await client.response())[0] == 200
    assert seen == [body]
    assert rig.recorder.records[0].bytes_in == len(body)


async def test_upload_is_slowed_down_by_its_engine(rig: Rig) -> None:
    """An engine that does not read makes the client wait; memory stays bounded."""
    rig.limits = ListenerLimits(buffer_body=100_000, max_body=64 * 1024 * 1024)
    go = asyncio.Event()
    arrived = asyncio.Event()

    async def script(connection: EngineConnection) -> None:
        await connection.head()
        arrived.set()
        await go.wait()
        total = 0
        while total < size:
            total += len(await connection.reader.read(1 << 20))
        await connection.send(whole())

    size = 30_000_000
    await rig.start(script)
    client = await rig.client()
    sending = asyncio.ensure_future(
        client.send(chat(b'{"model":"m","prompt":"' + b"x" * (size - 25) + b'"}'))
    )
    await arrived.wait()
    await asyncio.sleep(0.3)
    assert not sending.done()
    assert rig.server.buffered < 1_000_000
    [relay] = rig.server.relays.values()
    assert relay.upstream is not None
    assert relay.upstream.transport is not None
    assert relay.upstream.transport.get_write_buffer_size() < 1_000_000
    go.set()
    await sending
    assert (await client.response())[0] == 200


async def test_engine_that_takes_no_body_is_timed_out(rig: Rig) -> None:
    """Not the client's silence: it is made to wait."""
    rig.limits = ListenerLimits(buffer_body=1000, body_timeout=0.2)
    rig.retry = RetryPolicy(attempts=0)
    go = asyncio.Event()

    async def script(connection: EngineConnection) -> None:
        await connection.head()
        await go.wait()

    await rig.start(script)
    client = await rig.client()
    client.writer.write(chat(b'{"model":"m","prompt":"' + b"x" * 40_000_000 + b'"}'))
    status, _, _ = await client.response()
    assert status == 504
    go.set()


async def test_engine_that_answers_before_the_body_has_ended(rig: Rig) -> None:
    """What is left of the body still goes up while the answer comes down."""
    rig.limits = ListenerLimits(buffer_body=1000)
    body = b'{"model":"m","prompt":"' + b"x" * 50_000 + b'"}'
    seen: list[bytes] = []

    async def script(connection: EngineConnection) -> None:
        await connection.head()
        await connection.send(SSE_HEAD)
        seen.append(await connection.reader.readexactly(len(body)))
        await connection.send(EVENT + b"0\r\n\r\n")

    await rig.start(script)
    client = await rig.client()
    await client.send(chat(body)[:-20_000])
    head = await client.read_until(b"\r\n\r\n")
    assert b"connection: close" in head
    await client.send(body[-20_000:])
    assert await client.rest() == EVENT + b"0\r\n\r\n"
    assert seen == [body]


async def test_total_timeout_of_a_slow_upload(rig: Rig) -> None:
    rig.limits = ListenerLimits(buffer_body=1000, body_timeout=5)
    rig.timeouts = Timeouts(total=0.2)
    engine = Watched()
    await rig.start(engine)
    client = await rig.client()
    await client.send(chat(b'{"model":"m","prompt":"' + b"x" * 5000 + b'"}')[:-1000])
    assert (await client.response())[0] == 504
    await asyncio.wait_for(engine.left.wait(), 0.1)


async def test_nothing_is_left_to_the_garbage_collector(rig: Rig) -> None:
    """Workers run with the collector off: requests and connections must not form cycles."""
    turns = 0

    async def script(connection: EngineConnection) -> None:
        nonlocal turns
        await connection.request()
        turns += 1
        if turns % 3 == 0:
            connection.reset()
        else:
            await connection.send(whole() if turns % 3 == 1 else SSE_HEAD + EVENT)

    await rig.start(script)
    gc.collect()
    gc.disable()
    try:
        for _ in range(9):
            client = await rig.client()
            await client.send(chat(Connection="close"))
            await client.rest()
            client.close()
        await rig.settled()
        await asyncio.sleep(0.05)
        rig.server.wheel.stop()  # connections that are over stay on it until their slot is due
        kinds = (Relay, Downstream, Upstream)
        assert [o for o in gc.get_objects() if issubclass(type(o), kinds)] == []
    finally:
        gc.enable()


async def test_upload_refused_by_its_engine(rig: Rig) -> None:
    """An answer before the body has ended reaches the client; both connections end."""
    rig.limits = ListenerLimits(buffer_body=1000)

    async def script(connection: EngineConnection) -> None:
        await connection.head()
        await connection.send(whole(b"too much", "413 Content Too Large"))
        await connection.gone()

    await rig.start(script)
    client = await rig.client()
    await client.send(chat(b'{"model":"m","messages":"' + b"x" * 50_000 + b'"}')[:-10])
    status, headers, body = await client.response()
    assert (status, body, headers["connection"]) == (413, b"too much", "close")
    assert await client.rest() == b""


async def test_streamed_body_is_not_sent_twice(rig: Rig) -> None:
    rig.limits = ListenerLimits(buffer_body=1000)

    async def script(connection: EngineConnection) -> None:
        await connection.head()
        connection.reset()

    await rig.start(script, script)
    client = await rig.client()
    await client.send(chat(b'{"model":"m","messages":"' + b"x" * 5000 + b'"}')[:-10])
    assert (await client.response())[0] == 503
    assert sum(engine.connections for engine in rig.engines) == 1


async def test_global_bound_on_buffered_bodies(rig: Rig) -> None:
    rig.limits = ListenerLimits(max_buffered=200_000)
    await rig.start(answering())
    clients = [await rig.client() for _ in range(4)]
    for client in clients:
        await client.send(chat(b'{"model":"m","prompt":"' + b"x" * 90_000 + b'"}')[:-1])
    await asyncio.sleep(0.1)
    statuses = []
    for client in clients:
        if client.reader._buffer:  # type: ignore[attr-defined]
            status, headers, body = await client.response()
            assert "retry-after" in headers
            assert b"max_buffered = 200000" in body
            statuses.append(status)
    assert statuses == [503, 503]
    for client in clients:
        client.close()

"""Clients that leave, stall or are sent away: nothing may go on working for them."""

import asyncio
import gc
import resource
import socket

import msgspec
import pytest

from router.core.cluster import CircuitBreaker
from router.core.host import Outcome
from router.core.listener import ListenerLimits
from router.core.retry.policy import RetryPolicy
from router.core.routing import Timeouts
from router.proxy.downstream import PIPELINE_LIMIT, Downstream
from router.proxy.relay import Relay
from router.proxy.upstream import Upstream
from tests.proxy.rig import EVENT, SSE_HEAD, Client, EngineConnection, Rig, answering, chat, whole


class Watched:
    """An engine that notes when the proxy has closed on it."""

    def __init__(self, before: bytes = b"") -> None:
        self.before = before
        self.arrived = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, connection: EngineConnection) -> None:
        await connection.head()
        if self.before:
            await connection.send(self.before)
        self.arrived.set()
        await connection.gone()
        self.left.set()


def leave(client: Client, how: str) -> None:
    if how == "reset":
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.writer.transport.abort()
    elif how == "half-close":
        client.writer.write_eof()
    else:
        client.close()


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("state", ["waiting_first_byte", "streaming"])
async def test_client_leaves(rig: Rig, state: str, how: str) -> None:
    """The engine sees it within 100 ms, and nothing stays in flight."""
    engine = Watched(SSE_HEAD + EVENT if state == "streaming" else b"")
    await rig.start(engine)
    client = await rig.client()
    await client.send(chat())
    await engine.arrived.wait()
    await rig.until(lambda: rig.states() == [state])
    leave(client, how)
    await asyncio.wait_for(engine.left.wait(), 0.1)
    await rig.settled()
    assert rig.server.connections == set()
    [record] = rig.recorder.records
    assert record.flag == "DC"
    [host] = rig.fleet.hosts.values()
    assert host.outcomes[Outcome.ABANDONED] == 1


async def test_client_leaves_while_queued(rig: Rig) -> None:
    rig.breaker = CircuitBreaker(max_connections=1)
    engine = Watched()
    await rig.start(engine)
    first, second = [await rig.client() for _ in range(2)]
    await first.send(chat())
    await rig.until(lambda: rig.states() == ["waiting_first_byte"])
    await second.send(chat())
    await rig.until(lambda: "queued" in rig.states())
    second.close()
    await rig.until(lambda: rig.states() == ["waiting_first_byte"])
    first.close()
    await rig.settled()
    assert rig.engines[0].connections == 1


async def test_client_leaves_while_connecting(rig: Rig) -> None:
    """A listener whose backlog is full never accepts; the attempt is given up with its client."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        await rig.start(port)
        client = await rig.client()
        await client.send(chat())
        await rig.until(lambda: rig.states() == ["connecting"])
        client.close()
        await rig.until(lambda: not rig.server.relays)
        for filler in fillers:
            filler.close()
    assert rig.recorder.records[0].flag == "DC"


async def test_connect_timeout(rig: Rig) -> None:
    rig.timeouts = Timeouts(connect=0.1)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        await rig.start(port)
        status, _, body = await rig.post()
        for filler in fillers:
            filler.close()
    assert (status, b"upstream_connect_failure" in body) == (503, True)


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
async def test_client_leaves_within_its_request(rig: Rig, how: str) -> None:
    await rig.start(answering())
    for part in (chat()[:30], chat()[:-3]):
        client = await rig.client()
        await client.send(part)
        await asyncio.sleep(0.01)
        leave(client, how)
        await rig.until(lambda: not rig.server.connections)
    assert rig.engines[0].connections == 0
    assert rig.recorder.records == []


async def test_client_leaves_within_an_upload(rig: Rig) -> None:
    rig.limits = ListenerLimits(buffer_body=1000)
    engine = Watched()
    await rig.start(engine)
    client = await rig.client()
    await client.send(chat(b'{"model":"m","messages":"' + b"x" * 5000 + b'"}')[:-1000])
    await engine.arrived.wait()
    client.close()
    await asyncio.wait_for(engine.left.wait(), 0.1)


async def test_pipelining_client_that_leaves_is_noticed(rig: Rig) -> None:
    engine = Watched()
    await rig.start(engine)
    client = await rig.client()
    await client.send(chat() * 3)
    await engine.arrived.wait()
    client.close()
    await asyncio.wait_for(engine.left.wait(), 0.1)
    await rig.settled()
    assert len(rig.recorder.records) == 1


async def test_flood_of_pipelined_requests_is_bounded(rig: Rig) -> None:
    engine = Watched()
    await rig.start(engine)
    client = await rig.client()
    client.writer.write(chat() * 200_000)
    await engine.arrived.wait()
    await asyncio.sleep(0.1)
    assert len(rig.connection._buffer) < PIPELINE_LIMIT + 512 * 1024
    rig.connection.abort()


# --- readers that stall -------------------------------------------------------------------------


def rss() -> int:
    """Peak resident size of this process, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def test_stalled_reader_pauses_its_engine(rig: Rig) -> None:
    """40 MB for a client that does not read: the engine is made to wait, then all arrives."""
    size = 40_000_000  # the kernel alone takes some 12 MB on loopback
    sent = 0

    async def script(connection: EngineConnection) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(whole(b"x" * size)[:-size])
        piece = b"x" * 50_000
        while sent < size:
            await connection.send(piece)
            sent += len(piece)
        await connection.gone()

    await rig.start(script)
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=4096)
    writer.write(chat())
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(0.3)
    assert sent < size / 2
    held = rig.connection.transport.get_write_buffer_size()
    assert held < 400_000
    assert len(await reader.readexactly(size)) == size
    await rig.settled()
    assert rig.recorder.records[0].flag == "-"
    writer.close()


async def test_reader_that_stalls_for_too_long_is_given_up(rig: Rig) -> None:
    """Its engine is not to blame."""
    rig.timeouts = Timeouts(idle=0.2)

    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(SSE_HEAD)
        while True:
            await connection.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")

    await rig.start(script)
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=4096)
    writer.write(chat())
    await reader.readuntil(b"\r\n\r\n")
    await rig.settled()
    [host] = rig.fleet.hosts.values()
    assert host.outcomes[Outcome.ABANDONED] == host.total == 1
    writer.close()


@pytest.mark.slow
async def test_twenty_stalled_readers_cost_less_than_ten_megabytes(rig: Rig) -> None:
    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(whole(b"x" * 14_000_000)[:-14_000_000])
        piece = memoryview(b"x" * 14_000_000)
        await connection.send(piece[:])  # type: ignore[arg-type]

    async def engine_in_another_process() -> int:
        program = (
            "import asyncio\n"
            "async def serve(r, w):\n"
            "    await r.readuntil(b'\\r\\n\\r\\n')\n"
            "    w.write(b'HTTP/1.1 200 OK\\r\\ncontent-length: 14000000\\r\\n\\r\\n')\n"
            "    for _ in range(280):\n"
            "        w.write(b'x' * 50000)\n"
            "        await w.drain()\n"
            "async def main():\n"
            "    s = await asyncio.start_server(serve, '127.0.0.1', 0)\n"
            "    print(s.sockets[0].getsockname()[1], flush=True)\n"
            "    await s.serve_forever()\n"
            "asyncio.run(main())\n"
        )
        import sys

        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
        )
        rig.processes.append(process)
        assert process.stdout is not None
        return int(await process.stdout.readline())

    await rig.start(await engine_in_another_process())
    before = rss()
    socks = []
    for _ in range(20):
        sock = socket.create_connection(("127.0.0.1", rig.port))
        sock.sendall(chat())
        socks.append(sock)
    await asyncio.sleep(2)
    assert len(rig.server.relays) == 20
    assert rss() - before < 10_000_000
    for sock in socks:
        sock.close()


# --- uploads ------------------------------------------------------------------------------------

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


# --- drain, cancel, abort -----------------------------------------------------------------------


async def test_drain(rig: Rig) -> None:
    """Idle connections end at once, busy ones after their answer; then nothing is left."""
    go = asyncio.Event()

    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await go.wait()
        await connection.send(whole())

    await rig.start(script)
    idle, busy = await rig.client(), await rig.client()
    await busy.send(chat())
    await rig.until(lambda: rig.states() == ["waiting_first_byte"])
    rig.server.close_listeners()
    rig.server.drain()
    assert await idle.rest() == b""
    assert not await rig.server.drained(0.05)
    go.set()
    status, headers, _ = await busy.response()
    assert (status, headers["connection"]) == (200, "close")
    assert await rig.server.drained(1)


async def test_health_while_draining(rig: Rig) -> None:
    await rig.start(answering())
    client, late = await rig.client(), await rig.client()
    health = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    await client.send(health)
    assert (await client.response())[::2] == (200, b'{"status":"ok"}')
    await late.send(health[:20])
    await asyncio.sleep(0.01)
    rig.server.drain()
    await late.send(health[20:])
    status, headers, body = await late.response()
    assert (status, headers["connection"], body) == (503, "close", b'{"status":"draining"}')


@pytest.mark.parametrize("how", ["cancel", "abort_all"])
async def test_operator_ends_a_stream(rig: Rig, how: str) -> None:
    engine = Watched(SSE_HEAD + EVENT)
    await rig.start(engine)
    client = await rig.client()
    await client.send(chat())
    await rig.until(lambda: rig.states() == ["streaming"])
    [request] = rig.server.requests()
    assert request["model"] == "m"
    if how == "cancel":
        assert rig.server.cancel(int(request["serial"]))  # type: ignore[arg-type]
        assert not rig.server.cancel(999)
    else:
        rig.server.abort_all("the router is shutting down")
    await client.read_until(b"\r\n\r\n")
    body = await client.rest()
    assert b'"code":"cancelled"' in body
    assert (b"the router is shutting down" in body) == (how == "abort_all")
    assert not body.endswith(b"0\r\n\r\n")
    await asyncio.wait_for(engine.left.wait(), 0.1)


async def test_operator_ends_a_request_that_waits(rig: Rig) -> None:
    await rig.start(Watched())
    client = await rig.client()
    await client.send(chat())
    await rig.until(lambda: rig.states() == ["waiting_first_byte"])
    rig.server.abort_all("the router is shutting down")
    status, headers, body = await client.response()
    assert status == 503
    error = msgspec.json.decode(body)["error"]
    assert (error["message"], error["code"]) == ("the router is shutting down", "cancelled")
    assert headers["retry-after"]


async def test_reload_keeps_streams_and_takes_effect_at_once(rig: Rig) -> None:
    engine = Watched(SSE_HEAD + EVENT)
    await rig.start(engine)
    client = await rig.client()
    await client.send(chat())
    await client.read_until(EVENT)
    rig.limits = ListenerLimits(max_body=5)
    rig.ports.clear()
    rig.director.update(rig.snapshot())
    assert (await rig.post())[0] == 413
    assert rig.states() == ["streaming"]
    client.close()
    await asyncio.wait_for(engine.left.wait(), 0.1)

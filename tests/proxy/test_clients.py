"""Clients that leave, stall or are sent away: nothing may go on working for them."""

import asyncio
import resource
import socket

import msgspec
import pytest

from router.core.admission.breaker import CircuitBreaker
from router.core.host import Outcome
from router.core.listener import ListenerLimits
from router.core.routing import Timeouts
from router.proxy import overview
from router.proxy.downstream import PIPELINE_LIMIT
from tests.proxy.rig import (
    EVENT,
    SSE_HEAD,
    Client,
    EngineConnection,
    Rig,
    Watched,
    answering,
    chat,
    whole,
)


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
    [request] = overview.requests(rig.server, 1000)
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

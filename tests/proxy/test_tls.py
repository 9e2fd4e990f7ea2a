"""TLS on both sides of the proxy: who is let in, and that nothing of its manners is lost."""

import asyncio
import ssl
from collections.abc import Callable

import msgspec
import pytest

from router.config.tls_material import PairPem, server_context
from router.control.messages import Material
from router.core.access.names import NameSet
from router.core.access.tenants import Access, Tenant
from router.core.cluster import UpstreamTls
from router.core.listener import ListenerLimits, ListenerPolicy
from router.core.routing import Timeouts
from tests.access.authority import Authority
from tests.proxy.rig import (
    EVENT,
    SSE_HEAD,
    Engine,
    EngineConnection,
    Rig,
    Watched,
    answering,
    chat,
    parse_headers,
    whole,
)

AUTHORITY = Authority()
LOCAL = AUTHORITY.issue("127.0.0.1", "localhost")


def encrypted(rig: Rig, *more: PairPem, client_ca: bool = False, required: bool = True) -> Rig:
    """A TLS listener, and clients that trust it."""
    pem = AUTHORITY.server(LOCAL, *more, client_ca=client_ca, required=required)
    rig.material = msgspec.structs.replace(rig.material, listeners=(pem,))
    rig.policy = ListenerPolicy(name="api", tls=True, auth=rig.policy.auth)
    rig.context = AUTHORITY.trusting()
    return rig


def encrypted_engines(rig: Rig, server_name: str | None = None) -> Rig:
    """Engines that speak TLS, and a cluster that trusts them."""
    rig.engine_context = server_context(AUTHORITY.server(LOCAL))
    clusters = {"c": AUTHORITY.upstream()}
    rig.material = Material(listeners=rig.material.listeners, clusters=clusters)
    rig.tls = UpstreamTls(server_name=server_name)
    return rig


async def test_requests_over_one_connection(rig: Rig) -> None:
    seen = []

    async def engine(connection: EngineConnection) -> None:
        while True:
            seen.append((await connection.request())[0])
            await connection.send(whole())

    await encrypted(rig).start(engine)
    client = await rig.client()
    assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    for _ in range(3):
        await client.send(chat())
        assert (await client.response())[0] == 200
    assert parse_headers(seen[0])["x-forwarded-proto"] == "https"
    assert rig.engines[0].connections == 1


async def test_a_request_that_comes_with_the_end_of_the_handshake(rig: Rig) -> None:
    await encrypted(rig).start(answering())
    for _ in range(20):
        client = await rig.client()
        client.writer.write(chat() + chat())
        assert (await client.response())[0] == 200
        assert (await client.response())[0] == 200


async def test_plain_text_to_a_tls_port_is_dropped(rig: Rig) -> None:
    await encrypted(rig).start(answering())
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(chat())
    assert b"HTTP" not in await reader.read()
    writer.close()
    await rig.until(lambda: rig.recorder.denials == [("api", "handshake")])
    assert not rig.server.handshakes


async def test_a_drain_does_not_wait_for_handshakes(rig: Rig) -> None:
    await encrypted(rig).start(answering())
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    await rig.until(lambda: bool(rig.server.handshakes))
    rig.server.drain()
    assert await reader.read() == b""
    writer.close()
    await rig.until(lambda: not rig.server.handshakes)


async def test_a_certificate_is_chosen_by_the_name_that_is_asked_for(rig: Rig) -> None:
    one = msgspec.structs.replace(AUTHORITY.issue("one.test"), names=("one.test",))
    wild = msgspec.structs.replace(AUTHORITY.issue("*.two.test"), names=("*.two.test",))
    await encrypted(rig, one, wild).start(answering())
    shown = {}
    for name in ("one.test", "ONE.test", "a.two.test", "localhost"):
        _, writer = await asyncio.open_connection(
            "127.0.0.1", rig.port, ssl=AUTHORITY.trusting(), server_hostname=name
        )
        certificate = writer.get_extra_info("peercert")
        shown[name] = certificate["subjectAltName"][0][1]
        writer.close()
    assert shown == {
        "one.test": "one.test",
        "ONE.test": "one.test",
        "a.two.test": "*.two.test",
        "localhost": "127.0.0.1",
    }


# --- client certificates ------------------------------------------------------------------------


def tenants(rig: Rig) -> Rig:
    tenant = Tenant(name="acme", certificates=NameSet(["spiffe://test/acme/*", "acme.test"]))
    rig.access = Access([tenant])
    rig.policy = ListenerPolicy(name="api", auth="required")
    return rig


@pytest.mark.parametrize(
    ("certificate", "status"),
    [
        (AUTHORITY.issue("spiffe://test/acme/web"), 200),
        (AUTHORITY.issue(common_name="acme.test"), 200),
        (AUTHORITY.issue("spiffe://test/other/web", common_name="acme.test"), 401),
    ],
)
async def test_a_certificates_name_is_a_tenant(rig: Rig, certificate: PairPem, status: int) -> None:
    await encrypted(tenants(rig), client_ca=True).start(answering())
    rig.context = AUTHORITY.trusting(certificate)
    assert (await rig.post())[0] == status
    await rig.until(lambda: bool(rig.recorder.records))
    assert rig.recorder.records[0].tenant == ("acme" if status == 200 else None)


async def told_nothing(rig: Rig, context: ssl.SSLContext) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, ssl=context)
    try:
        writer.write(chat())
        await reader.readuntil(b"\r\n\r\n")  # with TLS 1.3 the client is told late
    finally:
        writer.transport.abort()


async def test_without_a_certificate_there_is_no_handshake(rig: Rig) -> None:
    await encrypted(rig, client_ca=True).start(answering())
    for context in (AUTHORITY.trusting(), AUTHORITY.trusting(Authority().issue("acme.test"))):
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await told_nothing(rig, context)
    await rig.until(lambda: len(rig.recorder.denials) == 2)


async def test_an_optional_certificate_may_be_missing(rig: Rig) -> None:
    await encrypted(rig, client_ca=True, required=False).start(answering())
    assert (await rig.post())[0] == 200


# --- renewal ------------------------------------------------------------------------------------


async def test_a_renewed_certificate_is_shown_and_nobody_is_dropped(rig: Rig) -> None:
    await encrypted(rig).start(answering())
    client = await rig.client()
    await client.send(chat())
    await client.response()
    renewed = AUTHORITY.issue("127.0.0.1", "renewed.test")
    rig.material = Material(listeners=(AUTHORITY.server(renewed),))
    rig.secure()
    await client.send(chat())
    assert (await client.response())[0] == 200
    other = await rig.client()
    assert "renewed.test" in str(other.writer.get_extra_info("peercert"))


# --- towards engines ----------------------------------------------------------------------------


async def test_engines_are_verified_and_their_connections_kept(rig: Rig) -> None:
    await encrypted_engines(rig).start(answering())
    client = await rig.client()
    for _ in range(3):
        await client.send(chat())
        assert (await client.response())[0] == 200
    assert rig.engines[0].connections == 1


async def test_an_engine_with_another_name_is_not_spoken_to(rig: Rig) -> None:
    await encrypted_engines(rig, server_name="engine.test").start(answering())
    status, _, body = await rig.post()
    assert status == 503
    assert b"upstream_connect_failure" in body
    rig.engines[0].errors.clear()


async def test_a_server_name_is_asked_for_and_verified(rig: Rig) -> None:
    await encrypted_engines(rig, server_name="localhost").start(answering())
    assert (await rig.post())[0] == 200


async def test_the_engine_is_closed_when_the_client_has_gone(rig: Rig) -> None:
    engine = Watched(SSE_HEAD + EVENT)
    await encrypted_engines(encrypted(rig)).start(engine)
    client = await rig.client()
    await client.send(chat())
    await client.read_until(EVENT)
    client.writer.transport.abort()
    async with asyncio.timeout(5):
        await engine.left.wait()


async def test_a_client_that_says_goodbye_has_gone_too(rig: Rig) -> None:
    engine = Watched(SSE_HEAD + EVENT)
    await encrypted_engines(encrypted(rig)).start(engine)
    client = await rig.client()
    await client.send(chat())
    await client.read_until(EVENT)
    client.close()  # close_notify
    async with asyncio.timeout(5):
        await engine.left.wait()


async def settled(count: Callable[[], int]) -> None:
    """Wait until something moves, and then until nothing does any more."""
    async with asyncio.timeout(20):
        before = 0
        while not before or before != count():
            before = count()
            await asyncio.sleep(0.3)


async def test_a_stalled_reader_pauses_its_engine(rig: Rig) -> None:
    size = 64 << 20
    sent = 0

    async def engine(connection: EngineConnection) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        piece = bytes(1 << 16)
        while sent < size:
            await connection.send(piece)
            sent += len(piece)
        await connection.gone()

    rig.limits = ListenerLimits(write_high=64 << 10)
    rig.timeouts = Timeouts(idle=60)
    await encrypted_engines(encrypted(rig)).start(engine)
    client = await rig.client()
    client.writer.transport.pause_reading()
    await client.send(chat())
    await settled(lambda: sent)
    assert sent < size // 2
    assert rig.connection.write_paused
    client.writer.transport.resume_reading()
    assert len((await client.response())[2]) == size
    assert sent == size


async def test_a_large_upload_waits_for_a_slow_engine(rig: Rig) -> None:
    size = 60 << 20  # what sockets of two hops hold is far less
    sent = received = 0
    begin = asyncio.Event()

    async def engine(connection: EngineConnection) -> None:
        nonlocal received
        await connection.head()
        await begin.wait()
        while received < size:
            received += len(await connection.reader.read(1 << 20))
        await connection.send(whole())

    async def upload() -> None:
        nonlocal sent
        body = b'{"model":"m","prompt":"' + b"x" * (size - 25) + b'"}'
        await client.send(chat(body)[: -len(body)])
        for start in range(0, size, 1 << 16):
            await client.send(body[start : start + (1 << 16)])
            sent = start

    rig.limits = ListenerLimits(buffer_body=1 << 16)
    await encrypted_engines(encrypted(rig)).start(engine)
    client = await rig.client()
    sending = asyncio.create_task(upload())
    await settled(lambda: sent)
    assert sent < size // 2
    assert rig.server.buffered < 1 << 20
    begin.set()
    await sending
    assert (await client.response())[0] == 200
    assert received == size


async def test_a_cut_stream_ends_with_an_error(rig: Rig) -> None:
    async def engine(connection: EngineConnection) -> None:
        await connection.head()
        await connection.send(SSE_HEAD + EVENT)
        connection.reset()

    await encrypted_engines(encrypted(rig)).start(engine)
    client = await rig.client()
    await client.send(chat())
    told = await client.rest()
    assert EVENT in told
    assert b'"error"' in told


async def test_a_mutual_handshake_with_engines(rig: Rig) -> None:
    own = AUTHORITY.issue("router.test")
    encrypted_engines(rig)
    rig.engine_context = server_context(AUTHORITY.server(LOCAL, client_ca=True))
    rig.material = Material(listeners=(None,), clusters={"c": AUTHORITY.upstream(own)})
    await rig.start(answering())
    assert isinstance(rig.engines[0], Engine)
    assert (await rig.post())[0] == 200

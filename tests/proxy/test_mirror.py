"""Copies of requests go to a mirror, and the client is none the wiser."""

import asyncio
import dataclasses

from router.core.admission.token_bucket import BucketSpec
from router.core.mirror import Mirror, MirrorState
from router.proxy.shadow import shadowed
from router.telemetry.record import ExchangeRecord
from tests.proxy.rig import EVENT, SSE_HEAD, EngineConnection, Rig, Watched, answering, chat, whole

USAGE = whole(b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}')
BODY = b'{ "model" : "m", "messages":[{"role":"user","content":"\\u00e9"}] , "x": 1.0}'


def state(rig: Rig) -> MirrorState:
    return rig.director.mirrored("r", "s")


async def mirroring(rig: Rig, script: object, **fields: object) -> None:
    rig.others = {"s": script}  # type: ignore[dict-item]
    rig.terms = {"mirrors": (Mirror(cluster="s", **fields),)}  # type: ignore[arg-type]
    await rig.start(answering(whole()))


async def ended(rig: Rig, **counts: int) -> None:
    await rig.until(lambda: dict(state(rig).ended) == counts)
    assert not rig.server.copies
    assert state(rig).in_flight == 0


async def test_the_same_bytes_with_a_host_that_says_shadow(rig: Rig) -> None:
    await mirroring(rig, answering(USAGE))
    status, _, body = await rig.post(BODY, x_request_id="one")
    assert (status, body) == (200, b'{"ok":true}')
    await ended(rig, completed=1)
    [(head, seen)] = rig.others_engines["s"].seen
    [(main_head, main_body)] = rig.engines[0].seen
    assert seen == main_body == BODY
    assert head == main_head.replace(b"Host: proxy\r\n", b"Host: proxy-shadow\r\n")
    assert b"x-request-id: one\r\n" in head
    assert state(rig).tokens == 7
    [record] = rig.recorder.records
    assert (record.cluster, record.shadow) == ("c", False)


def test_the_suffix_stands_before_the_port() -> None:
    for host, changed in (
        (b"a.b", b"a.b-shadow"),
        (b"a.b:80", b"a.b-shadow:80"),
        (b"[::1]:80", b"[::1]-shadow:80"),
        (b"[::1]", b"[::1]-shadow"),
    ):
        head = b"GET / HTTP/1.1\r\nx: y\r\nhost: " + host + b"\r\nz: host: q\r\n\r\n"
        assert shadowed(head) == head.replace(b": " + host, b": " + changed, 1)


async def test_connections_to_the_mirror_are_kept(rig: Rig) -> None:
    await mirroring(rig, answering(USAGE), host_suffix=False)
    for count in range(1, 4):
        await rig.post()
        await ended(rig, completed=count)
    assert rig.others_engines["s"].connections == 1
    assert b"Host: proxy\r\n" in rig.others_engines["s"].seen[0][0]


async def test_a_mirror_that_hangs_costs_the_client_nothing(rig: Rig) -> None:
    await mirroring(rig, Watched(), timeout=0.2)
    assert (await rig.post())[0] == 200
    assert state(rig).in_flight == 1
    await ended(rig, timed_out=1)


async def test_a_mirror_that_fails(rig: Rig) -> None:
    async def resetting(connection: EngineConnection) -> None:
        await connection.request()
        connection.reset()

    await mirroring(rig, resetting)
    assert (await rig.post())[0] == 200
    await ended(rig, failed=1)
    hosts = [host for host in rig.fleet.hosts.values() if host.endpoint.cluster == "s"]
    assert hosts[0].total == 0


async def test_a_mirror_that_is_not_there(rig: Rig) -> None:
    await mirroring(rig, 1)
    assert (await rig.post())[0] == 200
    await ended(rig, failed=1)


async def test_an_error_of_the_mirrors(rig: Rig) -> None:
    await mirroring(rig, answering(whole(b"{}", "500 Internal Server Error")))
    assert (await rig.post())[0] == 200
    await ended(rig, error=1)


async def test_a_kept_connection_that_was_closed_is_mended(rig: Rig) -> None:
    async def once(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(USAGE)
        await connection.head()  # the next one is left without an answer
        connection.reset()

    await mirroring(rig, once)
    await rig.post()
    await ended(rig, completed=1)
    await rig.post()
    await ended(rig, completed=2)


async def test_an_upload_that_is_not_kept_is_not_mirrored(rig: Rig) -> None:
    await mirroring(rig, answering(USAGE))
    rig.limits = dataclasses.replace(rig.limits, buffer_body=10_000)
    rig.director.update(rig.snapshot())
    body = b'{"model":"m","prompt":"%b"}' % (b"x" * 40_000)
    client = await rig.client()
    request = chat(body)
    await client.send(request[:20_000])
    await rig.until(lambda: bool(rig.server.relays))
    await client.send(request[20_000:])
    assert (await client.response())[0] == 200
    assert dict(state(rig).skipped) == {"body": 1}


async def test_a_bound_on_tokens(rig: Rig) -> None:
    await mirroring(rig, answering(USAGE), tokens=BucketSpec(30.0, 0.001, 30.0), assumed_tokens=20)
    for _ in range(2):
        await rig.post()
    await rig.until(lambda: not rig.server.copies)
    assert dict(state(rig).skipped) == {"tokens": 1}


async def test_a_stream_is_read_to_its_end(rig: Rig) -> None:
    async def streaming(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(SSE_HEAD)
        for _ in range(50):
            await connection.send(EVENT)
            await asyncio.sleep(0)
        event = b'data: {"usage":{"prompt_tokens":5,"completion_tokens":50}}\n\n'
        await connection.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event))

    await mirroring(rig, streaming)
    await rig.post(b'{"model":"m","stream":true}')
    await ended(rig, completed=1)
    assert state(rig).tokens == 55


async def test_a_drain_gives_copies_up(rig: Rig) -> None:
    engine = Watched()
    await mirroring(rig, engine)
    assert (await rig.post())[0] == 200
    await engine.arrived.wait()
    rig.server.drain()
    await ended(rig, cancelled=1)
    async with asyncio.timeout(5):
        await engine.left.wait()


async def test_a_client_that_leaves_does_not_end_the_copy(rig: Rig) -> None:
    answer = asyncio.Event()

    async def waiting(connection: EngineConnection) -> None:
        await connection.request()
        await answer.wait()
        await connection.send(USAGE)

    rig.others = {"s": waiting}
    rig.terms = {"mirrors": (Mirror(cluster="s"),)}
    engine = Watched()
    await rig.start(engine)
    client = await rig.client()
    await client.send(chat())
    await engine.arrived.wait()
    client.close()
    async with asyncio.timeout(5):
        await engine.left.wait()
    answer.set()
    await ended(rig, completed=1)


async def test_a_copy_in_the_access_log(rig: Rig) -> None:
    await mirroring(rig, answering(USAGE), log=True)
    logged: list[ExchangeRecord] = []
    rig.recorder.shadow_ended = logged.append  # type: ignore[method-assign]
    await rig.post()
    await ended(rig, completed=1)
    [record] = logged
    assert (record.shadow, record.cluster, record.reason) == (True, "s", "completed")
    assert (record.prompt_tokens, record.completion_tokens) == (3, 4)

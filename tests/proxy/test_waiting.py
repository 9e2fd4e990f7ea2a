"""Streams that are told their place in line: what the client reads, byte for byte."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from router.core.admission.breaker import CircuitBreaker, QueuePolicy
from router.core.routing import Timeouts
from tests.proxy.rig import Client, EngineConnection, Rig, chat

BODY = b'{"model":"m","stream":true}'
EVENTS = b'data: {"choices":[]}\n\ndata: [DONE]\n\n'
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENTS), EVENTS)
)
LENGTH = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n%b" % (
    len(EVENTS),
    EVENTS,
)
TO_CLOSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + EVENTS
ERROR = b'{"error":{"message":"bad","type":"x","param":null,"code":null}}'
REFUSED = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    % (len(ERROR), ERROR)
)
PLAIN = b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\noops"


class Engine:
    """The first request is held until it is let; the others are answered with ``answer``."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.held = asyncio.Event()
        self._first = True

    async def __call__(self, connection: EngineConnection) -> None:
        while True:
            await connection.request()
            if self._first:
                self._first = False
                await self.held.wait()
                await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                continue
            await connection.send(self.answer)
            if self.answer == TO_CLOSE:
                connection.close()
                return


Scene = Callable[[bytes], Awaitable[tuple[Engine, Client]]]


@pytest.fixture
def scene(rig: Rig) -> Scene:
    """A request in the one place, and a stream that waits for it and hears of that."""

    async def build(answer: bytes) -> tuple[Engine, Client]:
        engine = Engine(answer)
        rig.breaker = CircuitBreaker(max_connections=1)
        rig.queue = QueuePolicy(comments=0.02)
        await rig.start(engine)
        first = await rig.client()
        await first.send(chat())
        await rig.until(lambda: rig.director.places("c").in_flight == 1)
        client = await rig.client()
        await client.send(chat(BODY))
        head = await client.read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        assert b"transfer-encoding: chunked" in head and b"x-request-id: " in head
        return engine, client

    return build


async def body(client: Client) -> bytes:
    """The rest of a chunked body, and not a byte more."""
    data = b""
    async with asyncio.timeout(5):
        while size := int(await client.reader.readline(), 16):
            data += await client.reader.readexactly(size)
            assert await client.reader.readexactly(2) == b"\r\n"
        assert await client.reader.readexactly(2) == b"\r\n"
    return data


def without_comments(data: bytes) -> bytes:
    events = data.split(b"\n\n")
    assert events[0].startswith(b": queued position=1")
    return b"\n\n".join(event for event in events if not event.startswith(b": "))


@pytest.mark.parametrize("answer", [CHUNKED, LENGTH, TO_CLOSE], ids=["chunked", "length", "close"])
async def test_the_stream_follows_the_comments(rig: Rig, scene: Scene, answer: bytes) -> None:
    engine, client = await scene(answer)
    engine.held.set()
    assert without_comments(await body(client)) == EVENTS
    # The connection can be used again.
    await client.send(chat())
    async with asyncio.timeout(5):
        assert (await client.reader.readline()).startswith(b"HTTP/1.1 200")
    await rig.until(lambda: len(rig.recorder.records) == 3)
    record = rig.recorder.records[1]
    assert record.status == 200 and record.queued > 0


async def test_an_engines_error_becomes_an_event(rig: Rig, scene: Scene) -> None:
    engine, client = await scene(REFUSED)
    engine.held.set()
    assert without_comments(await body(client)) == b"data: " + ERROR + b"\n\n"
    await rig.until(lambda: len(rig.recorder.records) == 2)
    assert rig.recorder.records[1].status == 400


async def test_an_error_without_json_is_put_into_words(scene: Scene) -> None:
    engine, client = await scene(PLAIN)
    engine.held.set()
    data = without_comments(await body(client))
    assert data.startswith(b"\n\ndata: ") and b"the engine answered 500" in data


async def test_waiting_too_long_becomes_an_event(rig: Rig, scene: Scene) -> None:
    rig.timeouts = Timeouts(queue=0.2)
    engine, client = await scene(CHUNKED)
    data = without_comments(await body(client))
    assert b'"code":"queue_timeout"' in data
    engine.held.set()
    await rig.until(lambda: len(rig.recorder.records) == 2)
    assert [record.flag for record in rig.recorder.records] == ["UT", "-"]


async def test_who_hangs_up_hears_no_more(rig: Rig, scene: Scene) -> None:
    engine, client = await scene(CHUNKED)
    client.close()
    await rig.until(lambda: rig.director.places("c").queue.waiting == 0)
    engine.held.set()


@pytest.mark.parametrize(
    "sent",
    [chat(b'{"model":"m"}'), chat(BODY, path="/v1/embeddings")],
    ids=["no stream", "no completion"],
)
async def test_others_keep_their_status(rig: Rig, sent: bytes) -> None:
    engine = Engine(PLAIN)
    rig.breaker = CircuitBreaker(max_connections=1)
    rig.queue = QueuePolicy(comments=0.01)
    await rig.start(engine)
    first = await rig.client()
    await first.send(chat())
    await rig.until(lambda: rig.director.places("c").in_flight == 1)
    client = await rig.client()
    await client.send(sent)
    await rig.until(lambda: rig.director.places("c").queue.waiting == 1)
    [relay] = [r for r in rig.server.relays.values() if r.exchange and r.exchange.queued]
    assert relay.waiting is None
    engine.held.set()
    status, _, _ = await client.response()
    assert status == 500


async def test_a_short_wait_changes_nothing(rig: Rig) -> None:
    engine = Engine(PLAIN)
    rig.breaker = CircuitBreaker(max_connections=1)
    rig.queue = QueuePolicy(comments=60.0)
    await rig.start(engine)
    first = await rig.client()
    await first.send(chat())
    await rig.until(lambda: rig.director.places("c").in_flight == 1)
    client = await rig.client()
    await client.send(chat(BODY))
    await rig.until(lambda: rig.director.places("c").queue.waiting == 1)
    engine.held.set()
    status, _, payload = await client.response()
    assert (status, payload) == (500, b"oops")

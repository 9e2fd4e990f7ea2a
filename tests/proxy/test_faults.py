"""What goes wrong at an engine, and what the client and the fleet are told of it."""

import asyncio

import msgspec
import pytest

from router.core.admission.breaker import CircuitBreaker
from router.core.host import Outcome
from router.core.retry.policy import RetryOn, RetryPolicy
from router.core.routing import Timeouts
from tests.proxy.rig import EVENT, SSE_HEAD, EngineConnection, Rig, Script, answering, chat, whole

DEAD = 1
"""A loopback port where nobody listens."""


async def resetting(connection: EngineConnection) -> None:
    await connection.request()
    connection.reset()


async def closing(connection: EngineConnection) -> None:
    await connection.request()
    connection.close()


async def cutting_the_head(connection: EngineConnection) -> None:
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\ncontent-le")
    connection.close()


async def silent(connection: EngineConnection) -> None:
    await connection.request()
    await connection.gone()


UNAVAILABLE = answering(whole(b"busy", "503 Service Unavailable"))
BEFORE_THE_HEAD: dict[str, tuple[Script | int, RetryPolicy, int]] = {
    "nobody listens": (DEAD, RetryPolicy(attempts=1), 200),
    "nobody listens, no retry": (DEAD, RetryPolicy(attempts=0), 503),
    "reset": (resetting, RetryPolicy(attempts=1), 200),
    "reset, only connect-failure is retried": (
        resetting,
        RetryPolicy(attempts=1, on=RetryOn.CONNECT_FAILURE),
        503,
    ),
    "closed": (closing, RetryPolicy(attempts=1), 200),
    "closed within the head": (cutting_the_head, RetryPolicy(attempts=1), 200),
    "garbage": (answering(b"garbage\r\n\r\n"), RetryPolicy(attempts=1), 200),
    "garbage, no retry": (answering(b"garbage\r\n\r\n"), RetryPolicy(attempts=0), 502),
    "503, not retried by default": (UNAVAILABLE, RetryPolicy(attempts=1), 503),
    "503, retried": (UNAVAILABLE, RetryPolicy(attempts=1, on=RetryOn.GATEWAY_ERROR), 200),
    "503, listed": (
        UNAVAILABLE,
        RetryPolicy(
            attempts=1, on=RetryOn.RETRIABLE_STATUS_CODES, status_codes=frozenset((429, 503))
        ),
        200,
    ),
    "silent": (silent, RetryPolicy(attempts=1, per_try_timeout=0.1), 200),
    "silent, no retry": (silent, RetryPolicy(attempts=0, per_try_timeout=0.1), 504),
}


@pytest.mark.parametrize("name", BEFORE_THE_HEAD)
async def test_fault_before_the_head(rig: Rig, name: str) -> None:
    """One bad endpoint and one good one, which alternate: how the bad one's requests end."""
    script, rig.retry, expected = BEFORE_THE_HEAD[name]
    await rig.start(script, answering())
    client = await rig.client()
    body = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
    for _ in range(4):
        await client.send(chat(body))
    answers = [await client.response() for _ in range(4)]
    assert sorted(status for status, _, _ in answers) == sorted([200, expected] * 2)
    for status, headers, answer in answers:
        if status == 503 and answer != b"busy":
            assert headers["retry-after"] == "1"
        if status >= 500 and answer != b"busy":
            assert msgspec.json.decode(answer)["error"]["type"] in (
                "upstream_error",
                "timeout_error",
            )
    await rig.settled()
    attempts = max(record.attempts for record in rig.recorder.records)
    assert attempts == (2 if expected == 200 else 1)


async def test_all_endpoints_dead(rig: Rig) -> None:
    rig.retry = RetryPolicy(attempts=5)
    await rig.start(DEAD, 2)
    status, headers, body = await rig.post()
    assert (status, headers["retry-after"]) == (503, "1")
    assert msgspec.json.decode(body)["error"]["code"] == "upstream_connect_failure"
    assert rig.recorder.records[0].flag == "UF,URX"


async def test_no_endpoint(rig: Rig) -> None:
    await rig.start()
    status, headers, body = await rig.post()
    assert (status, headers["retry-after"]) == (503, "1")
    assert msgspec.json.decode(body)["error"]["code"] == "no_healthy_upstream"


async def test_unknown_model(rig: Rig) -> None:
    await rig.start(answering())
    client = await rig.client()
    await client.send(chat(b'{"model":"other"}') + chat())
    status, headers, body = await client.response()
    assert (status, headers.get("connection")) == (404, None)
    assert msgspec.json.decode(body)["error"] == {
        "message": "The model `other` does not exist.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    assert (await client.response())[0] == 200


# --- the race on kept connections -------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_stale_connection_is_mended(rig: Rig, how: str) -> None:
    """The engine closes a kept connection as the next request arrives: no retry is spent."""
    rig.retry = RetryPolicy(attempts=0)
    requests = 0

    async def script(connection: EngineConnection) -> None:
        nonlocal requests
        await connection.request()
        requests += 1
        await connection.send(whole())
        await connection.head()  # the second one, which is not answered
        getattr(connection, how)()

    await rig.start(script)
    client = await rig.client()
    for _ in range(3):
        await client.send(chat())
        assert (await client.response())[0] == 200
    assert requests == 3
    host = next(iter(rig.fleet.hosts.values()))
    assert host.outcomes[Outcome.SUCCESS] == host.total == 3
    assert [record.attempts for record in rig.recorder.records] == [1, 1, 1]


async def test_stale_connection_is_mended_only_once(rig: Rig) -> None:
    rig.retry = RetryPolicy(attempts=0)
    served = 0

    async def script(connection: EngineConnection) -> None:
        nonlocal served
        served += 1
        await connection.request()
        if served == 1:
            await connection.send(whole())
            await connection.request()
        connection.reset()

    await rig.start(script)
    client = await rig.client()
    await client.send(chat() + chat())
    assert (await client.response())[0] == 200
    assert (await client.response())[0] == 503
    assert rig.engines[0].connections == 2


async def test_half_a_response_on_a_kept_connection_is_no_race(rig: Rig) -> None:
    rig.retry = RetryPolicy(attempts=0)

    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(whole())
        await connection.request()
        await connection.send(b"HTTP/1.1 2")
        connection.close()

    await rig.start(script)
    client = await rig.client()
    await client.send(chat() + chat())
    assert [(await client.response())[0] for _ in range(2)] == [200, 503]
    assert rig.engines[0].connections == 1


async def test_connection_that_the_engine_closed_while_idle_is_not_used(rig: Rig) -> None:
    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(whole())

    await rig.start(script)
    client = await rig.client()
    for _ in range(2):
        await client.send(chat())
        assert (await client.response())[0] == 200
        await asyncio.sleep(0.02)
        assert rig.server.gauges()["pooled"] == 0


# --- cut in the middle ------------------------------------------------------------------------

CHUNK_OF_20 = b"14\r\ndata: 01234567890\n\n\n\r\n"
CUT: dict[str, tuple[bytes, bytes]] = {
    # after which the connection closes: what the client reads of the body, de-chunked
    "between chunks": (EVENT + EVENT, b"data: x\n\ndata: x\n\n"),
    "before the first chunk": (b"", b""),
    "within a chunk": (EVENT + CHUNK_OF_20[:14], b"data: x\n\ndata: 0123"),
    "one byte short of a chunk": (EVENT + CHUNK_OF_20[:23], b"data: x\n\ndata: 01234567890\n\n"),
    "after the size line": (EVENT + b"14\r\n", b"data: x\n\n"),
}


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("name", CUT)
async def test_cut_stream_ends_with_an_error_event(rig: Rig, name: str, how: str) -> None:
    """A well-formed event says so, but neither ``[DONE]`` nor the last chunk follows."""
    sent, passed_on = CUT[name]

    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(SSE_HEAD + sent)
        await asyncio.sleep(0.02)
        getattr(connection, how)()

    await rig.start(script)
    client = await rig.client()
    await client.send(chat())
    head = await client.read_until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    body, complete = dechunk(await client.rest())
    assert not complete
    assert body.startswith(passed_on)
    last = body[len(passed_on) :].strip(b"\n")
    assert last.startswith(b"data: {")
    assert msgspec.json.decode(last[6:])["error"]["code"] == "upstream_reset"
    assert body.endswith(b"\n\n")
    assert b"[DONE]" not in body
    record = rig.recorder.records[0]
    assert (record.status, record.flag) == (200, "UC")
    [host] = rig.fleet.hosts.values()
    assert host.outcomes[Outcome.TRUNCATED] == 1


CUT_IN_FRAMING = [b"1", EVENT[:-1], EVENT[:-2], b"14;ext", b"9\r", EVENT + b"0\r\n"]


@pytest.mark.parametrize("sent", CUT_IN_FRAMING)
async def test_stream_cut_within_its_framing_just_ends(rig: Rig, sent: bytes) -> None:
    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(SSE_HEAD + sent)

    await rig.start(script)
    client = await rig.client()
    await client.send(chat())
    await client.read_until(b"\r\n\r\n")
    assert await client.rest() == sent


async def test_cut_body_of_a_length_just_ends(rig: Rig) -> None:
    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(whole(b"x" * 100)[:-50])

    await rig.start(script)
    client = await rig.client()
    await client.send(chat())
    await client.read_until(b"\r\n\r\n")
    assert await client.rest() == b"x" * 50


async def test_cut_stream_of_an_http10_client(rig: Rig) -> None:
    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(SSE_HEAD + EVENT)

    await rig.start(script)
    client = await rig.client()
    await client.send(b'POST /v1/completions HTTP/1.0\r\nContent-Length: 13\r\n\r\n{"model":"m"}')
    await client.read_until(b"\r\n\r\n")
    body = await client.rest()
    assert body.startswith(b"data: x\n\n\n\ndata: {")
    assert msgspec.json.decode(body[17:])["error"]["code"] == "upstream_reset"


def dechunk(data: bytes) -> tuple[bytes, bool]:
    """Payload, and whether the last chunk was there; every chunk must be whole."""
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        if int(size, 16) == 0:
            return body, True
        assert data[int(size, 16) :][:2] == b"\r\n", data
        body += data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]
    return body, False


# --- time -------------------------------------------------------------------------------------


async def stalling(connection: EngineConnection) -> None:
    await connection.request()
    await connection.send(SSE_HEAD + EVENT)
    await connection.gone()


async def trickling(connection: EngineConnection) -> None:
    await connection.request()
    await connection.send(SSE_HEAD)
    while True:
        await connection.send(EVENT)
        await asyncio.sleep(0.02)


TIMES: dict[str, tuple[Script, Timeouts, int, str, str]] = {
    "first byte": (silent, Timeouts(first_byte=0.1), 504, "UT", "upstream_timeout"),
    "total, before the head": (silent, Timeouts(total=0.1), 504, "UT", "upstream_timeout"),
    "idle": (stalling, Timeouts(idle=0.1), 200, "SI", "stream_idle_timeout"),
    "total, streaming": (trickling, Timeouts(total=0.5), 200, "UT", "upstream_timeout"),
}


@pytest.mark.parametrize("name", TIMES)
async def test_timeouts(rig: Rig, name: str) -> None:
    script, rig.timeouts, status, flag, code = TIMES[name]
    rig.retry = RetryPolicy(attempts=0)
    left = asyncio.Event()

    async def watched(connection: EngineConnection) -> None:
        try:
            await script(connection)
        finally:
            left.set()

    await rig.start(watched)
    client = await rig.client()
    await client.send(chat())
    head = await client.read_until(b"\r\n\r\n")
    assert int(head[9:12]) == status
    rest = await client.rest() if status == 200 else await client.read_until(b"}}")
    assert f'"code":"{code}"'.encode() in rest
    await asyncio.wait_for(left.wait(), 2)
    await rig.settled()
    assert rig.recorder.records[0].flag == flag


async def test_stream_that_flows_is_not_idle(rig: Rig) -> None:
    rig.timeouts = Timeouts(idle=0.6)

    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(SSE_HEAD)
        for _ in range(10):
            await asyncio.sleep(0.1)
            await connection.send(EVENT)
        await connection.send(b"0\r\n\r\n")

    await rig.start(script)
    status, _, body = await rig.post()
    assert (status, body) == (200, b"data: x\n\n" * 10)


async def test_waiting_in_line(rig: Rig) -> None:
    """One place: the second waits for it, the third finds the queue full, the second goes on."""
    rig.breaker = CircuitBreaker(max_connections=1, max_pending=1)
    go = asyncio.Event()

    async def script(connection: EngineConnection) -> None:
        while True:
            await connection.request()
            await go.wait()
            await connection.send(whole())

    await rig.start(script)
    first, second, third = [await rig.client() for _ in range(3)]
    await first.send(chat())
    await rig.until(lambda: rig.states() == ["waiting_first_byte"])
    await second.send(chat())
    await rig.until(lambda: "queued" in rig.states())
    await third.send(chat())
    status, headers, body = await third.response()
    assert (status, headers["retry-after"]) == (503, "1")
    assert b"max_pending" in body
    go.set()
    assert (await first.response())[0] == 200
    assert (await second.response())[0] == 200
    await rig.settled()
    assert rig.recorder.records[-1].queued > 0


async def test_waiting_in_line_for_too_long(rig: Rig) -> None:
    rig.breaker = CircuitBreaker(max_connections=1)
    rig.timeouts = Timeouts(queue=0.1)
    await rig.start(silent)
    first, second = [await rig.client() for _ in range(2)]
    await first.send(chat())
    await rig.until(lambda: rig.states() == ["waiting_first_byte"])
    await second.send(chat())
    status, _, body = await second.response()
    assert (status, msgspec.json.decode(body)["error"]["code"]) == (503, "queue_timeout")
    first.close()


async def test_many_in_line_without_an_endpoint_do_not_recurse(rig: Rig) -> None:
    """When the only endpoint leaves, all that wait are refused, one after the other."""
    rig.breaker = CircuitBreaker(max_connections=1, max_pending=2000, max_requests=5000)
    await rig.start(silent)
    first = await rig.client()
    await first.send(chat())
    await rig.until(lambda: rig.states() == ["waiting_first_byte"])
    waiting = [await rig.client() for _ in range(300)]
    for client in waiting:
        await client.send(chat())
    await rig.until(lambda: len(rig.server.relays) == 301)
    rig.ports.clear()
    rig.director.update(rig.snapshot())
    first.close()
    for client in waiting:
        assert (await client.response())[0] == 503

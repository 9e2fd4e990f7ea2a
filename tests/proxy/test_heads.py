"""What becomes of heads on their way through, in both directions."""

import re

import pytest

from router.core.listener import ListenerLimits
from router.core.routing import Matcher
from tests.proxy.rig import EngineConnection, Rig, answering, chat, parse_headers, whole

REQUEST: dict[str, tuple[dict[str, str], dict[str, str | None]]] = {
    "other fields pass": (
        {"Authorization": "Bearer k", "X-Custom": "1", "Cookie": "a=b"},
        {"authorization": "Bearer k", "x-custom": "1", "cookie": "a=b", "host": "proxy"},
    ),
    "hop-by-hop fields end here": (
        {
            "Connection": "keep-alive",
            "Keep-Alive": "timeout=5",
            "Proxy-Connection": "x",
            "TE": "trailers",
            "Trailer": "x-t",
            "Upgrade": "websocket",
        },
        dict.fromkeys(["connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"]),
    ),
    "and those that Connection names": (
        {"Connection": "close, X-Secret ,x-other", "X-Secret": "1", "X-Other": "2", "X-C": "3"},
        {"connection": None, "x-secret": None, "x-other": None, "x-c": "3"},
    ),
    "but never what frames the message": (
        {"Connection": "content-length, host, content-type", "Content-Type": "application/json"},
        {"content-length": "13", "host": "proxy", "content-type": "application/json"},
    ),
    "expectations are met here": ({"Expect": "100-continue"}, {"expect": None}),
    "the client's address is added": ({}, {"x-forwarded-for": "127.0.0.1"}),
    "after those before it": (
        {"X-Forwarded-For": "10.1.1.1, 10.2.2.2"},
        {"x-forwarded-for": "10.1.1.1, 10.2.2.2, 127.0.0.1"},
    ),
    "the scheme is told": ({}, {"x-forwarded-proto": "http"}),
    "unless somebody knows better": (
        {"X-Forwarded-Proto": "https"},
        {"x-forwarded-proto": "https"},
    ),
    "a good request id is kept": ({"X-Request-Id": "abc-1:2"}, {"x-request-id": "abc-1:2"}),
    "a trace context is passed on": (
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    ),
    "nobody speaks in our name": (
        {"X-Warmpath-Endpoint": "a", "x-gateway-destination-endpoint": "b"},
        {"x-warmpath-endpoint": None, "x-gateway-destination-endpoint": None},
    ),
}


@pytest.mark.parametrize("name", REQUEST)
async def test_request_head(rig: Rig, name: str) -> None:
    sent, expected = REQUEST[name]
    heads: list[bytes] = []

    async def script(connection: EngineConnection) -> None:
        heads.append((await connection.request())[0])
        await connection.send(whole())

    await rig.start(script)
    status, _, _ = await rig.post(**{k.replace("-", "_"): v for k, v in sent.items()})
    if status == 100:
        assert sent == {"Expect": "100-continue"}
    seen = parse_headers(heads[0])
    assert {name: seen.get(name) for name in expected} == expected


async def test_head_is_not_touched_otherwise(rig: Rig) -> None:
    """Names keep their case, lines their order, the target its query."""
    heads: list[bytes] = []

    async def script(connection: EngineConnection) -> None:
        heads.append((await connection.request())[0])
        await connection.send(whole())

    await rig.start(script)
    client = await rig.client()
    await client.send(
        b"POST /v1/completions?a=%2F&b HTTP/1.1\r\nB: 1\r\nHOST: proxy\r\nContent-LENGTH: 13\r\n"
        b'a:2\r\nB: 3\r\nX-Request-ID: i\r\n\r\n{"model":"m"}'
    )
    assert (await client.response())[0] == 200
    assert heads[0] == (
        b"POST /v1/completions?a=%2F&b HTTP/1.1\r\nB: 1\r\nHOST: proxy\r\na:2\r\nB: 3\r\n"
        b"x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-request-id: i\r\n"
        b"content-length: 13\r\n\r\n"
    )


@pytest.mark.parametrize("sent", [None, "", "a b", "x" * 129, "\xe4"])
async def test_request_id_is_made_up_if_there_is_no_good_one(rig: Rig, sent: str | None) -> None:
    await rig.start(answering(whole(headers="X-Request-Id: engine\r\n")))
    headers = {} if sent is None else {"X_Request_Id": sent}
    client = await rig.client()
    await client.send(chat(**headers))
    _, answer, _ = await client.response()
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
        answer["x-request-id"],
    )
    assert rig.recorder.records[0].request_id == answer["x-request-id"]


async def test_response_head(rig: Rig) -> None:
    await rig.start(
        answering(
            whole(
                headers="Server: uvicorn\r\nX-Custom: 1\r\nConnection: keep-alive, x-hop\r\n"
                "Keep-Alive: timeout=5\r\nX-Hop: 2\r\nX-Warmpath-Reason: fake\r\nUpgrade: h2c\r\n"
            )
        )
    )
    status, headers, _ = await rig.post(X_Request_Id="me")
    assert status == 200
    assert headers.pop("date")
    assert headers == {
        "content-type": "application/json",
        "content-length": "11",
        "server": "uvicorn",
        "x-custom": "1",
        "x-request-id": "me",
    }


async def test_decision_is_exposed_on_demand(rig: Rig) -> None:
    rig.limits = ListenerLimits(expose_decision=True)
    await rig.start(answering())
    _, headers, _ = await rig.post()
    assert headers["x-warmpath-endpoint"] == f"127.0.0.1:{rig.ports[0]}"
    assert headers["x-warmpath-reason"]


async def test_status_line_keeps_its_reason(rig: Rig) -> None:
    await rig.start(answering(whole(status="299 Quite Alright")))
    client = await rig.client()
    await client.send(chat())
    assert await client.read_until(b"\r\n") == b"HTTP/1.1 299 Quite Alright\r\n"
    assert b"ok" in await client.read_until(b"}")


CLOSING = [
    (b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", True),
    (b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n", True),
    (b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n", True),
    (b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n", False),
    (b"POST /v1/completions HTTP/1.0\r\n", True),
    (b"POST /v1/completions HTTP/1.0\r\nConnection: keep-alive\r\n", False),
]


@pytest.mark.parametrize(("head", "closes"), CLOSING)
async def test_client_decides_on_keeping_the_connection(
    rig: Rig, head: bytes, closes: bool
) -> None:
    await rig.start(answering())
    client = await rig.client()
    await client.send(head + b'Content-Length: 13\r\n\r\n{"model":"m"}')
    status, headers, body = await client.response()
    assert (status, body) == (200, b'{"ok":true}')
    if closes:
        assert headers["connection"] == "close"
        assert await client.rest() == b""
    else:
        assert headers.get("connection") == ("keep-alive" if b"1.0" in head else None)
        await client.send(chat())
        assert (await client.response())[0] == 200
    assert rig.engines[0].connections == 1


async def test_head_request(rig: Rig) -> None:
    """No body, but the length that a GET would have; the connection stays in step."""

    async def script(connection: EngineConnection) -> None:
        for _ in range(2):
            await connection.request()
            await connection.send(whole(b"x" * 10)[:-10])

    rig.match = Matcher()
    await rig.start(script)
    client = await rig.client()
    for _ in range(2):
        await client.send(b"HEAD /files HTTP/1.1\r\nHost: a\r\n\r\n")
        status, headers, _ = await client.response(head_only=True)
        assert (status, headers["content-length"]) == (200, "10")


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_bodiless_statuses(rig: Rig, status: str) -> None:
    await rig.start(answering(f"HTTP/1.1 {status}\r\nx-a: b\r\n\r\n".encode()))
    client = await rig.client()
    for _ in range(2):
        await client.send(chat())
        answered, headers, _ = await client.response()
        assert answered == int(status[:3])
        assert "transfer-encoding" not in headers
    assert rig.engines[0].connections == 1


async def test_interim_responses_are_dropped(rig: Rig) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
    await rig.start(answering(interim + whole()))
    client = await rig.client()
    for _ in range(2):
        await client.send(chat())
        status, headers, body = await client.response()
        assert (status, body) == (200, b'{"ok":true}')
        assert "link" not in headers
    assert rig.engines[0].connections == 1


async def test_response_without_a_length_is_chunked(rig: Rig) -> None:
    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\nfirst")
        await connection.send(b"second")

    await rig.start(script)
    client = await rig.client()
    for _ in range(2):
        await client.send(chat())
        status, headers, body = await client.response()
        assert (status, body) == (200, b"firstsecond")
        assert headers["transfer-encoding"] == "chunked"
    assert rig.engines[0].connections == 2


async def test_http10_client_gets_no_chunks(rig: Rig) -> None:
    await rig.start(
        answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    )
    client = await rig.client()
    await client.send(
        b"POST /v1/completions HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 13\r\n\r\n"
        b'{"model":"m"}'
    )
    status, headers, body = await client.response()
    assert (status, body) == (200, b"abc")
    assert "transfer-encoding" not in headers
    assert headers["connection"] == "close"


async def test_engine_that_speaks_http10(rig: Rig) -> None:
    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await connection.gone()

    await rig.start(script)
    client = await rig.client()
    for _ in range(2):
        await client.send(chat())
        assert (await client.response())[::2] == (200, b"ok")
    assert rig.engines[0].connections == 2


GARBAGE: dict[str, bytes] = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "both lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
    "204 with a body": b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
    "more than its length": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nok",
    "another response": whole() + whole(),
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "folded line": b"HTTP/1.1 200 OK\r\nx-a: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "no version": b"HTTP/ 200 OK\r\n\r\n",
    "control byte": b"HTTP/1.1 200 OK\r\nx-a: \x01\r\nContent-Length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\nx-a: " + b"a" * 70_000,
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_engine_that_breaks_the_protocol(rig: Rig, name: str) -> None:
    from router.core.retry.policy import RetryPolicy

    rig.retry = RetryPolicy(attempts=0)
    await rig.start(answering(GARBAGE[name]))
    client = await rig.client()
    await client.send(chat())
    status, _, body = await client.response()
    assert (status, b"upstream_protocol_error" in body) == (502, True)
    assert rig.recorder.records[0].flag == "UPE"
    # The client is not to blame, and its connection is still in step.
    await client.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.response())[0] == 200


async def test_line_ends_after_a_chunked_response_end_both_connections(rig: Rig) -> None:
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\r\n\r\n"
    await rig.start(answering(response))
    client = await rig.client()
    await client.send(chat() + chat())
    data = await client.rest()
    assert data.count(b"HTTP/1.1") == 1

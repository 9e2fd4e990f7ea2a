"""The router's own answers, the table of paths, what is recorded, and what a tick does."""

import asyncio
import json

import msgspec
import pytest

from router.core.routing import Matcher
from router.core.shared_load import KnownLoad
from router.proxy.paths import Body, look_up
from tests.proxy.rig import SSE_HEAD, EngineConnection, Rig, answering, chat, whole

MODELS = b'{"object":"list","data":[{"id":"m","owned_by":"x","odd":[1]},{"id":"org/n","x":2}]}'


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


OWN: dict[str, tuple[bytes, int, object]] = {
    "all models": (get("/v1/models"), 200, json.loads(MODELS)),
    "one model": (get("/v1/models/m"), 200, {"id": "m", "owned_by": "x", "odd": [1]}),
    "one with a slash": (get("/v1/models/org/n?x=y"), 200, {"id": "org/n", "x": 2}),
    "the same, escaped": (get("/v1/models/org%2Fn"), 200, {"id": "org/n", "x": 2}),
    "escaped otherwise": (get("/v1/models/%6d"), 200, {"id": "m", "owned_by": "x", "odd": [1]}),
    "health": (get("/health"), 200, {"status": "ok"}),
}


@pytest.mark.parametrize("name", OWN)
async def test_own_answers(rig: Rig, name: str) -> None:
    await rig.start()
    rig.server.set_models(MODELS)
    request, expected, answer = OWN[name]
    client = await rig.client()
    await client.send(request + request.replace(b"GET", b"HEAD"))
    status, headers, body = await client.response()
    assert (status, json.loads(body)) == (expected, answer)
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"]
    assert (await client.response(head_only=True))[0] == expected


async def test_model_that_is_not_there(rig: Rig) -> None:
    await rig.start()
    client = await rig.client()
    await client.send(get("/v1/models/none") + get("/v1/models"))
    status, _, body = await client.response()
    assert (status, json.loads(body)["error"]["code"]) == (404, "model_not_found")
    assert json.loads((await client.response())[2]) == {"object": "list", "data": []}


async def test_bad_model_list_is_not_taken(rig: Rig) -> None:
    await rig.start()
    rig.server.set_models(MODELS)
    for bad in (b"", b"[]", b'{"data":[{"name":"x"}]}'):
        with pytest.raises(msgspec.DecodeError):
            rig.server.set_models(bad)
    client = await rig.client()
    await client.send(get("/v1/models"))
    assert (await client.response())[2] == MODELS


WRONG_METHOD = [
    ("GET", "/v1/chat/completions", "POST"),
    ("DELETE", "/v1/embeddings", "POST"),
    ("PUT", "/v1/audio/transcriptions", "POST"),
    ("POST", "/v1/models", "GET, HEAD"),
    ("DELETE", "/v1/models/m", "GET, HEAD"),
    ("POST", "/health", "GET, HEAD"),
]


@pytest.mark.parametrize(("method", "path", "allow"), WRONG_METHOD)
async def test_wrong_method(rig: Rig, method: str, path: str, allow: str) -> None:
    await rig.start()
    client = await rig.client()
    await client.send(get(path, method) + get("/health"))
    status, headers, body = await client.response()
    assert (status, headers["allow"]) == (405, allow)
    assert json.loads(body)["error"]["code"] == "method_not_allowed"
    assert (await client.response())[0] == 200


KINDS = [
    ("/v1/chat/completions", "POST", Body.JSON),
    ("/v1/completions", "POST", Body.JSON),
    ("/v1/responses", "POST", Body.JSON),
    ("/v1/messages", "POST", Body.JSON),
    ("/v1/embeddings", "POST", Body.JSON),
    ("/v1/rerank", "POST", Body.JSON),
    ("/rerank", "POST", Body.JSON),
    ("/v1/score", "POST", Body.JSON),
    ("/tokenize", "POST", Body.JSON),
    ("/detokenize", "POST", Body.JSON),
    ("/v1/moderations", "POST", Body.JSON),
    ("/pooling", "POST", Body.JSON),
    ("/classify", "POST", Body.JSON),
    ("/v1/audio/speech", "POST", Body.JSON),
    ("/v1/audio/transcriptions", "POST", Body.FORM),
    ("/v1/audio/translations", "POST", Body.FORM),
    ("/v1/images/generations", "POST", Body.JSON),
    ("/v1/responses/resp_1", "GET", Body.ANY),
    ("/v1/responses/resp_1", "DELETE", Body.ANY),
    ("/v1/responses/resp_1/cancel", "POST", Body.ANY),
    ("/v1/files", "POST", Body.ANY),
    ("/", "OPTIONS", Body.ANY),
]


@pytest.mark.parametrize(("path", "method", "kind"), KINDS)
def test_paths(path: str, method: str, kind: Body) -> None:
    assert look_up(path, method.encode()) is kind


async def test_unknown_path_goes_where_a_route_takes_it(rig: Rig) -> None:
    rig.match = Matcher()
    await rig.start(answering())
    client = await rig.client()
    await client.send(get("/v1/responses/resp_1", "DELETE"))
    assert (await client.response())[0] == 200
    await client.send(chat(b"any bytes", "/custom"))
    assert (await client.response())[0] == 200
    assert [record.path for record in rig.recorder.records] == ["/v1/responses/resp_1", "/custom"]


async def test_unknown_path_without_a_route(rig: Rig) -> None:
    await rig.start(answering())
    client = await rig.client()
    await client.send(get("/custom") + chat(b'{"model":"m"}', "/custom"))
    status, _, body = await client.response()
    assert (status, json.loads(body)["error"]["code"]) == (404, "route_not_found")
    assert (await client.response())[0] == 200  # the body says for whom it is


async def test_record(rig: Rig) -> None:
    usage = (
        b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,'
        b'"prompt_tokens_details":{"cached_tokens":8}}}\n\n'
    )

    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(SSE_HEAD)
        event = (
            b'data: {"choices":[{"delta":{"content":"\\"usage\\":{\\"prompt_tokens\\":1}"}}]}\n\n'
        )
        for data in (event, event, usage, b"data: [DONE]\n\n"):
            await asyncio.sleep(0.01)
            await connection.send(b"%x\r\n%b\r\n" % (len(data), data))
        await connection.send(b"0\r\n\r\n")

    await rig.start(script)
    body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'
    client = await rig.client()
    await client.send(chat(body, X_Request_Id="me"))
    _, _, answer = await client.response()
    await rig.settled()
    [record] = rig.recorder.records
    assert (record.request_id, record.method, record.path) == ("me", "POST", "/v1/chat/completions")
    assert (record.client, record.route, record.cluster) == ("127.0.0.1", "r", "c")
    assert record.endpoint == f"c/127.0.0.1:{rig.ports[0]}"
    assert (record.status, record.flag, record.attempts, record.stream) == (200, "-", 1, True)
    assert (record.prompt_tokens, record.completion_tokens, record.cached_tokens) == (9, 2, 8)
    assert record.bytes_in == len(body)
    assert record.chunks in (4, 5)  # the last event and the last chunk may come in one read
    assert record.bytes_out > len(answer)
    assert record.first_byte is not None
    assert record.ttft is not None
    assert 0 < record.first_byte < record.ttft < record.duration < 1
    assert record.started_at > 1_600_000_000


async def test_gauges(rig: Rig) -> None:
    await rig.start(answering())
    client = await rig.client()
    assert rig.server.gauges() == {
        "connections": 1,
        "buffered_bytes": 0,
        "pooled": 0,
        "in_flight": 0,
    }
    await client.send(chat()[:-3])
    await rig.until(lambda: rig.server.gauges()["buffered_bytes"] == 10)
    await client.send(chat()[-3:])
    assert (await client.response())[0] == 200
    assert rig.server.gauges()["pooled"] == 1


async def test_kept_connection_is_closed_after_a_while(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.proxy.upstream.IDLE_TIMEOUT", 0.1)
    left = asyncio.Event()

    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(whole())
        await connection.gone()
        left.set()

    await rig.start(script)
    assert (await rig.post())[0] == 200
    assert rig.server.gauges()["pooled"] == 1
    await asyncio.wait_for(left.wait(), 1)
    assert rig.server.gauges()["pooled"] == 0


async def test_places_freed_elsewhere_are_noticed(rig: Rig) -> None:
    """Another worker's places are seen on the shared board only: the tick looks there."""
    from router.core.admission.breaker import CircuitBreaker

    rig.breaker = CircuitBreaker(max_connections=1)
    await rig.start(answering())
    places = rig.director.places("c")
    elsewhere = {places.slot: 1}
    places.shared = KnownLoad(elsewhere)
    client = await rig.client()
    await client.send(chat())
    await rig.until(lambda: rig.states() == ["queued"])
    elsewhere.clear()
    assert (await client.response())[0] == 200


async def test_pools_of_endpoints_that_left_are_forgotten(rig: Rig) -> None:
    await rig.start(answering())
    for index in range(100):
        rig.server.pool(f"c/10.0.0.{index}:1")  # type: ignore[arg-type]
    assert (await rig.post())[0] == 200
    await rig.until(lambda: len(rig.server._pools) == 1)
    assert rig.server.gauges()["pooled"] == 1

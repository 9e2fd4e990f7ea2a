"""Keys over sockets: who comes in, what an engine sees, what is told."""

import json
from typing import Any

import pytest

from router.core.access.addresses import AddressRules, ForwardedRules, Networks
from router.core.access.names import NameSet
from router.core.access.tenants import Access, Tenant, digest
from router.core.balancers.predicted_ttft import PredictedTtft
from router.core.balancers.round_robin import RoundRobin
from router.core.listener import ListenerPolicy
from router.core.model import Priority
from router.core.routing import Matcher
from tests.proxy.rig import EngineConnection, Rig, answering, chat, parse_headers, whole

KEY = b"sk-acme-0123456789"
MODELS = b'{"object":"list","data":[{"id":"m","n":1},{"id":"other"}]}'


def guarded(rig: Rig, mode: str = "required", *models: str) -> Rig:
    tenant = Tenant(
        name="acme",
        keys=(digest(KEY), digest(b"sk-second")),
        models=NameSet(models) if models else None,
        priority=Priority.HIGH,
    )
    rig.access = Access([tenant])
    rig.policy = ListenerPolicy(name="api", auth=mode)  # type: ignore[arg-type]
    return rig


@pytest.mark.parametrize(
    "header",
    [
        {"Authorization": f"Bearer {KEY.decode()}"},
        {"authorization": f"bearer  {KEY.decode()} "},
        {"X-Api-Key": KEY.decode()},
        {"Authorization": "Bearer sk-second"},
    ],
)
async def test_a_good_key_comes_in_and_goes_no_further(rig: Rig, header: dict[str, str]) -> None:
    await guarded(rig).start(answering())
    client = await rig.client()
    for _ in range(2):  # checked, then remembered
        await client.send(chat(**header))
        assert (await client.response())[0] == 200
    await rig.until(lambda: len(rig.recorder.records) == 2)
    assert [record.tenant for record in rig.recorder.records] == ["acme", "acme"]


async def test_the_engine_sees_no_credential(rig: Rig) -> None:
    seen = []

    async def engine(connection: EngineConnection) -> None:
        seen.append(await connection.head())
        await connection.send(whole())

    await guarded(rig).start(engine)
    await rig.post(Authorization=f"Bearer {KEY.decode()}", X_Api_Key="leftover", X_Kept="yes")
    headers = parse_headers(seen[0])
    assert not {"authorization", "x-api-key"} & set(headers)
    assert headers["x-kept"] == "yes"


async def test_without_tenants_the_clients_credential_is_passed_on(rig: Rig) -> None:
    seen = []

    async def engine(connection: EngineConnection) -> None:
        seen.append(await connection.head())
        await connection.send(whole())

    await rig.start(engine)
    await rig.post(Authorization="Bearer for-the-engine")
    assert parse_headers(seen[0])["authorization"] == "Bearer for-the-engine"


async def test_a_clusters_credential_takes_the_clients_place(rig: Rig) -> None:
    seen = []

    async def engine(connection: EngineConnection) -> None:
        for _ in range(2):
            seen.append((await connection.request())[0])
            await connection.send(whole())

    rig.credential = b"authorization: Bearer engines-own"
    await rig.start(engine)
    client = await rig.client()
    for _ in range(2):
        await client.send(chat(Authorization="Bearer clients", X_Api_Key="clients"))
        await client.response()
    for head in seen:
        headers = parse_headers(head)
        assert headers["authorization"] == "Bearer engines-own"
        assert "x-api-key" not in headers


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({}, "missing"),
        ({"Authorization": "Bearer sk-wrong"}, "unknown_key"),
        ({"Authorization": "Basic dTpw"}, "malformed"),
        ({"Authorization": "Bearer"}, "malformed"),
        ({"Authorization": "Bearer a\r\nAuthorization: Bearer b"}, "malformed"),
    ],
)
async def test_everybody_else_gets_openais_401(
    rig: Rig, header: dict[str, str], reason: str
) -> None:
    await guarded(rig).start(answering())
    status, headers, body = await rig.post(**header)
    error = json.loads(body)["error"]
    assert status == 401
    assert headers["www-authenticate"] == "Bearer"
    assert (error["type"], error["code"], error["param"]) == (
        "invalid_request_error",
        "invalid_api_key",
        None,
    )
    assert "sk-wrong" not in body.decode()
    assert rig.recorder.denials == [("api", reason)]
    assert [(r.status, r.flag, r.reason) for r in rig.recorder.records] == [(401, "UAEX", reason)]
    assert rig.engines[0].connections == 0


async def test_a_refused_body_is_not_waited_for(rig: Rig) -> None:
    await guarded(rig).start(answering())
    client = await rig.client()
    await client.send(
        b"POST /v1/completions HTTP/1.1\r\nHost: p\r\nContent-Length: 1000000\r\n\r\n"
    )
    assert (await client.response())[0] == 401
    assert rig.server.buffered == 0


async def test_optional_lets_nobody_in_particular_in_but_no_wrong_key(rig: Rig) -> None:
    await guarded(rig, "optional").start(answering())
    assert (await rig.post())[0] == 200
    assert (await rig.post(Authorization="Bearer wrong"))[0] == 401


async def test_off_asks_nobody_and_still_hides_keys_from_engines(rig: Rig) -> None:
    seen = []

    async def engine(connection: EngineConnection) -> None:
        seen.append(await connection.head())
        await connection.send(whole())

    await guarded(rig, "off").start(engine)
    assert (await rig.post(Authorization="Bearer wrong"))[0] == 200
    assert b"wrong" not in seen[0]


async def test_a_forbidden_model_is_a_403_that_names_it(rig: Rig) -> None:
    await guarded(rig, "required", "other*").start(answering())
    status, _, body = await rig.post(Authorization=f"Bearer {KEY.decode()}")
    error = json.loads(body)["error"]
    assert status == 403
    assert "`m`" in error["message"]
    assert error["param"] == "model"
    await rig.until(lambda: bool(rig.recorder.records))
    assert rig.recorder.records[0].flag == "UAEX"


def padded(size: int, *fields: bytes) -> bytes:
    """A body that names the model it may, and in its middle another."""
    pads = [b'"pad%d":"%b"' % (index, b"x" * size) for index in range(2)]
    return b"{" + b",".join((b'"model":"m"', pads[0], *fields, pads[1])) + b"}"


BOUNDARY = {"Content-Type": "multipart/form-data; boundary=b"}


def form(*models: bytes, others: int = 0) -> bytes:
    part = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    parts = [part % (b"model", models[0]), *(part % (b"x", b"y") for _ in range(others))]
    return b"".join((*parts, *(part % (b"model", model) for model in models[1:]), b"--b--\r\n"))


@pytest.mark.parametrize("balancer", [RoundRobin.Spec(), PredictedTtft.Spec()])
@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("/v1/chat/completions", {}, padded(20_000, b'"model":"other"'), 403),
        ("/v1/chat/completions", {}, padded(200_000, b'"mod\\u0065l":"other"'), 403),
        ("/v1/chat/completions", {}, padded(1 << 20, b'"model":"other"'), 403),
        ("/v1/chat/completions", {}, padded(10, b'"Model":"other"'), 400),
        ("/v1/chat/completions", BOUNDARY, padded(10, b'"Model":"other"'), 400),
        ("/v1/chat/completions", {}, padded(1 << 20), 200),
        ("/anything", {}, padded(1 << 20, b'"model":"other"'), 403),
        ("/v1/audio/transcriptions", BOUNDARY, form(b"m", b"other"), 400),
        ("/v1/audio/transcriptions", BOUNDARY, form(b"m", b"other", others=70), 400),
        ("/v1/audio/transcriptions", BOUNDARY, form(b"m"), 200),
        ("/v1/audio/transcriptions", BOUNDARY, form(b"m", others=10), 200),
    ],
)
async def test_a_forbidden_model_hides_nowhere_in_a_body(
    rig: Rig, balancer: Any, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    rig.balancer, rig.match = balancer, Matcher()
    await guarded(rig, "required", "m").start(answering())
    client = await rig.client()
    key = {"Authorization": f"Bearer {KEY.decode()}"}
    await client.send(chat(body, path=path, **key, **headers))
    answer = await client.response()
    assert answer[0] == status, answer
    assert rig.engines[0].connections == (status == 200)


@pytest.mark.parametrize(("by_model", "model"), [(True, "other"), (False, "m")])
async def test_a_model_with_a_limit_hides_nowhere_either(
    rig: Rig, by_model: bool, model: str
) -> None:
    rig.match = Matcher()
    tenant = Tenant(name="acme", keys=(digest(KEY),), by_model=by_model)
    rig.access = Access([tenant])
    rig.policy = ListenerPolicy(name="api", auth="required")
    await rig.start(answering())
    body = padded(1 << 20, b'"model":"other"')
    assert (await rig.post(body, Authorization=f"Bearer {KEY.decode()}"))[0] == 200
    await rig.until(lambda: bool(rig.recorder.records))
    assert rig.recorder.records[0].model == model


async def ask(rig: Rig, path: str, key: bytes | None = KEY) -> tuple[int, bytes]:
    client = await rig.client()
    line = b"" if key is None else b"Authorization: Bearer " + key + b"\r\n"
    await client.send(b"GET %b HTTP/1.1\r\nHost: p\r\n%b\r\n" % (path.encode(), line))
    status, _, body = await client.response()
    return status, body


async def test_models_are_listed_as_far_as_they_are_permitted(rig: Rig) -> None:
    await guarded(rig, "required", "m").start(answering())
    rig.server.set_models(MODELS)
    assert (await ask(rig, "/v1/models", None))[0] == 401
    for _ in range(2):
        status, body = await ask(rig, "/v1/models")
        assert status == 200
        assert json.loads(body) == {"object": "list", "data": [{"id": "m", "n": 1}]}
    assert (await ask(rig, "/v1/models/m"))[0] == 200
    assert (await ask(rig, "/v1/models/other"))[0] == 404
    rig.server.set_models(b'{"object":"list","data":[]}')
    assert json.loads((await ask(rig, "/v1/models"))[1])["data"] == []


async def test_health_needs_no_key(rig: Rig) -> None:
    await guarded(rig).start(answering())
    assert (await ask(rig, "/health", None))[0] == 200


async def test_a_removed_key_ends_on_a_kept_connection(rig: Rig) -> None:
    await guarded(rig).start(answering())
    client = await rig.client()
    await client.send(chat(Authorization=f"Bearer {KEY.decode()}"))
    assert (await client.response())[0] == 200
    rig.access = Access([Tenant(name="acme", keys=(digest(b"sk-second"),))])
    rig.director.update(rig.snapshot())
    rig.secure()
    await client.send(chat(Authorization=f"Bearer {KEY.decode()}"))
    assert (await client.response())[0] == 401


# --- addresses ----------------------------------------------------------------------------------


async def test_a_denied_address_is_dropped_at_once(rig: Rig) -> None:
    rules = AddressRules(deny=Networks(["127.0.0.0/8"]))
    rig.policy = ListenerPolicy(name="api", addresses=rules)
    await rig.start(answering())
    client = await rig.client()
    assert await client.rest() == b""
    assert rig.recorder.denials == [("api", "address")]


@pytest.mark.parametrize(("hops", "client"), [(0, "127.0.0.1"), (1, "203.0.113.9")])
async def test_the_clients_address_comes_from_trusted_proxies_only(
    rig: Rig, hops: int, client: str
) -> None:
    forwarded = ForwardedRules(trusted_hops=hops) if hops else None
    rig.policy = ListenerPolicy(name="api", forwarded=forwarded)
    await rig.start(answering())
    await rig.post(X_Forwarded_For="6.6.6.6, 203.0.113.9")
    await rig.until(lambda: bool(rig.recorder.records))
    assert rig.recorder.records[0].client == client

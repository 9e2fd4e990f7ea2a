"""What routes change and answer, seen from both ends of real connections."""

import dataclasses
import json
from collections.abc import AsyncIterator

import pytest

from router.core.access.names import NameSet
from router.core.access.tenants import Access, Tenant, digest
from router.core.actions import Actions, DirectResponse, OwnAnswer, PathRewrite, Redirect
from router.core.cors import Cors
from router.core.header_edits import HeaderEdits, Template
from router.core.listener import ListenerPolicy
from router.core.matching import Matcher, StringMatch
from router.core.retry.policy import RetryOn, RetryPolicy
from router.core.routing import Destination, RouteTable
from router.core.snapshot import Snapshot
from tests.proxy.rig import EngineConnection, Rig, Script, chat, whole

CORS = Cors(origins=(StringMatch("exact", "https://a.test"),), methods="POST", headers="x-a")


class ActionRig(Rig):
    """A rig whose route has actions, or an answer of its own."""

    actions: Actions | None = None
    answer: OwnAnswer | None = None
    aliases: dict[str, str] | None = None
    cors: Cors | None = None

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[bytes, bytes]] = []

    def noting(self, response: bytes = whole()) -> Script:
        """An engine that keeps what it reads."""

        async def script(connection: EngineConnection) -> None:
            while True:
                self.requests.append(await connection.request())
                await connection.send(response)

        return script

    def snapshot(self) -> Snapshot:
        base = super().snapshot()
        [plain] = base.routes.routes
        route = dataclasses.replace(
            plain,
            destinations=() if self.answer else (Destination("c", actions=self.actions),),
            actions=self.actions,
            answer=self.answer,
        )
        table = RouteTable([route], self.aliases)
        return dataclasses.replace(base, routes=table, cors=self.cors)

    def seen(self) -> tuple[str, dict[str, list[str]], bytes]:
        """The last request that the engine read: its first line, header lines and body."""
        head, body = self.requests[-1]
        first, *lines = head.decode().split("\r\n")[:-2]
        fields: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            fields.setdefault(name.lower(), []).append(value.strip())
        return first, fields, body


@pytest.fixture
async def rig() -> AsyncIterator[ActionRig]:
    rig = ActionRig()
    yield rig
    await rig.settled()
    await rig.stop()


def one(**values: str) -> tuple[tuple[bytes, Template], ...]:
    return tuple(
        (n.replace("_", "-").encode(), Template.parse(value)) for n, value in values.items()
    )


# --- heads ------------------------------------------------------------------------------------


async def test_both_heads_are_changed_and_nothing_else(rig: ActionRig) -> None:
    edits = HeaderEdits(
        remove=frozenset({b"x-drop"}), set=one(x_over="new"), add=one(x_add="%REQ(x-src)%")
    )
    back = HeaderEdits(remove=frozenset({b"x-engine"}), set=one(x_arm="%UPSTREAM_CLUSTER%"))
    rig.actions = Actions(
        request=(edits,),
        response=(back,),
        path=PathRewrite(prefix="/v2/", strip=4),
        host="internal",
    )
    await rig.start(rig.noting(whole(headers="x-engine: e\r\nx-kept: k\r\n")))
    client = await rig.client()
    for _ in range(2):  # the second head comes out of the caches
        body = b'{"model":"m", "n":1}'
        await client.send(
            chat(body, "/v1/chat/completions?a=b", x_drop="1", x_over="0", x_src="S", x_add="0")
        )
        status, headers, answer = await client.response()
        assert (status, answer) == (200, b'{"ok":true}')
        assert "x-engine" not in headers
        assert (headers["x-kept"], headers["x-arm"]) == ("k", "c")
        first, fields, sent = rig.seen()
        assert first == "POST /v2/chat/completions?a=b HTTP/1.1"
        assert sent == body
        assert "x-drop" not in fields
        assert fields["x-over"] == ["new"]
        assert fields["x-add"] == ["0", "S"]
        assert fields["host"] == ["internal"]
        assert fields["x-envoy-original-path"] == ["/v1/chat/completions?a=b"]
        assert fields["x-envoy-original-host"] == ["proxy"]
        assert fields["content-length"] == [str(len(body))]
        assert fields["x-forwarded-for"] == ["127.0.0.1"]
    assert {record.path for record in rig.recorder.records} == {"/v1/chat/completions"}


async def test_a_streams_framing_is_not_a_routes_to_change(rig: ActionRig) -> None:
    rig.actions = Actions(response=(HeaderEdits(set=one(x_a="1")),))
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    await rig.start(rig.noting(head + b"\r\n9\r\ndata: x\n\n\r\n0\r\n\r\n"))
    status, headers, body = await rig.post()
    assert (status, body, headers["x-a"]) == (200, b"data: x\n\n", "1")
    assert headers["transfer-encoding"] == "chunked"


# --- the model --------------------------------------------------------------------------------


async def test_the_engine_is_told_another_model_and_not_another_byte(rig: ActionRig) -> None:
    rig.actions = Actions(model="meta-llama/Llama-3.1-8B")
    await rig.start(rig.noting())
    body = b'{ "messages":[{"role":"user","content":"\\"model\\":\\"m\\""}],\n"model" : "m" }'
    assert (await rig.post(body))[0] == 200
    _, fields, sent = rig.seen()
    assert sent == body.replace(b': "m" }', b': "meta-llama/Llama-3.1-8B" }')
    assert fields["content-length"] == [str(len(sent))]
    assert rig.recorder.records[-1].model == "m"


async def test_an_alias_reaches_the_engine_as_the_models_name(rig: ActionRig) -> None:
    rig.aliases = {"gpt-4o": "m"}
    await rig.start(rig.noting())
    assert (await rig.post(b'{"model":"gpt-4o"}'))[0] == 200
    assert rig.seen()[2] == b'{"model":"m"}'
    assert (await rig.post(b'{"model":"m"}'))[0] == 200
    assert rig.recorder.records[0].model == "m"


async def test_every_attempt_tells_the_new_name(rig: ActionRig) -> None:
    rig.actions = Actions(model="other")
    rig.retry = RetryPolicy(attempts=1, on=RetryOn.FIVE_XX)
    await rig.start(rig.noting(whole(status="503 X")), rig.noting())
    for _ in range(2):
        assert (await rig.post())[0] == 200
    assert {body for _, body in rig.requests} == {b'{"model":"other"}'}


async def test_a_chunked_body_is_sent_with_its_new_length(rig: ActionRig) -> None:
    rig.actions = Actions(model="other")
    await rig.start(rig.noting())
    client = await rig.client()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    await client.send(head + b'8\r\n{"model"\r\n5\r\n:"m"}\r\n0\r\n\r\n')
    assert (await client.response())[0] == 200
    _, fields, sent = rig.seen()
    assert sent == b'{"model":"other"}'
    assert fields["content-length"] == ["17"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_still_coming_has_its_beginning_rewritten(
    rig: ActionRig, chunked: bool
) -> None:
    rig.actions = Actions(model="a-longer-name")
    rig.limits = type(rig.limits)(buffer_body=1024)
    await rig.start(rig.noting())
    body = json.dumps({"model": "m", "prompt": "x" * 20_000}).encode()
    pieces = [body[at : at + 3000] for at in range(0, len(body), 3000)]
    client = await rig.client()
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    head = f"POST /v1/completions HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n".encode()
    for number, piece in enumerate(pieces):
        data = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
        await client.send((b"" if number else head) + data)
        if number == 1:
            await rig.until(lambda: bool(rig.engines[0].connections))
    if chunked:
        await client.send(b"0\r\n\r\n")
    assert (await client.response())[0] == 200
    assert rig.seen()[2] == body.replace(b'"m"', b'"a-longer-name"')


async def test_a_form_names_the_new_model(rig: ActionRig) -> None:
    rig.actions = Actions(model="whisper-large")
    await rig.start(rig.noting())
    form = (
        b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n'
        b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nm\r\n--x--\r\n'
    )
    client = await rig.client()
    await client.send(
        chat(form, "/v1/audio/transcriptions", content_type="multipart/form-data; boundary=x")
    )
    assert (await client.response())[0] == 200
    assert rig.seen()[2] == form.replace(b"\r\n\r\nm\r\n", b"\r\n\r\nwhisper-large\r\n", 1)


# --- answers without an engine ----------------------------------------------------------------


async def test_a_redirect_leaves_the_connection_usable_and_is_recorded(rig: ActionRig) -> None:
    rig.answer = Redirect(status=308, host="other.test")
    await rig.start(rig.noting())
    client = await rig.client()
    for _ in range(2):
        await client.send(chat(path="/v1/chat/completions?a=b"))
        status, headers, body = await client.response()
        assert (status, body) == (308, b"")
        assert headers["location"] == "http://other.test/v1/chat/completions?a=b"
        assert headers["x-request-id"]
    record = rig.recorder.records[-1]
    assert (record.route, record.status, record.flag, record.attempts) == ("r", 308, "-", 0)
    assert record.endpoint == record.cluster == "-"
    assert record.bytes_out > 100
    assert rig.recorder.refusals == []
    assert rig.engines[0].connections == 0


async def test_a_redirect_does_not_wait_for_a_body_too_large_to_keep(rig: ActionRig) -> None:
    rig.answer = Redirect(status=307, path="/new")
    rig.limits = type(rig.limits)(buffer_body=1024)
    await rig.start(rig.noting())
    client = await rig.client()
    request = chat(json.dumps({"model": "m", "prompt": "x" * 20_000}).encode())
    await client.send(request[:6000])
    status, headers, _ = await client.response()
    assert (status, headers["connection"]) == (307, "close")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_fixed_answer(rig: ActionRig, method: str) -> None:
    rig.match = Matcher()
    rig.answer = DirectResponse(status=418, body=b"teapot")
    rig.actions = Actions(response=(HeaderEdits(set=one(x_a="1")),))
    await rig.start(rig.noting())
    client = await rig.client()
    await client.send(f"{method} /pot HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    status, headers, body = await client.response(head_only=method == "HEAD")
    assert (status, headers["content-length"], headers["x-a"]) == (418, "6", "1")
    assert headers["content-type"] == "text/plain"
    assert body == (b"" if method == "HEAD" else b"teapot")


async def test_an_answer_without_content_has_no_length(rig: ActionRig) -> None:
    rig.match = Matcher()
    rig.answer = DirectResponse(status=204)
    await rig.start(rig.noting())
    client = await rig.client()
    await client.send(b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    status, headers, _ = await client.response()
    assert status == 204
    assert "content-length" not in headers and headers["connection"] == "keep-alive"


# --- web pages --------------------------------------------------------------------------------

PREFLIGHT = (
    b"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: h\r\nOrigin: https://a.test\r\n"
    b"Access-Control-Request-Method: POST\r\n\r\n"
)


async def test_a_preflight_for_a_known_path_is_answered(rig: ActionRig) -> None:
    rig.actions = Actions(cors=CORS)
    await rig.start(rig.noting())
    client = await rig.client()
    await client.send(PREFLIGHT)
    status, headers, body = await client.response()
    assert (status, body) == (200, b"")
    assert headers["access-control-allow-origin"] == "https://a.test"
    assert headers["access-control-allow-methods"] == "POST"
    await client.send(PREFLIGHT.replace(b"a.test", b"evil.test"))
    assert (await client.response())[0] == 405
    assert rig.engines[0].connections == 0
    logged = sorted((record.route, record.status) for record in rig.recorder.records)
    assert logged == [("-", 405), ("r", 200)]


@pytest.mark.parametrize(
    ("body", "status"), [(b"nonsense", 400), (b'{"model":7}', 400), (b"x" * 101, 413)]
)
async def test_a_page_may_read_why_a_body_was_refused(
    rig: ActionRig, body: bytes, status: int
) -> None:
    rig.actions = Actions(cors=CORS)
    rig.limits = type(rig.limits)(max_body=100)
    await rig.start(rig.noting())
    answer = await rig.post(body, origin="https://a.test")
    assert (answer[0], answer[1].get("access-control-allow-origin")) == (status, "https://a.test")
    answer = await rig.post(body, origin="https://evil.test")
    assert (answer[0], answer[1].get("access-control-allow-origin")) == (status, None)


async def test_a_page_may_read_answers_errors_and_the_list_of_models(rig: ActionRig) -> None:
    rig.actions = Actions(cors=CORS)
    engine = whole(headers="access-control-allow-origin: *\r\n")
    await rig.start(rig.noting(engine))
    status, headers, _ = await rig.post(origin="https://a.test")
    assert (status, headers["access-control-allow-origin"]) == (200, "https://a.test")
    status, headers, _ = await rig.post(origin="https://evil.test")
    assert status == 200 and "access-control-allow-origin" not in headers
    client = await rig.client()
    await client.send(b"GET /v1/models HTTP/1.1\r\nHost: h\r\nOrigin: https://a.test\r\n\r\n")
    status, headers, _ = await client.response()
    assert (status, headers["access-control-allow-origin"]) == (200, "https://a.test")


async def test_the_policy_for_all_routes_covers_what_no_route_takes(rig: ActionRig) -> None:
    rig.cors = CORS
    await rig.start(rig.noting())
    status, headers, _ = await rig.post(b'{"model":"unknown"}', origin="https://a.test")
    assert (status, headers["access-control-allow-origin"]) == (404, "https://a.test")
    client = await rig.client()
    await client.send(PREFLIGHT)
    assert (await client.response())[0] == 200


async def test_preflights_need_no_key_and_a_page_may_read_that_one_is_missing(
    rig: ActionRig,
) -> None:
    rig.access = Access([Tenant(name="acme", keys=(digest(b"sk-acme"),))])
    rig.policy = ListenerPolicy(name="api", auth="required")
    rig.actions = Actions(cors=CORS)
    await rig.start(rig.noting())
    client = await rig.client()
    await client.send(PREFLIGHT)
    assert (await client.response())[0] == 200
    status, headers, _ = await rig.post(origin="https://a.test")
    assert (status, headers["access-control-allow-origin"]) == (401, "https://a.test")
    status, headers, _ = await rig.post(origin="https://a.test", authorization="Bearer sk-acme")
    assert (status, headers["access-control-allow-origin"]) == (200, "https://a.test")
    assert "authorization" not in rig.seen()[1]
    await client.send(PREFLIGHT.replace(b"a.test", b"evil.test"))
    assert (await client.response())[0] == 405


@pytest.mark.parametrize("permitted", ["m", "gpt-*"])
async def test_a_key_for_a_model_is_one_for_its_alias(rig: ActionRig, permitted: str) -> None:
    models = NameSet([permitted])
    rig.access = Access([Tenant(name="acme", keys=(digest(b"sk"),), models=models)])
    rig.policy = ListenerPolicy(name="api", auth="required")
    rig.aliases = {"gpt-4o": "m"}
    await rig.start(rig.noting())
    assert (await rig.post(b'{"model":"gpt-4o"}', authorization="Bearer sk"))[0] == 200
    assert (await rig.post(b'{"model":"other"}', authorization="Bearer sk"))[0] == 403


async def test_a_clusters_credential_goes_with_a_changed_head(rig: ActionRig) -> None:
    rig.credential = b"authorization: Bearer upstream"
    rig.actions = Actions(request=(HeaderEdits(set=one(x_a="1")),), model="other")
    await rig.start(rig.noting())
    assert (await rig.post(authorization="Bearer client"))[0] == 200
    _, fields, body = rig.seen()
    assert fields["authorization"] == ["Bearer upstream"]
    assert (fields["x-a"], body) == (["1"], b'{"model":"other"}')

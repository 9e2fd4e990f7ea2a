"""What is refused before it is routed: the words, the log, and what follows on the connection."""

import gzip
import json

import pytest

from router.core.listener import ListenerLimits
from router.proxy.log_fields import LogFields
from tests.proxy.rig import Rig, answering, chat
from tests.proxy.test_access import guarded

GOOD = b'{"model":"m"}'


def words(body: bytes) -> str:
    return str(json.loads(body)["error"]["message"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty: it must be a JSON object"),
        (b"[]", "the body must be a JSON object"),
        (b'{"model":7}', "`model` must be a string"),
        (b'{"model":"m","max_tokens":1e400}', "the body is not valid JSON: Number out of range"),
        (b'{"model":"m"', "the body is not valid JSON: Input data was truncated"),
    ],
)
async def test_a_body_that_is_read_to_its_end_leaves_the_connection_usable(
    rig: Rig, body: bytes, message: str
) -> None:
    await rig.start(answering())
    client = await rig.client()
    await client.send(chat(body) + chat(GOOD))  # pipelined
    status, headers, answer = await client.response()
    assert (status, words(answer)) == (400, message)
    assert "connection" not in headers
    assert (await client.response())[0] == 200
    assert not rig.connection.relay


async def test_a_compressed_body_is_named_as_such(rig: Rig) -> None:
    await rig.start(answering())
    status, _, answer = await rig.post(gzip.compress(GOOD), Content_Encoding="gzip")
    assert status == 415
    assert json.loads(answer)["error"]["param"] == "content-encoding"
    assert (await rig.post(GOOD, Content_Encoding="identity"))[0] == 200


async def test_what_is_refused_is_logged_if_it_had_a_head(rig: Rig) -> None:
    rig.limits = ListenerLimits(max_body=100, body_timeout=0.05)
    await rig.start(answering())
    requests = [
        chat(b"nonsense"),
        chat(b"x" * 101),
        chat().replace(b"POST", b"PUT"),
        chat(b"xxx")[:-1],
        b"GET /v1/models/none HTTP/1.1\r\nHost: a\r\n\r\n",
        b"malformed\r\n\r\n",
    ]
    answers = []
    for request in requests:
        client = await rig.client()
        await client.send(request)
        answers.append(await client.response())
    assert [answer[0] for answer in answers] == [400, 413, 405, 408, 404, 400]
    logged = [(r.status, r.reason, r.method, r.bytes_in) for r in rig.recorder.records]
    assert logged == [
        (400, "malformed", "POST", 8),
        (413, "request_too_large", "POST", 0),
        (405, "method_not_allowed", "PUT", 0),
        (408, "request_timeout", "POST", 2),
        (404, "model_not_found", "GET", 0),
    ]
    assert [r.request_id for r in rig.recorder.records] == [
        answer[1]["x-request-id"] for answer in answers[:-1]
    ]
    assert rig.recorder.records[3].duration >= 0.05
    assert len(rig.recorder.refusals) == len(requests)


async def test_the_headers_that_the_log_asks_for_are_kept(rig: Rig) -> None:
    await rig.start(answering())
    rig.server.log_fields = LogFields((("user-agent", ":authority"), ("server",)))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert (await rig.post(b"nonsense", User_Agent="curl/8", Traceparent=parent))[0] == 400
    [record] = rig.recorder.records
    assert record.fields == {"REQ:user-agent": "curl/8", "REQ::authority": "proxy"}
    assert record.trace_id == "0af7651916cd43dd8448eb211c80319c"


async def test_a_refused_key_is_logged_once_with_its_reason(rig: Rig) -> None:
    await guarded(rig).start(answering())
    assert (await rig.post(Authorization="Bearer wrong"))[0] == 401
    assert [(r.status, r.reason) for r in rig.recorder.records] == [(401, "unknown_key")]

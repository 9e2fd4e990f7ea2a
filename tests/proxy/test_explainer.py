"""``x-warmpath-explain``: who gets the decision told, what it says, and what engines see."""

import json
from typing import Any

import pytest

from router.core.retry.policy import RetryPolicy
from router.core.told import MAX_BYTES
from router.proxy.explainer import Explainer, digest_of
from tests.proxy.rig import EngineConnection, Rig, answering, whole

TOKEN = "s3cret"
GOOD = {"x_warmpath_explain": TOKEN}


def ready(rig: Rig) -> None:
    rig.server.explainer = Explainer([digest_of(TOKEN)])


def told(headers: dict[str, str]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(headers["x-warmpath-explain"])
    return value


async def test_the_decision_is_told(rig: Rig) -> None:
    await rig.start(answering(), answering())
    ready(rig)
    status, headers, _ = await rig.post(**GOOD)
    assert status == 200
    decision = told(headers)
    ids = [f"c/127.0.0.1:{port}" for port in rig.ports]
    assert (decision["route"], decision["cluster"]) == ("r", "c")
    assert decision["candidates"] == [[id_, 0] for id_ in ids]
    [[attempt, picked, reason]] = decision["picks"]
    assert attempt == 1 and picked in ids and reason == "its turn"


async def test_a_retry_is_told_too(rig: Rig) -> None:
    rig.retry = RetryPolicy(attempts=1)
    port = 1  # nobody listens there
    await rig.start(port, answering())
    ready(rig)
    for _ in range(2):  # the rotation may begin with either
        _, headers, _ = await rig.post(**GOOD)
        picks = told(headers)["picks"]
        if len(picks) > 1:
            break
    assert [attempt for attempt, _, _ in picks] == [1, 2]
    assert picks[0][1] == f"c/127.0.0.1:{port}"


async def test_so_is_the_decision_of_a_refused_request(rig: Rig) -> None:
    await rig.start(answering())
    ready(rig)
    status, headers, _ = await rig.post(b'{"model":"other"}', **GOOD)
    assert status == 404
    decision = told(headers)
    assert decision["route"] is None
    [[route, why]] = decision["passed"]
    assert route == "r" and "model" in why


@pytest.mark.parametrize("given", ["wrong", "s3cre", "s3cret2", ""])
async def test_others_get_the_answer_that_anybody_gets(rig: Rig, given: str) -> None:
    await rig.start(answering())
    ready(rig)
    _, plain, _ = await rig.post(x_request_id="r")
    _, headers, _ = await rig.post(x_request_id="r", x_warmpath_explain=given)
    assert headers == plain


async def test_without_an_admin_token_nobody_gets_it(rig: Rig) -> None:
    await rig.start(answering())
    _, headers, _ = await rig.post(x_warmpath_explain="")
    assert "x-warmpath-explain" not in headers


async def test_the_engine_sees_neither_token_nor_header(rig: Rig) -> None:
    heads: list[bytes] = []

    async def script(connection: EngineConnection) -> None:
        heads.append((await connection.request())[0])
        await connection.send(whole(headers="X-Warmpath-Explain: mine\r\n"))

    await rig.start(script)
    ready(rig)
    _, headers, _ = await rig.post(**GOOD)
    assert TOKEN.encode() not in heads[0] and b"explain" not in heads[0].lower()
    assert told(headers)["route"] == "r", "nor can it answer in our name"


async def test_it_is_bounded(rig: Rig) -> None:
    await rig.start(*range(20_000, 20_200))
    ready(rig)
    status, headers, _ = await rig.post(**GOOD)
    assert status == 503
    assert len(headers["x-warmpath-explain"]) <= MAX_BYTES
    assert told(headers)["candidates"][-1].startswith("and ")

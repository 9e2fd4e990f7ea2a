"""LLM tokens under a limit, as responses bring them over real sockets."""

import asyncio
import dataclasses

from router.core.admission.rate_limit import RateLimit
from router.core.admission.token_bucket import BucketSpec
from router.core.model import LlmRequest
from router.core.retry.policy import RetryOn, RetryPolicy
from router.core.routing import RouteTable
from tests.proxy.rig import EVENT, SSE_HEAD, EngineConnection, Rig, answering, chat, whole

TOKENS = RateLimit(name="t", bucket=BucketSpec(1000, 1e-6, 1000), unit="tokens")
BODY = b'{"model":"m","stream":true,"max_tokens":10}'
ASKED = len(BODY) / 4
"""Tokens that the prompt is taken for."""


def limit(rig: Rig) -> None:
    snapshot = rig.snapshot()
    [route] = snapshot.routes.routes
    route = dataclasses.replace(route, limits=(TOKENS,))
    rig.director.update(dataclasses.replace(snapshot, routes=RouteTable([route])))


def used(rig: Rig) -> float:
    key = TOKENS.key(LlmRequest(id="", method="", path=""))
    store = rig.director.limiter.store
    level = store.level(key, TOKENS.bucket, rig.server.clock())  # type: ignore[attr-defined]
    return round(1000 - float(level), 2)


async def test_a_stream_is_debited_while_it_runs_and_settled_by_its_usage(rig: Rig) -> None:
    go, end = asyncio.Event(), asyncio.Event()

    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(SSE_HEAD)
        for _ in range(60):
            await connection.send(EVENT)
            await go.wait()
            go.clear()
        await end.wait()
        usage = b'data: {"usage":{"prompt_tokens":5,"completion_tokens":60}}\n\n'
        await connection.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(usage), usage))

    await rig.start(script)
    limit(rig)
    client = await rig.client()
    await client.send(chat(BODY))
    await client.read_until(b"\r\n\r\n")
    assert used(rig) == ASKED + 10, "reserved"
    for _ in range(60):
        await client.read_until(b"x\n\n\r\n")
        go.set()
    await rig.until(lambda: used(rig) == ASKED + 60)
    end.set()
    await client.read_until(b"0\r\n\r\n")
    await rig.settled()
    assert used(rig) == 65


async def test_a_stream_that_is_cut_is_charged_what_came(rig: Rig) -> None:
    cut = asyncio.Event()

    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(SSE_HEAD + EVENT)
        await cut.wait()
        connection.reset()

    await rig.start(script)
    limit(rig)
    client = await rig.client()
    await client.send(chat(BODY))
    await client.read_until(b"x\n\n\r\n")
    cut.set()
    await rig.settled()
    assert used(rig) == ASKED + 1


async def test_a_retry_is_charged_once_and_an_error_nothing(rig: Rig) -> None:
    usage = b'{"usage":{"prompt_tokens":30,"completion_tokens":12}}'
    rig.retry = RetryPolicy(on=RetryOn.FIVE_XX, attempts=1)
    await rig.start(answering(whole(b"{}", "500 Oops")), answering(whole(usage)))
    limit(rig)
    status, headers, _ = await rig.post(BODY)
    assert status == 200
    assert headers["x-ratelimit-remaining-tokens"] == str(int(1000 - ASKED - 10))
    await rig.settled()
    assert used(rig) == 42
    await rig.engines[1].stop()  # what is left answers 500
    assert (await rig.post(BODY))[0] >= 500
    await rig.settled()
    assert used(rig) == 42

"""Requests that another cluster answers, over real sockets."""

import dataclasses

import msgspec

from router.core.cluster import CircuitBreaker
from router.core.fallback import Fallback
from router.core.retry.policy import RetryOn, RetryPolicy
from tests.proxy.rig import (
    EVENT,
    SSE_HEAD,
    EngineConnection,
    Rig,
    Watched,
    answering,
    chat,
    whole,
)

DEAD = 1
"""A loopback port where nobody listens."""

SPARE = answering(whole(b'{"from":"spare"}'))
ONCE = RetryPolicy(attempts=0, on=RetryOn.NONE)


async def test_a_dead_cluster(rig: Rig) -> None:
    rig.others = {"s": SPARE}
    rig.terms = {"fallbacks": (Fallback("s"),)}
    rig.retry = RetryPolicy(attempts=1)
    await rig.start(DEAD)
    status, headers, body = await rig.post()
    assert (status, body) == (200, b'{"from":"spare"}')
    assert "x-warmpath-fallback" not in headers
    await rig.settled()
    [record] = rig.recorder.records
    assert (record.cluster, record.attempts, record.flag) == ("s", 3, "-")
    assert record.fallback == "c (failed) -> s"
    assert rig.director.steps.counts == {("r", "c", "s", "failed"): 1}


async def test_an_error_answer_and_who_may_know(rig: Rig) -> None:
    rig.others = {"s": SPARE}
    rig.terms = {"fallbacks": (Fallback("s"),)}
    rig.limits = dataclasses.replace(rig.limits, expose_decision=True)
    rig.retry = ONCE
    await rig.start(answering(whole(b"{}", "503 Service Unavailable")))
    status, headers, body = await rig.post()
    assert (status, body) == (200, b'{"from":"spare"}')
    assert headers["x-warmpath-fallback"] == "c (failed) -> s"


async def test_a_saturated_cluster(rig: Rig) -> None:
    rig.others = {"s": SPARE}
    rig.terms = {"fallbacks": (Fallback("s"),)}
    rig.breaker = CircuitBreaker(max_connections=1, max_pending=0)
    busy = Watched()
    await rig.start(busy)
    first = await rig.client()
    await first.send(chat())
    await busy.arrived.wait()
    status, _, body = await rig.post()
    assert (status, body) == (200, b'{"from":"spare"}')
    first.close()
    await busy.left.wait()


async def test_it_waits_in_the_line_of_the_fallback_with_no_connection_held(rig: Rig) -> None:
    """The attempt that failed is dropped before the request stands in line elsewhere."""
    spare = Watched(whole())
    rig.others = {"s": spare}
    rig.terms = {"fallbacks": (Fallback("s"),)}
    rig.retry = ONCE
    await rig.start(answering(whole(b"{}", "500 Internal Server Error")))
    narrow = msgspec.structs.replace(
        rig.director.snapshot.clusters["s"], breaker=CircuitBreaker(max_connections=0)
    )
    clusters = dict(rig.director.snapshot.clusters) | {"s": narrow}
    rig.director.update(dataclasses.replace(rig.director.snapshot, clusters=clusters))
    client = await rig.client()
    await client.send(chat())
    await rig.until(lambda: rig.states() == ["queued"])
    [relay] = rig.server.relays.values()
    assert relay.upstream is None
    rig.director.update(rig.snapshot())
    status, _, _ = await client.response()
    assert status == 200


async def test_another_model_is_asked_for(rig: Rig) -> None:
    rig.others = {"s": SPARE}
    rig.terms = {"fallbacks": (Fallback("s", model="small"),)}
    rig.retry = ONCE
    await rig.start(DEAD)
    body = b'{ "messages": [{"role":"user","content":"the \\"model\\": m"}], "model" : "m" }'
    assert (await rig.post(body))[0] == 200
    await rig.settled()
    [(head, seen)] = rig.others_engines["s"].seen
    assert seen == body.replace(b'"m"', b'"small"')
    assert b"content-length: %d\r\n" % len(seen) in head
    assert rig.recorder.records[0].model == "m"


async def test_another_model_in_a_chunked_request(rig: Rig) -> None:
    rig.others = {"s": SPARE}
    rig.terms = {"fallbacks": (Fallback("s", model="small"),)}
    rig.retry = ONCE
    await rig.start(DEAD)
    client = await rig.client()
    await client.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'5\r\n{"mod\r\n8\r\nel":"m"}\r\n0\r\n\r\n'
    )
    assert (await client.response())[0] == 200
    await rig.settled()
    [(_, seen)] = rig.others_engines["s"].seen
    assert seen == b'{"model":"small"}'


async def test_another_model_in_an_upload_that_is_still_coming(rig: Rig) -> None:
    rig.others = {"s": SPARE}
    rig.terms = {"fallbacks": (Fallback("s", model="a-longer-name"),)}
    rig.retry = ONCE
    rig.limits = dataclasses.replace(rig.limits, buffer_body=20_000)
    await rig.start(DEAD)
    client = await rig.client()
    body = b'{"model":"m","prompt":"%b"}' % (b"x" * 60_000)
    request = chat(body)
    await client.send(request[:30_000])
    await rig.until(lambda: rig.others_engines["s"].connections == 1)
    await client.send(request[30_000:])
    assert (await client.response())[0] == 200
    await rig.settled()
    [(_, seen)] = rig.others_engines["s"].seen
    assert seen == body.replace(b'"m"', b'"a-longer-name"')


async def test_a_stream_that_began_is_never_moved(rig: Rig) -> None:
    async def cutting(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(SSE_HEAD + EVENT)
        connection.close()

    rig.others = {"s": SPARE}
    rig.terms = {"fallbacks": (Fallback("s"),)}
    await rig.start(cutting)
    client = await rig.client()
    await client.send(chat(b'{"model":"m","stream":true}'))
    await client.read_until(b"\r\n\r\n")
    assert b"upstream_reset" in await client.rest()
    await rig.settled()
    assert rig.others_engines["s"].connections == 0

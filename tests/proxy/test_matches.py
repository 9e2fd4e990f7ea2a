"""Conditions on real requests: what is read from a socket is what the core is asked about."""

from router.core.matching import (
    Matcher,
    QueryIs,
    SizeClass,
    SizeIs,
    StringMatch,
    TokenRange,
    TokensWithin,
)
from tests.proxy.rig import Rig, answering, chat

SIZES = (
    SizeClass("small", TokenRange(high=50), TokenRange(high=100)),
    SizeClass("large"),
)


async def status(rig: Rig, body: bytes, path: str = "/v1/chat/completions") -> int:
    client = await rig.client()
    await client.send(chat(body, path=path))
    return (await client.response())[0]


async def test_the_query_is_that_of_the_target(rig: Rig) -> None:
    rig.match = Matcher(more=(QueryIs("v", StringMatch("exact", "2")),))
    await rig.start(answering())
    assert await status(rig, b"{}", "/v1/chat/completions?v=2") == 200
    assert await status(rig, b"{}", "/v1/chat/completions?v=3") == 404
    assert await status(rig, b"{}") == 404


async def test_the_size_is_that_of_body_and_max_tokens(rig: Rig) -> None:
    rig.match = Matcher(more=(SizeIs(("small",), SIZES),))
    await rig.start(answering())
    assert await status(rig, b'{"model":"m","max_tokens":100}') == 200
    assert await status(rig, b'{"model":"m","max_tokens":101}') == 404
    assert await status(rig, b'{"model":"m"}') == 404
    assert await status(rig, b'{"max_tokens":9,"prompt":"%b"}' % (b"x" * 200)) == 404


async def test_a_body_routed_before_it_has_come_has_the_size_that_was_announced(rig: Rig) -> None:
    rig.limits = type(rig.limits)(buffer_body=1024)
    large = SizeClass(prompt_tokens=TokenRange(low=2000))
    rig.match = Matcher(more=(TokensWithin(large),))
    await rig.start(answering())
    body = b'{"model":"m","prompt":"%b"}' % (b"x" * 9000)
    client = await rig.client()
    request = chat(body)
    await client.send(request[:4000])
    await rig.until(lambda: rig.server.in_flight == 1)  # it went on its way with 4000 bytes
    await client.send(request[4000:])
    assert (await client.response())[0] == 200

"""Requests that go well."""

import asyncio

from tests.proxy.rig import EVENT, SSE_HEAD, EngineConnection, Rig, answering, chat, whole


async def test_keep_alive_both_sides(rig: Rig) -> None:
    await rig.start(answering(whole(b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}')))
    client = await rig.client()
    for _ in range(3):
        await client.send(chat())
        status, headers, body = await client.response()
        assert status == 200
        assert "connection" not in headers
        assert body.startswith(b'{"usage"')
    assert rig.engines[0].connections == 1
    record = rig.recorder.records[-1]
    assert (record.status, record.model, record.prompt_tokens, record.completion_tokens) == (
        200,
        "m",
        3,
        4,
    )


async def test_stream_passes_chunk_by_chunk(rig: Rig) -> None:
    async def script(connection: EngineConnection) -> None:
        while True:
            await connection.request()
            await connection.send(SSE_HEAD)
            for _ in range(3):
                await connection.send(EVENT)
                assert await go.wait()
                go.clear()
            await connection.send(b"0\r\n\r\n")

    go = asyncio.Event()
    await rig.start(script)
    client = await rig.client()
    await client.send(chat(b'{"model":"m","stream":true}'))
    await client.read_until(b"\r\n\r\n")
    for _ in range(3):
        assert await client.read_until(b"x\n\n\r\n") == b"9\r\ndata: x\n\n\r\n"
        go.set()
    assert await client.read_until(b"0\r\n\r\n") == b"0\r\n\r\n"
    await rig.settled()
    assert rig.recorder.records[0].stream

"""HTTP/1.1 at byte level: framing, keep-alive, order, limits, clients that leave or do not read."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine.emulator import PROFILES

PACED = replace(PROFILES["instant"], decode_step=0.01)


async def until(condition: Callable[[], object]) -> None:
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("did not happen within 5 s")


async def test_keep_alive_serves_many_requests(launch: Any, connect: Any) -> None:
    client = await connect(await launch())
    for n in range(1, 5):
        client.chat(max_tokens=n)
        status, headers, body = await client.answer()
        assert (status, headers.get("connection")) == (200, None)
        assert json.loads(body)["usage"]["completion_tokens"] == n


async def test_pipelined_requests_are_answered_in_order(launch: Any, connect: Any) -> None:
    emulator = await launch(timing=PACED)
    client = await connect(emulator)
    for n in (8, 1, 4):
        client.chat(max_tokens=n)
    client.send(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    counts = [json.loads((await client.answer())[2])["usage"]["completion_tokens"] for _ in "abc"]
    assert counts == [8, 1, 4]
    assert (await client.answer())[0] == 200
    # They were not worked on side by side: an HTTP/1.1 connection has one answer at a time.
    assert emulator.requests.finished == 3


async def test_hundreds_of_pipelined_requests(launch: Any, connect: Any) -> None:
    client = await connect(await launch())
    client.send(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n" * 500)
    for _ in range(500):
        assert (await client.answer())[0] == 200


async def test_a_chunked_request_body_in_small_pieces(launch: Any, connect: Any) -> None:
    client = await connect(await launch())
    client.send(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    for byte in b'{"prompt": "abcdefgh", "max_tokens": 1}':
        client.send(b"1\r\n%c\r\n" % byte)
        await asyncio.sleep(0)
    client.send(b"0\r\n\r\n")
    status, _, body = await client.answer()
    assert (status, json.loads(body)["usage"]["prompt_tokens"]) == (200, 2)


async def test_expect_100_continue(launch: Any, connect: Any) -> None:
    client = await connect(await launch())
    body = b'{"prompt": "abcdefgh"}'
    client.send(
        b"POST /tokenize HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
        % len(body)
    )
    assert (await client.head())[0] == 100
    client.send(body)
    assert (await client.answer())[0] == 200


async def test_too_large_a_body_is_413(launch: Any, connect: Any) -> None:
    emulator = await launch(max_body_bytes=1000)
    for expect in (b"", b"expect: 100-continue\r\n"):
        client = await connect(emulator)
        client.send(b"POST /tokenize HTTP/1.1\r\n%bcontent-length: 2000\r\n\r\n" % expect)
        if not expect:
            client.send(b"x" * 2000)
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (413, "close")
        assert "1000" in json.loads(body)["error"]["message"]
        assert await client.until_closed() == b""


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", 431),
    ],
)
async def test_malformed_requests(
    launch: Any, connect: Any, request_bytes: bytes, status: int
) -> None:
    emulator = await launch()
    client = await connect(emulator)
    client.send(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n" + request_bytes)
    assert (await client.answer())[0] == 200  # what came before is still answered
    got, headers, body = await client.answer()
    assert (got, headers["connection"]) == (status, "close")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert await client.until_closed() == b""


async def test_connection_close_is_honoured(launch: Any, connect: Any) -> None:
    client = await connect(await launch())
    client.chat(connection="close")
    assert (await client.answer())[1]["connection"] == "close"
    assert await client.until_closed() == b""


async def test_http_1_0_streams_end_by_closing(launch: Any, connect: Any) -> None:
    client = await connect(await launch())
    body = b'{"prompt":"x","max_tokens":2,"stream":true}'
    client.send(b"POST /v1/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    status, headers = await client.head()
    assert (status, "transfer-encoding" in headers) == (200, False)
    assert (await client.until_closed()).endswith(b"data: [DONE]\n\n")


async def test_a_stream_is_one_http_chunk_per_event(launch: Any, connect: Any) -> None:
    client = await connect(await launch())
    client.chat(max_tokens=3, stream=True)
    await client.head()
    events = []
    while size := int(await client.reader.readuntil(b"\r\n"), 16):
        events.append(await client.reader.readexactly(size))
        assert await client.reader.readexactly(2) == b"\r\n"
    assert await client.reader.readexactly(2) == b"\r\n"
    assert len(events) == 6
    assert all(e.startswith(b"data: ") and e.endswith(b"\n\n") for e in events)


@pytest.mark.parametrize("early", [True, False])
async def test_when_the_head_of_a_stream_is_sent(launch: Any, connect: Any, early: bool) -> None:
    timing = replace(PACED, prefill_tokens_per_second=1e-3)  # the first token never comes
    client = await connect(await launch(early_head=early, timing=timing))
    client.chat(stream=True)
    if early:
        assert (await client.head())[0] == 200
    else:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.1)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_is_seen_at_once(
    launch: Any, connect: Any, stream: bool
) -> None:
    emulator = await launch(timing=PACED)
    client = await connect(emulator)
    client.chat(max_tokens=1000, stream=stream)
    if stream:
        await client.head()
    await until(lambda: emulator.requests.active == 1)
    left = time.monotonic()
    client.close()
    await until(lambda: emulator.requests.aborted == 1)
    abort = emulator.requests.aborts[0]
    assert (abort.path, emulator.requests.active) == ("/v1/chat/completions", 0)
    assert 0 <= abort.gone - left < 1.0
    assert (abort.sent_tokens > 0) == stream
    assert (emulator.model.running, emulator.model.kv.in_use) == ({}, 0)
    page = emulator.service.metrics.render(emulator.service.gauges())
    assert b'finished_reason="abort",model_name="emulated"} 1.0' in page


async def test_clients_that_leave_while_queued_free_their_place(launch: Any, connect: Any) -> None:
    emulator = await launch(timing=replace(PACED, max_num_seqs=1))
    clients = [await connect(emulator) for _ in range(3)]
    for client, tokens in zip(clients, (1000, 1000, 2), strict=True):
        client.chat(max_tokens=tokens)
        await until(lambda: emulator.requests.active == 1 + clients.index(client))  # noqa: B023
    clients[1].close()
    await until(lambda: emulator.requests.aborted == 1)
    clients[0].close()
    assert (await clients[2].answer())[0] == 200


async def test_a_client_that_does_not_read_costs_no_memory(launch: Any, connect: Any) -> None:
    emulator = await launch(chunk_size=10_000)
    client = await connect(emulator)
    client.chat(max_tokens=5000, stream=True)  # 50 MB
    await until(lambda: emulator.requests.started == 1 and not emulator.model.running)
    (connection,) = emulator.service.connections
    assert connection.paused
    assert connection.transport.get_write_buffer_size() < 512 * 1024
    total = 0
    while not (piece := await client.reader.read(1 << 20)).endswith(b"0\r\n\r\n"):
        total += len(piece)
    assert total > 50_000_000
    assert emulator.requests.finished == 1


async def test_many_streams_at_once_lose_nothing(launch: Any, connect: Any) -> None:
    emulator = await launch(timing=replace(PACED, decode_step=0.002))
    clients = [await connect(emulator) for _ in range(100)]
    for client in clients:
        client.chat(max_tokens=20, stream=True, connection="close")
    for body in await asyncio.gather(*(client.until_closed() for client in clients)):
        positions = [body.index(b'"content":" %03d"' % n) for n in range(20)]
        assert positions == sorted(positions)
        assert body.endswith(b"0\r\n\r\n")
    assert emulator.requests.finished == 100


async def test_recorded_requests_tell_headers_and_body_digest(launch: Any, connect: Any) -> None:
    emulator = await launch(record=2)
    client = await connect(emulator)
    for n in range(3):
        client.chat(x_number=str(n))
        await client.answer()
    assert [seen.headers["x-number"] for seen in emulator.requests.seen] == ["1", "2"]
    first, second = emulator.requests.seen
    assert first.body_sha256 == second.body_sha256
    client.send(b"GET /emulator/requests HTTP/1.1\r\nhost: x\r\n\r\n")
    shown = json.loads((await client.answer())[2])
    assert (shown["started"], shown["finished"], shown["active"]) == (3, 3, 0)
    assert shown["by_path"] == {"/v1/chat/completions": 3}


async def test_tokens_come_at_the_pace_of_the_model(launch: Any, connect: Any) -> None:
    client = await connect(await launch(timing=replace(PACED, decode_step=0.02)))
    started = time.monotonic()
    client.chat(max_tokens=20)
    await client.answer()
    assert 0.39 <= time.monotonic() - started < 2.0

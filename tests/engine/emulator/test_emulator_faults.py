"""Every fault as the client on the other end of the wire sees it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import pytest

from engine.emulator import PROFILES, Emulator, EmulatorConfig, Fault, FaultBoard, FaultError, Kind

PACED = replace(PROFILES["instant"], decode_step=0.01)


# ------------------------------------------------------------------ descriptions


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("hang", Fault(Kind.HANG)),
        ("status=429;retry_after=2", Fault(Kind.STATUS, code=429, retry_after=2.0)),
        ("reset_mid=3;count=2", Fault(Kind.RESET_MID, after_chunks=3, count=2)),
        (" slow = 5 ; rate = 0.5 ", Fault(Kind.SLOW, factor=5.0, rate=0.5)),
        ("stall=2;delay=1.5;path=/v1/completions", None),
    ],
)
def test_text_form(text: str, fault: Fault | None) -> None:
    parsed = Fault.parse(text)
    assert fault in (None, parsed)
    assert (
        Fault.from_mapping({k: v for k, v in parsed.to_mapping().items() if k != "hits"}) == parsed
    )


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "kind"),
        ("flood", "kind"),
        ("hang=3", "kind"),
        ("status=abc", "code"),
        ("status=99", "code"),
        ("reset_mid=0", "after_chunks"),
        ("slow=0.5", "factor"),
        ("hang;rate=2", "rate"),
        ("hang;count=0", "count"),
        ("hang;colour=red", "colour"),
        ("hang;delay", "delay"),
        ("refuse", "delay"),
    ],
)
def test_nonsense_is_refused_by_name(text: str, field: str) -> None:
    with pytest.raises(FaultError) as caught:
        Fault.parse(text)
    assert caught.value.field == field


def test_count_rate_and_path_choose_who_is_hit() -> None:
    board = FaultBoard(seed=1)
    board.add("status=500;count=2;path=/a")
    board.add("hang;rate=0.25")
    assert [f and f.kind for f in map(board.pick, ("/a", "/a"))] == [Kind.STATUS, Kind.STATUS]
    hits = sum(board.pick("/a") is not None for _ in range(4000))
    assert 850 < hits < 1150
    assert len(board.active) == 1


def test_the_board_is_bounded() -> None:
    board = FaultBoard()
    for _ in range(64):
        board.add("hang")
    with pytest.raises(FaultError):
        board.add("hang")


# ------------------------------------------------------------------ on the wire


@pytest.mark.parametrize("way", ["header", "control", "object"])
async def test_status_in_all_three_ways(launch: Any, connect: Any, way: str) -> None:
    emulator: Emulator = await launch()
    client = await connect(emulator)
    headers = {}
    if way == "header":
        headers = {"x_emulator_fault": "status=503;retry_after=7"}
    elif way == "control":
        spec = {"kind": "status", "code": 503, "retry_after": 7, "count": 1}
        client.post("/emulator/faults", spec)
        assert (await client.answer())[0] == 200
    else:
        emulator.add_fault("status=503;retry_after=7;count=1")
    client.chat(**headers)
    status, seen, body = await client.answer()
    assert (status, seen["retry-after"]) == (503, "7")
    assert json.loads(body)["error"]["type"] == "server_error"
    client.chat()
    assert (await client.answer())[0] == 200  # once only, and the connection goes on
    assert (emulator.requests.faulted, emulator.requests.finished) == (1, 1)


async def test_faults_can_be_shown_and_cleared(launch: Any, connect: Any) -> None:
    client = await connect(await launch())
    client.post("/emulator/faults", {"kind": "hang", "rate": 0.5})
    await client.answer()
    client.send(b"GET /emulator/faults HTTP/1.1\r\nhost: x\r\n\r\n")
    shown = json.loads((await client.answer())[2])["faults"]
    assert [(f["kind"], f["rate"]) for f in shown] == [("hang", 0.5)]
    client.send(b"DELETE /emulator/faults HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await client.answer())[0] == 204
    client.chat()
    assert (await client.answer())[0] == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_hang_never_answers(launch: Any, connect: Any, stream: bool) -> None:
    emulator = await launch()
    client = await connect(emulator)
    client.chat(stream=stream, x_emulator_fault="hang")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.read(1), 0.1)
    assert emulator.requests.active == 1
    client.close()
    await asyncio.wait_for(emulator.requests.idle(), 5)
    assert emulator.requests.aborted == 1


async def test_hang_after_head(launch: Any, connect: Any) -> None:
    client = await connect(await launch())
    client.chat(stream=True, x_emulator_fault="hang_after_head")
    assert (await client.head())[0] == 200
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.read(1), 0.1)


@pytest.mark.parametrize("delay", ["", ";delay=0.05"])
async def test_reset_before_head(launch: Any, connect: Any, delay: str) -> None:
    client = await connect(await launch())
    started = time.monotonic()
    client.chat(x_emulator_fault="reset_before_head" + delay)
    with pytest.raises(ConnectionResetError):
        await client.until_closed()
    assert time.monotonic() - started >= (0.045 if delay else 0)


async def test_fin_before_head(launch: Any, connect: Any) -> None:
    client = await connect(await launch())
    client.chat(x_emulator_fault="fin_before_head")
    assert await client.until_closed() == b""


async def test_garbage_head(launch: Any, connect: Any) -> None:
    client = await connect(await launch())
    client.chat(x_emulator_fault="garbage_head")
    garbage = await client.until_closed()
    assert garbage
    assert not garbage.startswith(b"HTTP/")


@pytest.mark.parametrize("timing", [PACED, PROFILES["instant"]])
@pytest.mark.parametrize("kind", ["reset_mid", "fin_mid", "bad_chunk"])
async def test_streams_cut_midway(launch: Any, connect: Any, kind: str, timing: Any) -> None:
    emulator = await launch(timing=timing)
    client = await connect(emulator)
    client.chat(max_tokens=200, stream=True, x_emulator_fault=f"{kind}=3")
    await client.head()
    received = b""
    try:
        while piece := await asyncio.wait_for(client.reader.read(4096), 10):
            received += piece
        ended = "fin"
    except ConnectionResetError:
        ended = "reset"
    assert ended == ("reset" if kind == "reset_mid" else "fin")
    assert b'" 002"' in received
    assert b'" 003"' not in received
    assert b"[DONE]" not in received
    assert not received.endswith(b"0\r\n\r\n")
    assert received.endswith(b"zz\r\nnot a chunk\r\n") == (kind == "bad_chunk")
    assert (emulator.requests.faulted, emulator.requests.active) == (1, 0)
    assert emulator.model.kv.in_use == 0


@pytest.mark.parametrize("kind", ["reset_mid", "fin_mid"])
async def test_whole_answers_cut_midway(launch: Any, connect: Any, kind: str) -> None:
    client = await connect(await launch())
    client.chat(max_tokens=50, x_emulator_fault=kind)
    _, headers = await client.head()
    body = b""
    try:
        while piece := await asyncio.wait_for(client.reader.read(4096), 10):
            body += piece
    except ConnectionResetError:
        assert kind == "reset_mid"
    assert 0 < len(body) < int(headers["content-length"])


async def test_slow_stretches_only_the_one(launch: Any, connect: Any) -> None:
    emulator = await launch(timing=PACED)
    slow, quick = await connect(emulator), await connect(emulator)
    started = time.monotonic()
    slow.chat(max_tokens=10, x_emulator_fault="slow=5")
    quick.chat(max_tokens=10)
    await quick.answer()
    between = time.monotonic() - started
    await slow.answer()
    total = time.monotonic() - started
    assert total >= 0.4
    assert between < total


async def test_stall_pauses_and_goes_on(launch: Any, connect: Any) -> None:
    client = await connect(await launch())
    client.chat(max_tokens=4, stream=True, x_emulator_fault="stall=2;delay=0.2", connection="close")
    started = time.monotonic()
    body = await client.until_closed()
    assert time.monotonic() - started >= 0.19
    assert b"[DONE]" in body


async def test_unhealthy(launch: Any, connect: Any) -> None:
    emulator = await launch()
    client = await connect(emulator)
    emulator.add_fault("unhealthy;count=2")
    seen = []
    for _ in range(3):
        client.send(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        seen.append((await client.answer())[0])
    assert seen == [503, 503, 200]
    client.chat()
    assert (await client.answer())[0] == 200


async def test_refuse_closes_the_listener_for_a_while(launch: Any, connect: Any) -> None:
    emulator = await launch()
    old = await connect(emulator)
    emulator.add_fault("refuse=0.15")
    with pytest.raises(ConnectionRefusedError):
        await connect(emulator)
    old.chat()
    assert (await old.answer())[0] == 200  # open connections go on
    for _ in range(200):
        try:
            new = await connect(emulator)
            break
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
    new.chat()
    assert (await new.answer())[0] == 200


async def test_a_bad_fault_header_is_400(launch: Any, connect: Any) -> None:
    client = await connect(await launch())
    for header in ("flood", "unhealthy"):
        client.chat(x_emulator_fault=header)
        status, _, body = await client.answer()
        assert status == 400
        assert header in json.loads(body)["error"]["message"]


async def test_crash_resets_everyone(launch: Any, connect: Any) -> None:
    emulator = await launch(timing=PACED)
    clients = [await connect(emulator) for _ in range(3)]
    for client in clients:
        client.chat(stream=True, max_tokens=100)
        await client.head()
    emulator.crash()
    for client in clients:
        with pytest.raises(ConnectionResetError):
            await client.until_closed()
    await asyncio.wait_for(emulator.requests.idle(), 5)


async def test_drain_finishes_what_is_there_and_refuses_the_rest(launch: Any, connect: Any) -> None:
    emulator: Emulator = await launch(timing=PACED)
    busy, idle = await connect(emulator), await connect(emulator)
    busy.chat(max_tokens=10, stream=True, connection="close")
    await busy.head()
    draining = asyncio.create_task(emulator.drain(5))
    await asyncio.sleep(0)
    idle.chat()
    assert (await idle.answer())[0] == 503
    idle.send(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await idle.answer())[0] == 503
    assert b"[DONE]" in await busy.until_closed()
    await draining
    assert emulator.requests.active == 0


def test_settings_are_checked_by_name() -> None:
    with pytest.raises(ValueError, match="max_num_seqs must be between"):
        EmulatorConfig(timing=replace(PACED, max_num_seqs=0))
    with pytest.raises(ValueError, match="name must be printable"):
        EmulatorConfig(name="a\r\nb")

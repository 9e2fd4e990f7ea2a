"""Date: the engine's where it sends one, ours where it does not, on every answer."""

import time
from email.utils import parsedate_to_datetime

import pytest

from tests.proxy.rig import Rig, answering, chat, parse_headers, whole

THEIRS = "Tue, 15 Nov 1994 08:12:31 GMT"


async def head(rig: Rig, body: bytes = b'{"model":"m"}') -> bytes:
    client = await rig.client()
    await client.send(chat(body))
    return await client.read_until(b"\r\n\r\n")


@pytest.mark.parametrize("extra", ["", "Connection: close\r\n"])
async def test_an_engine_without_one_gets_one(rig: Rig, extra: str) -> None:
    await rig.start(answering(whole(headers=extra)))
    date = parsedate_to_datetime(parse_headers(await head(rig))["date"])
    assert abs(date.timestamp() - time.time()) < 60


@pytest.mark.parametrize("name", ["Date", "date"])
@pytest.mark.parametrize("length", [3, 11, 12])
async def test_an_engines_own_is_kept(rig: Rig, name: str, length: int) -> None:
    await rig.start(answering(whole(b"x" * length, headers=f"{name}: {THEIRS}\r\n")))
    raw = await head(rig)
    assert raw.lower().count(b"date:") == 1
    assert parse_headers(raw)["date"] == THEIRS


async def test_our_own_answers_have_one(rig: Rig) -> None:
    await rig.start(answering())
    raw = await head(rig, b'{"model":"other"}')
    assert raw.startswith(b"HTTP/1.1 404") and raw.lower().count(b"date:") == 1

"""Which blocks a prompt has, in the head of its answer: read, told on, and kept from clients."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from router.control.messages import Message, TipsSeen
from router.core.balancers.predicted_ttft import PredictedTtft
from router.core.cluster import KvEvents
from router.core.forecast.notes import unpack
from router.core.prefix.ends import end_of
from router.proxy import response_head
from router.proxy.cache_link import MOST, CacheLink
from router.proxy.tip_header import heard
from tests.proxy.rig import EngineConnection, Rig, Script, whole

NAME = 0xC7EF6A08FF8C66CF
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n%bserver: x\r\n\r\n"
VALUES: dict[str, tuple[str, tuple[int, int] | None]] = {
    "a tip": ("c7ef6a08ff8c66cf:32", (NAME, 32)),
    "in capitals": ("C7EF6A08FF8C66CF:32", (NAME, 32)),
    "of several prompts the first": ("c7ef6a08ff8c66cf:32, 0000000000000001:4,-:0", (NAME, 32)),
    "zeros in front": ("00000000000000ff:1", (255, 1)),
    "no full block": ("-:0", None),
    "the first prompt has none": ("-:0,c7ef6a08ff8c66cf:32", None),
    "a name and no blocks": ("c7ef6a08ff8c66cf:0", None),
    "a short name": ("c7ef6a08ff8c66c:32", None),
    "a long name": ("0c7ef6a08ff8c66cf:32", None),
    "a number that is too long": ("c7ef6a08ff8c66cf:1000000000", None),
    "a sign": ("c7ef6a08ff8c66cf:-32", None),
    "something behind it": ("c7ef6a08ff8c66cf:32;q=1", None),
    "empty": ("", None),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("spelling", ["x-kv-prefix-tip", "X-KV-Prefix-Tip"])
def test_values(name: str, spelling: str) -> None:
    value, expected = VALUES[name]
    assert heard(HEAD % f"{spelling}: {value}\r\n".encode()) == (HEAD % b"", expected)


@given(st.binary(max_size=60))
def test_whatever_it_says_the_line_is_taken_out(value: bytes) -> None:
    value = value.replace(b"\r", b"").replace(b"\n", b"")
    rest, tip = heard(HEAD % b"x-kv-prefix-tip: %b\r\n" % value)
    assert tip is None or len(value) >= 18
    assert rest in (HEAD % b"", HEAD % b"x-kv-prefix-tip: %b\r\n" % value)


def telling(*lines: str) -> Script:
    """An engine whose answers have these lines, one after the other."""
    left = list(lines)

    async def script(connection: EngineConnection) -> None:
        while True:
            await connection.request()
            await connection.send(whole(headers=left.pop(0)))

    return script


@pytest.fixture
def sent() -> list[Message]:
    return []


@pytest.fixture
def link(rig: Rig, sent: list[Message]) -> CacheLink:
    rig.balancer = PredictedTtft.Spec()
    rig.kv_events = KvEvents()

    def send(message: Message) -> bool:
        sent.append(message)
        return True

    return CacheLink(send)


async def ask(rig: Rig, text: str) -> dict[str, str]:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    status, headers, _ = await rig.post(json.dumps(body).encode())
    assert status == 200
    return headers


async def test_what_answers_say_is_told_to_control(
    rig: Rig, link: CacheLink, sent: list[Message]
) -> None:
    tip, none = "x-kv-prefix-tip: c7ef6a08ff8c66cf:32\r\n", "x-kv-prefix-tip: -:0\r\n"
    await rig.start(telling(tip, none, "", tip.replace("32", "33")))
    link.follow(rig.director)
    response_head._heads.clear()
    response_head._without_digits.clear()
    for _ in range(4):
        assert "x-kv-prefix-tip" not in await ask(rig, "hello " * 400)
    await asyncio.sleep(0.1)
    told = [seen for message in sent if isinstance(message, TipsSeen) for seen in message.tips]
    assert [(seen.block, seen.count) for seen in told] == [(NAME, 32), (NAME, 33)]
    assert link.told == 2
    first = told[0]
    assert first.endpoint == f"c/127.0.0.1:{rig.ports[0]}"
    assert len(unpack(first.checkpoints)) == int(first.size) == 4
    assert first.end not in (0, *unpack(first.checkpoints))
    assert len(response_head._heads) == 1, "one head, whatever the tip"


async def test_it_is_passed_on_where_nobody_listens(rig: Rig) -> None:
    rig.balancer = PredictedTtft.Spec()
    await rig.start(telling("x-kv-prefix-tip: c7ef6a08ff8c66cf:32\r\n"))
    assert (await ask(rig, "hello"))["x-kv-prefix-tip"] == "c7ef6a08ff8c66cf:32"


async def test_what_gathers_is_bounded(rig: Rig, link: CacheLink, sent: list[Message]) -> None:
    await rig.start(telling("x-kv-prefix-tip: c7ef6a08ff8c66cf:32\r\n"))
    link.follow(rig.director)
    link._tips = [None] * MOST  # type: ignore[list-item]
    await ask(rig, "hello " * 400)
    assert link.kept_back == 1


async def test_nobody_is_told_once_events_are_off(
    rig: Rig, link: CacheLink, sent: list[Message]
) -> None:
    tip = "x-kv-prefix-tip: c7ef6a08ff8c66cf:32\r\n"
    await rig.start(telling(tip, tip))
    link.follow(rig.director)
    await ask(rig, "hello " * 400)
    rig.kv_events = None
    rig.director.update(rig.snapshot())
    link.follow(rig.director)
    assert "x-kv-prefix-tip" in await ask(rig, "hello " * 400)
    await asyncio.sleep(0.1)
    assert link.told == 1


def test_a_prompts_end_has_a_name_of_its_own() -> None:
    one, two, conversation, other = (xxh3_64_intdigest(bytes([seed])) for seed in range(4))
    ends = {
        end_of((one, two), conversation),
        end_of((one, two), other),
        end_of((one,), conversation),
        end_of((), conversation),
    }
    assert len(ends | {one, two, conversation, other}) == 8
    assert end_of((one, two), 0) == 0

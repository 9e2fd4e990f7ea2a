"""An engine's load in the head of its answer: asked for, believed, and kept from clients."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.emulator import Emulator, EmulatorConfig
from router.core.fleet import TOLD_FOR
from router.core.load import LoadReport
from router.core.model import EndpointId
from router.proxy import load_header, response_head
from router.proxy.known_heads import parse_request
from router.proxy.load_header import heard
from tests.proxy.rig import EngineConnection, Rig, Script, chat, whole

KNOWN = LoadReport(1.0, 8, 9, 0.5, None, 4000)
FULL = "named_metrics.kv_cache_usage_perc=0.25, named_metrics.num_requests_waiting=2, "
FULL += "named_metrics.num_requests_running=3, named_metrics.queued_prefill_tokens=70"
TOLD = LoadReport(5.0, 3, 2, 0.25, 70, 4000, told=True)
VLLM = '{"named_metrics":{"kv_cache_usage_perc":0.25,"num_requests_waiting":2.0}}'
VALUES: dict[str, tuple[str, LoadReport | None]] = {
    "text": (f"TEXT {FULL}", TOLD),
    "text without the word": (FULL, TOLD),
    "lower case": (f"text {FULL}", TOLD),
    "without the map's name": ("TEXT " + FULL.replace("named_metrics.", ""), TOLD),
    "JSON of vLLM": (f"JSON {VLLM}", LoadReport(5.0, 8, 2, 0.25, None, 4000, told=True)),
    "JSON without the word": (VLLM, LoadReport(5.0, 8, 2, 0.25, None, 4000, told=True)),
    "others too": (f"TEXT cpu_utilization=0.3, {FULL}, eps=1", TOLD),
    "nothing that counts": ("TEXT cpu_utilization=0.3", None),
    "no numbers": ("TEXT num_requests_waiting=nan, num_requests_running=-", None),
    "negative": (FULL.replace("waiting=2", "waiting=-2"), None),
    "more than full": (
        FULL.replace("perc=0.25", "perc=7"),
        msgspec.structs.replace(TOLD, kv_usage=1.0),
    ),
    "no JSON": ("JSON {", None),
    "of odd types": ('JSON {"named_metrics":[1]}', None),
    "binary": ("BIN CYGAAQ==", None),
    "empty": ("", None),
}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n%bserver: x\r\n\r\n"


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("spelling", ["endpoint-load-metrics", "Endpoint-Load-Metrics"])
def test_values(name: str, spelling: str) -> None:
    value, expected = VALUES[name]
    raw = HEAD % f"{spelling}: {value}\r\n".encode()
    assert heard(raw, KNOWN, 5.0) == (HEAD % b"", expected)


def test_what_is_not_told_and_not_known_is_not_made_up() -> None:
    raw = HEAD % f"endpoint-load-metrics: {VLLM}\r\n".encode()
    assert heard(raw, None, 5.0)[1] is None


@pytest.mark.parametrize(
    "line",
    [b"", b"x-endpoint-load-metrics: 1\r\n", b"endpoint-load-metrics: a\nb: c\r\n"],
    ids=["none", "another", "two in one"],
)
def test_heads_that_are_left_alone(line: bytes) -> None:
    raw = HEAD % line
    rest, report = heard(raw, KNOWN, 5.0)
    assert rest is raw
    assert report is None


@given(st.binary(max_size=80).filter(lambda value: b"\r\n" not in value))
def test_any_bytes(value: bytes) -> None:
    raw = HEAD % (b"endpoint-load-metrics:" + value + b"\r\n")
    rest, report = heard(raw, KNOWN, 5.0)
    assert rest in (raw, HEAD % b"")
    assert report is None or report.at == 5.0


# --- over sockets ---------------------------------------------------------------------------------


def telling(line: str) -> Script:
    async def script(connection: EngineConnection) -> None:
        while True:
            await connection.request()
            await connection.send(whole(headers=line))

    return script


def load(rig: Rig) -> LoadReport | None:
    [host] = rig.fleet.hosts.values()
    return host.load


async def test_a_load_is_asked_for_and_taken_out(rig: Rig) -> None:
    rig.asks_load = True
    await rig.start(telling(f"endpoint-load-metrics: TEXT {FULL}\r\n"))
    response_head._heads.clear()
    response_head._without_digits.clear()
    for _ in range(2):
        status, headers, _ = await rig.post()
        assert status == 200
        assert "endpoint-load-metrics" not in headers
    [(first, _), _] = rig.engines[0].seen
    assert first.count(b"\r\nendpoint-load-metrics-format: TEXT\r\n") == 1
    told = load(rig)
    assert told is not None
    assert (told.running, told.waiting, told.kv_usage, told.queued_prefill) == (3, 2, 0.25, 70)
    assert len(response_head._heads) == 1, "one head, whatever the load"


async def test_a_client_that_asks_gets_it_in_its_own_form(rig: Rig) -> None:
    rig.asks_load = True
    line = f"JSON {VLLM}"
    await rig.start(telling(f"endpoint-load-metrics: {line}\r\n"))
    rig.fleet.set_load(next(iter(rig.fleet.hosts)), KNOWN)
    _, headers, _ = await rig.post(endpoint_load_metrics_format="JSON")
    assert headers["endpoint-load-metrics"] == line
    [(head, _)] = rig.engines[0].seen
    assert head.count(b"endpoint-load-metrics-format: JSON\r\n") == 1
    assert b"TEXT" not in head
    told = load(rig)
    assert told is not None
    assert (told.running, told.waiting) == (8, 2)


async def test_nothing_is_asked_or_taken_out_by_default(rig: Rig) -> None:
    line = f"TEXT {FULL}"
    await rig.start(telling(f"endpoint-load-metrics: {line}\r\n"))
    _, headers, _ = await rig.post()
    assert headers["endpoint-load-metrics"] == line
    [(head, _)] = rig.engines[0].seen
    assert b"endpoint-load-metrics-format" not in head
    assert load(rig) is None


async def test_beside_credentials_and_edits(rig: Rig) -> None:
    rig.asks_load = True
    rig.credential = b"authorization: Bearer engine"
    await rig.start(telling(""))
    await rig.post(Authorization="Bearer client")
    [(head, _)] = rig.engines[0].seen
    assert head.count(b"endpoint-load-metrics-format: TEXT\r\n") == 1
    assert head.lower().count(b"authorization") == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_the_emulated_engine_tells(rig: Rig, stream: bool) -> None:
    rig.asks_load = True
    async with Emulator(EmulatorConfig(models=("m",))) as engine:
        await rig.start(engine.port)
        client = await rig.client()
        body = {"model": "m", "max_tokens": 3, "stream": stream, "messages": []}
        body["messages"] = [{"role": "user", "content": "hi"}]
        await client.send(chat(json.dumps(body).encode()))
        status, headers, _ = await client.response()
        assert (status, "endpoint-load-metrics" in headers) == (200, False)
        told = load(rig)
        assert told is not None and told.told
        assert told.kv_usage is not None and told.queued_prefill is not None


def test_an_answer_counts_until_a_later_page_or_for_a_while(world: "Loads") -> None:
    told = LoadReport(10.0, 1, 1, told=True)
    world.page(LoadReport(9.0, 5, 5, capacity=77))
    world.answer(told)
    assert world() == told
    world.page(None)
    assert world() == told
    world.page(LoadReport(9.5, 5, 5, capacity=77))
    assert world() == msgspec.structs.replace(told, capacity=77)
    world.forget(10.0 + TOLD_FOR)
    assert world() is not None
    world.forget(10.1 + TOLD_FOR)
    assert world() is None
    world.answer(told)
    world.page(page := LoadReport(11.0, 6, 6))
    assert world() == page
    world.forget(1000.0)
    assert world() == page, "control says when a page is too old"


class Loads:
    """One endpoint in a fleet."""

    def __init__(self, rig: Rig) -> None:
        self.fleet = rig.fleet
        [self.id] = rig.fleet.hosts

    def __call__(self) -> LoadReport | None:
        return self.fleet.hosts[self.id].load

    def page(self, load: LoadReport | None) -> None:
        self.fleet.set_load(self.id, load)

    def answer(self, load: LoadReport) -> None:
        self.fleet.hear_load(self.id, load)
        self.fleet.hear_load(EndpointId("c/gone:1"), load)

    def forget(self, now: float) -> None:
        self.fleet.look(now)


@pytest.fixture
async def world(rig: Rig) -> Loads:
    await rig.start(telling(""))
    return Loads(rig)


def test_heads_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_header, "MAX_REMEMBERED", 4)
    for number in range(12):
        head = parse_request(f"GET /{number} HTTP/1.1\r\nhost: x\r\n\r\n".encode(), 9)
        assert b"load-metrics" in load_header.asking(head).front
        assert len(load_header._asking) <= 4

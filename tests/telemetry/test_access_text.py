"""Records as lines of Envoy's formats, and which records get a line at all."""

import dataclasses
import random
from typing import Any

import msgspec
import pytest

from router.config.accesslog import AccessLog, AlwaysLogged, LogFormat
from router.config.log_format import ENVOY, parse
from router.config.units import Duration, Percent
from router.telemetry.access_text import line_writer, start_time
from router.telemetry.accesslog import AccessRing, readable
from router.telemetry.log_filter import filtered
from router.telemetry.record import ExchangeRecord


def record(**changes: Any) -> ExchangeRecord:
    plain = ExchangeRecord(
        request_id="r-1",
        method="POST",
        path="/v1/chat/completions",
        client="10.0.0.7",
        route="all",
        cluster="llama",
        endpoint="llama/10.0.0.1:8000#uid-1",
        model="m",
        stream=True,
        status=200,
        flag="-",
        reason="fewest requests",
        attempts=1,
        started_at=1_700_000_000.123456,
        duration=1.2345,
        queued=0.0,
        first_byte=0.2,
        ttft=0.25,
        bytes_in=120,
        bytes_out=4096,
        chunks=9,
    )
    return dataclasses.replace(plain, **changes)


def line(text: str, **changes: Any) -> str:
    """What the log holds of a record that went the whole way."""
    ring = AccessRing()
    ring.append(record(**changes))
    return readable(ring.take(), line_writer(parse(text))).decode().removesuffix("\n")


def test_envoys_default_line() -> None:
    kept = {"REQ:user-agent": "curl/8", "REQ:x-request-id": "r-1", "REQ::authority": "api:8080"}
    assert line(ENVOY, fields=kept) == (
        '[2023-11-14T22:13:20.123Z] "POST /v1/chat/completions HTTP/1.1" 200 - 120 4096 1234 200 '
        '"-" "curl/8" "r-1" "api:8080" "10.0.0.1:8000"'
    )


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        ("%RESPONSE_CODE% %RESPONSE_FLAGS%", {"status": 503, "flag": "UF,URX"}, "503 UF,URX"),
        ("%REQ(X-A?X-B)%", {"fields": {"REQ:x-b": "b"}}, "b"),
        ("%REQ(X-A?X-B)%", {"fields": {"REQ:x-a": "a", "REQ:x-b": "b"}}, "a"),
        ("%REQ(X-A):3%", {"fields": {"REQ:x-a": "abcdef"}}, "abc"),
        ("%RESP(Server)%", {"fields": {"RESP:server": "vllm"}}, "vllm"),
        ("%RESP(Server)%|%TRACE_ID%", {}, "-|-"),
        ("%TRACE_ID%", {"trace_id": "0af7"}, "0af7"),
        ("%RESPONSE_DURATION% %RESPONSE_TX_DURATION%", {}, "200 1034"),
        ("%RESPONSE_DURATION%", {"first_byte": None}, "-"),
        ("%UPSTREAM_HOST% %UPSTREAM_CLUSTER%", {"endpoint": "-", "cluster": "-"}, "- -"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT% %ROUTE_NAME%", {"attempts": 3}, "3 all"),
        ("%PROTOCOL% 5%%", {"protocol": "HTTP/1.0"}, "HTTP/1.0 5%"),
        ("%RECORD(stream)% %RECORD(ttft)% %RECORD(prompt_tokens)%", {}, "true 0.25 -"),
        ("%RECORD(model)%", {"model": "m\nGET /forged \x1b[31m\u2028"}, "m?GET /forged ?[31m?"),
    ],
)
def test_operators(text: str, changes: dict[str, Any], expected: str) -> None:
    assert line(text, **changes) == expected


@pytest.mark.parametrize(
    ("format_", "expected"),
    [
        ("", "2023-11-14T22:13:20.123Z"),
        ("%s.%3f", "1700000000.123"),
        ("%Y/%m/%d %H:%M:%S.%6f", "2023/11/14 22:13:20.123456"),
        ("%f", "123456000"),
    ],
)
def test_times(format_: str, expected: str) -> None:
    assert start_time(format_, 1_700_000_000.123456) == expected


def test_json_leaves_out_what_was_not_asked_for() -> None:
    ring = AccessRing()
    ring.append(record(trace_id="0af7", tenant="a"))
    told = msgspec.json.decode(readable(ring.take()))
    assert (told["trace_id"], told["tenant"], told["status"]) == ("0af7", "a", 200)
    assert "fields" not in told


def test_without_a_filter_the_log_is_called_itself() -> None:
    taken: list[ExchangeRecord] = []
    assert filtered(taken.append, AccessLog(), random.Random(1)) == taken.append


def test_a_share_is_drawn_and_what_went_wrong_is_always_there() -> None:
    taken: list[ExchangeRecord] = []
    settings = AccessLog(
        sample=Percent(10), always=AlwaysLogged(status=500, slower_than=Duration(5))
    )
    offer = filtered(taken.append, settings, random.Random(3))
    for _ in range(1000):
        offer(record())
    assert 70 < len(taken) < 130
    taken.clear()
    for changes in ({"status": 503}, {"duration": 6.0}):
        offer(record(**changes))
    assert len(taken) == 2


def test_nothing_but_what_went_wrong() -> None:
    taken: list[ExchangeRecord] = []
    settings = AccessLog(sample=Percent(0), always=AlwaysLogged(status=400))
    offer = filtered(taken.append, settings, random.Random(3))
    for status in (200, 399, 400, 503):
        offer(record(status=status))
    assert [one.status for one in taken] == [400, 503]


def test_formats_by_name() -> None:
    assert LogFormat(kind="json").pieces() == ()
    assert LogFormat(kind="envoy").pieces() == parse(ENVOY)
    assert LogFormat(text="%DURATION%").pieces() == parse("%DURATION%")

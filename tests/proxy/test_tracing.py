"""Trace contexts through the proxy: kept, taken away, made, and known to the log."""

import pytest

from router.config.accesslog import AccessLog, LogFormat, TraceContext
from router.core.retry.policy import RetryPolicy
from router.proxy.log_fields import fields_for
from router.proxy.tracing import Tracing, trace_id
from tests.proxy.rig import EngineConnection, Rig, parse_headers, whole

ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{ID}-b7ad6b7169203331-01"
STATE = "rojo=00f067aa0ba902b7, congo=t61"
CONTEXT = {"traceparent": PARENT, "tracestate": STATE}


class Seen:
    """Engines that keep the heads they were sent."""

    def __init__(self) -> None:
        self.heads: list[dict[str, str]] = []

    async def __call__(self, connection: EngineConnection) -> None:
        self.heads.append(parse_headers((await connection.request())[0]))
        await connection.send(whole(headers="Server: vllm\r\n"))


async def logged(rig: Rig) -> str | None:
    await rig.settled()
    return rig.recorder.records[-1].trace_id


async def test_a_context_is_passed_on_and_logged(rig: Rig) -> None:
    seen = Seen()
    await rig.start(seen)
    await rig.post(**CONTEXT)
    assert {name: seen.heads[0][name] for name in CONTEXT} == CONTEXT
    assert await logged(rig) == ID


async def test_none_is_made_unless_configured(rig: Rig) -> None:
    seen = Seen()
    await rig.start(seen)
    await rig.post()
    assert "traceparent" not in seen.heads[0]
    assert await logged(rig) is None


@pytest.mark.parametrize(("generate", "flags"), [("unsampled", "00"), ("sampled", "01")])
async def test_one_is_made_where_there_is_none(rig: Rig, generate: str, flags: str) -> None:
    seen = Seen()
    await rig.start(seen)
    rig.server.tracing = Tracing(TraceContext(generate=generate))  # type: ignore[arg-type]
    status, _, _ = await rig.post()
    assert status == 200
    version, id_, parent, sampled = seen.heads[0]["traceparent"].split("-")
    assert (version, len(id_), len(parent), sampled) == ("00", 32, 16, flags)
    assert await logged(rig) == id_
    await rig.post(**CONTEXT)
    assert seen.heads[1]["traceparent"] == PARENT, "the client's is kept"


async def test_every_attempt_carries_the_same(rig: Rig) -> None:
    parents: list[str] = []

    async def fails(connection: EngineConnection) -> None:
        parents.append(parse_headers((await connection.request())[0])["traceparent"])
        connection.reset()

    rig.retry = RetryPolicy(attempts=1)
    await rig.start(fails, fails)
    rig.server.tracing = Tracing(TraceContext(generate="sampled"))
    await rig.post()
    assert len(parents) == 2 and parents[0] == parents[1]


async def test_it_may_end_here(rig: Rig) -> None:
    seen = Seen()
    await rig.start(seen)
    rig.server.tracing = Tracing(TraceContext(propagate=False))
    status, _, _ = await rig.post(**CONTEXT)
    assert status == 200
    assert not CONTEXT.keys() & seen.heads[0].keys()
    assert await logged(rig) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (PARENT, ID),
        (PARENT.replace("00-", "cc-", 1) + "-later", ID),
        (PARENT.replace("00-", "ff-", 1), None),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", None),
        (PARENT.upper(), None),
        ("nonsense", None),
    ],
)
def test_ids_of_valid_contexts_only(given: str, expected: str | None) -> None:
    assert trace_id(given.encode()) == expected


async def test_the_log_keeps_the_headers_that_its_format_names(rig: Rig) -> None:
    await rig.start(Seen())
    text = "%REQ(User-Agent)% %REQ(:AUTHORITY)% %REQ(X-None)% %RESP(Server)% %REQ(X-Long)%"
    rig.server.log_fields = fields_for(AccessLog(format=LogFormat(text=text)))
    await rig.post(user_agent="curl/8", x_long="x" * 5000)
    await rig.settled()
    assert rig.recorder.records[0].fields == {
        "REQ:user-agent": "curl/8",
        "REQ::authority": "proxy",
        "RESP:server": "vllm",
        "REQ:x-long": "x" * 1024,
    }
    assert fields_for(AccessLog()) is None

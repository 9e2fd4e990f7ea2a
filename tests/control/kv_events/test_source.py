"""Where an engine publishes: always at its own host, at the port that is configured or told."""

from typing import Any

import msgspec
import pytest

from router.control.engine_client import EngineUnreachable
from router.control.kv_events.source import NoSource, Source, find
from router.core.cluster import KvEvents
from router.core.model import Endpoint, EndpointId


def endpoint(host: str = "10.0.0.7") -> Endpoint:
    return Endpoint(id=EndpointId(f"c/{host}:8000"), cluster="c", host=host, port=8000)


class Client:
    """Answers as told."""

    def __init__(self, status: int, body: Any) -> None:
        self._status = status
        self._body = body

    async def get(self, endpoint: Endpoint, path: str, timeout: float) -> tuple[int, bytes]:
        assert path == "/kv_event_sources"
        if self._status == 0:
            raise EngineUnreachable("no answer within 2s")
        body = self._body
        return self._status, body if isinstance(body, bytes) else msgspec.json.encode(body)


async def asked(told: Any, status: int = 200, host: str = "10.0.0.7") -> Source:
    return await find(Client(status, told), endpoint(host), KvEvents())  # type: ignore[arg-type]


async def test_configured_ports_need_no_answer() -> None:
    client = Client(500, b"")
    settings = KvEvents(5557, 5558, "kv")
    found = await find(client, endpoint(), settings)  # type: ignore[arg-type]
    assert found == Source("tcp://10.0.0.7:5557", "tcp://10.0.0.7:5558", b"kv")
    found = await find(client, endpoint("fe80::1"), KvEvents(5557))  # type: ignore[arg-type]
    assert found == Source("tcp://[fe80::1]:5557", None, b"")


@pytest.mark.parametrize("told", ["*", "0.0.0.0", "[::]", "10.0.0.7", "node-7.internal"])
async def test_the_host_is_the_endpoints_own(told: str) -> None:
    found = await asked([{"endpoint": f"tcp://{told}:5557", "data_parallel_rank": 2}])
    assert found == Source("tcp://10.0.0.7:5557", None, b"")


async def test_all_that_is_told_is_taken() -> None:
    told = {"endpoint": "tcp://*:1", "replay_endpoint": "tcp://*:2", "topic": "t", "later": 1}
    assert await asked([told]) == Source("tcp://10.0.0.7:1", "tcp://10.0.0.7:2", b"t")


SOURCE = {"endpoint": "tcp://*:5557"}
REFUSED: dict[str, tuple[Any, int, str]] = {
    "off": ([], 200, "publishes no KV events"),
    "an old engine": (b"", 404, "answered 404"),
    "down": (b"", 0, "no answer within 2s"),
    "no JSON": (b"<html>", 200, "GET /kv_event_sources: "),
    "something else": ({"endpoint": 1}, 200, "GET /kv_event_sources: "),
    "several ranks": ([SOURCE, SOURCE], 200, "the engine has 2 caches, one for each"),
    "a path": ([{"endpoint": "ipc:///tmp/kv"}], 200, "'ipc:///tmp/kv', which is no tcp"),
    "no port": ([{"endpoint": "tcp://*:0"}], 200, "which is no tcp://HOST:PORT"),
    "a replay elsewhere": (
        [SOURCE | {"replay_endpoint": "inproc://x"}],
        200,
        "'inproc://x', which is no tcp",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(name: str) -> None:
    told, status, message = REFUSED[name]
    with pytest.raises(NoSource, match=message.replace("?", ".")):
        await asked(told, status)

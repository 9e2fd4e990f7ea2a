"""Where an engine publishes its KV events: as configured, or as it says itself."""

import re
from typing import Annotated, Final

import msgspec

from router.control.engine_client import EngineClient, EngineUnreachable
from router.core.cluster import KvEvents
from router.core.model import Endpoint

PATH: Final = "/kv_event_sources"
TIMEOUT: Final = 2.0

_TCP: Final = re.compile(r"tcp://(?:[^:/\s]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})")


class NoSource(Exception):
    """An engine cannot be listened to; the message is one line for an operator."""


class Source(msgspec.Struct, frozen=True):
    """``replay`` None: what was missed cannot be had again."""

    subscribe: str
    replay: str | None
    topic: bytes


class _Told(msgspec.Struct):
    endpoint: str
    replay_endpoint: str | None = None
    topic: Annotated[str, msgspec.Meta(max_length=255)] = ""


_read: Final = msgspec.json.Decoder(list[_Told]).decode


async def find(client: EngineClient, endpoint: Endpoint, settings: KvEvents) -> Source:
    """Raises NoSource."""
    if settings.port is not None:
        replay = settings.replay_port
        return Source(
            _at(endpoint, settings.port),
            None if replay is None else _at(endpoint, replay),
            settings.topic.encode(),
        )
    try:
        status, body = await client.get(endpoint, PATH, TIMEOUT)
    except EngineUnreachable as error:
        raise NoSource(f"GET {PATH}: {error}") from None
    if status != 200:
        raise NoSource(f"GET {PATH} answered {status}")
    try:
        told = _read(body)
    except msgspec.DecodeError as error:
        raise NoSource(f"GET {PATH}: {error}") from None
    if not told:
        raise NoSource("the engine publishes no KV events")
    if len(told) > 1:
        raise NoSource(
            f"the engine has {len(told)} caches, one for each data-parallel rank, and nothing "
            "tells which of them a prompt meets: make each rank an endpoint of its own"
        )
    (one,) = told
    replay_at = None if one.replay_endpoint is None else _port(one.replay_endpoint)
    return Source(
        _at(endpoint, _port(one.endpoint)),
        None if replay_at is None else _at(endpoint, replay_at),
        one.topic.encode(),
    )


def _port(told: str) -> int:
    """Of where an engine says that it publishes; the host is always the endpoint's own."""
    found = _TCP.fullmatch(told)
    if found is None or not 0 < int(found[1]) <= 65535:
        raise NoSource(f"it publishes at {told[:100]!r}, which is no tcp://HOST:PORT")
    return int(found[1])


def _at(endpoint: Endpoint, port: int) -> str:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"tcp://{host}:{port}"

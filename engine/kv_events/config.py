"""`--kv-events-config`: vLLM's JSON object with vLLM's field names, read strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

import msgspec

_Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class KvEventsError(ValueError):
    """A setting that cannot be honoured; the message names the field."""


class KvEventsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether and where KV events are published.

    Args:
        enable_kv_cache_events: publish at all.
        publisher: "zmq", or "null" for none; left out it is "zmq" where events are enabled.
        endpoint: where the PUB socket is bound; port 0 picks a free one.
        replay_endpoint: where the ROUTER socket for missed batches is bound; None: no replay.
        buffer_steps: batches kept for replay; their bytes are bounded too, see `publisher`.
        hwm: batches that may wait for one slow subscriber; beyond it that one loses batches.
            vLLM's default of 100,000 could hold gigabytes, and nothing older than
            `buffer_steps` could be replayed to close such a gap anyhow.
        max_queue_size: batches that may wait to be encoded; beyond it batches are lost.
        topic: first frame of every batch.
    """

    enable_kv_cache_events: bool = False
    publisher: str | None = None
    endpoint: str = "tcp://*:5557"
    replay_endpoint: str | None = None
    buffer_steps: _Count = 10_000
    hwm: _Count = 10_000
    max_queue_size: _Count = 10_000
    topic: Annotated[str, msgspec.Meta(max_length=255)] = ""

    def __post_init__(self) -> None:
        if self.publisher not in (None, "null", "zmq"):
            raise KvEventsError(f'publisher must be "null" or "zmq", got {self.publisher!r}')
        _check_endpoint("endpoint", self.endpoint)
        if self.replay_endpoint is not None:
            _check_endpoint("replay_endpoint", self.replay_endpoint)

    @property
    def enabled(self) -> bool:
        """Whether anything is to be published."""
        return self.enable_kv_cache_events and self.publisher != "null"

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> Self:
        """Read a decoded JSON object; raises KvEventsError."""
        try:
            return msgspec.convert(given, cls)
        except msgspec.ValidationError as error:
            # What __post_init__ raises arrives wrapped, with the message as it was.
            raise KvEventsError(str(error)) from None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read JSON text; raises KvEventsError."""
        try:
            given = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise KvEventsError(f"not valid JSON: {error}") from None
        if not isinstance(given, dict):
            raise KvEventsError("must be a JSON object")
        return cls.from_mapping(given)


def _check_endpoint(name: str, value: str) -> None:
    if re.fullmatch(r"ipc://.+", value):
        return
    match = re.fullmatch(r"tcp://(?:[^:/\s]+|\[[0-9a-fA-F:]+\]):(\d{1,5})", value)
    if match is None or int(match[1]) > 65535:
        raise KvEventsError(f"{name} must be tcp://HOST:PORT or ipc://PATH, got {value!r}")

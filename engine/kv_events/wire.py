"""From events to the payload of a batch, and a prompt's place in the chain as a header.

A batch is an array in every version of vLLM.  The events inside are maps with a `type` field in
recent ones, and arrays that begin with the type in those until early 2026.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from engine.kv_events.events import BlockRemoved, BlockStored, Event

TIP_HEADER: Final = "x-kv-prefix-tip"

RANK: Final = 0
"""Data-parallel rank: one process is one engine."""


def _plain(value: object) -> list[int]:
    if isinstance(value, array):
        return value.tolist()
    raise TypeError(f"cannot encode {type(value).__name__}")


_encode: Final = msgspec.msgpack.Encoder(enc_hook=_plain).encode


def as_maps(time: float, events: Sequence[Event]) -> bytes:
    """A batch whose events are maps; `time` in seconds since 1970."""
    return _encode((time, events, RANK))


def as_arrays(time: float, events: Sequence[Event]) -> bytes:
    """A batch whose events are arrays."""
    return _encode((time, [_positional(event) for event in events], RANK))


ENCODINGS: Final[Mapping[str, Callable[[float, Sequence[Event]], bytes]]] = {
    "map": as_maps,
    "array": as_arrays,
}


def short_name(digest: bytes) -> int:
    """The name by which events call a block with this hash: its last 64 bits, as vLLM has it."""
    return int.from_bytes(digest[-8:], "big")


def prefix_tip(name: int | None, blocks: int) -> str:
    """Value of `x-kv-prefix-tip` for a prompt of so many full blocks, the last one called `name`.

    The name in 16 hexadecimal digits, or `-` where the prompt fills no block.
    """
    return f"{'-' if name is None else format(name, '016x')}:{blocks}"


def _positional(event: Event) -> list[Any]:
    kind = type(event).__name__
    if isinstance(event, BlockStored):
        fields = [
            *(event.block_hashes, event.parent_block_hash, event.token_ids, event.block_size),
            *(event.lora_id, event.medium, event.lora_name),
        ]
        return [kind, *fields] if event.extra_keys is None else [kind, *fields, event.extra_keys]
    if isinstance(event, BlockRemoved):
        return [kind, event.block_hashes, event.medium]
    return [kind]

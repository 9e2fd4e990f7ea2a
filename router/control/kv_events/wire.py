"""Batches of KV events as they come over the wire.

A batch is an array: time, events, data-parallel rank. An event is a map with its name under
``type``, or in older engines an array that begins with it. Its tokens, which are most of its bytes,
are passed over. Blocks are called by numbers of 64 bits, or by digests of which the last 64 count.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec

from router.core.engine_cache.blocks import DEVICE, HOST
from router.core.engine_cache.cache import EngineCache

Block = int | bytes
Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
_WORD: Final = (1 << 64) - 1
_NO_TOKENS: Final = 0x90  # an array of none
_ARRAYS: Final = range(0x90, 0xA0), range(0xDC, 0xDE)


class Unreadable(ValueError):
    """What came is no batch of events; the message is one line for an operator."""


class _Stored(msgspec.Struct, tag="BlockStored", gc=False):
    block_hashes: list[Block]
    parent_block_hash: Block | None
    token_ids: msgspec.Raw
    block_size: Size
    medium: str | None = None
    group_idx: int | None = None


class _Removed(msgspec.Struct, tag="BlockRemoved", gc=False):
    block_hashes: list[Block]
    medium: str | None = None
    group_idx: int | None = None


class _Cleared(msgspec.Struct, tag="AllBlocksCleared", gc=False):
    pass


class _StoredArray(msgspec.Struct, tag="BlockStored", array_like=True, gc=False):
    block_hashes: list[Block]
    parent_block_hash: Block | None
    token_ids: msgspec.Raw
    block_size: Size
    lora_id: Any = None
    medium: str | None = None


class _RemovedArray(msgspec.Struct, tag="BlockRemoved", array_like=True, gc=False):
    block_hashes: list[Block]
    medium: str | None = None


class _ClearedArray(msgspec.Struct, tag="AllBlocksCleared", array_like=True, gc=False):
    pass


class _Batch(msgspec.Struct, array_like=True, gc=False):
    time: float
    events: list[msgspec.Raw]
    rank: int | None = None


class _Kind(msgspec.Struct, gc=False):
    type: str


class _KindArray(msgspec.Struct, array_like=True, gc=False):
    type: str


_Event = _Stored | _Removed | _Cleared | _StoredArray | _RemovedArray | _ClearedArray

_batch: Final = msgspec.msgpack.Decoder(_Batch).decode
_map: Final = msgspec.msgpack.Decoder(_Stored | _Removed | _Cleared).decode
_array: Final = msgspec.msgpack.Decoder(_StoredArray | _RemovedArray | _ClearedArray).decode
_kind: Final = msgspec.msgpack.Decoder(_Kind).decode
_kind_array: Final = msgspec.msgpack.Decoder(_KindArray).decode
_NAMES: Final = ("BlockStored", "BlockRemoved", "AllBlocksCleared")


class Batch:
    """What one message told.

    Attributes:
        rank: data-parallel, 0 where it does not say.
    """

    __slots__ = ("_events", "rank")

    def __init__(self, events: list[_Event], rank: int) -> None:
        self._events = events
        self.rank = rank

    def apply(self, cache: EngineCache) -> None:
        """Enter its events in their order."""
        for event in self._events:
            if isinstance(event, _Stored | _StoredArray):
                _store(event, cache)
            elif isinstance(event, _Removed | _RemovedArray):
                cache.remove(_names(event.block_hashes), _tier(event.medium))
            else:
                cache.clear()

    def __repr__(self) -> str:
        return f"<Batch of {len(self._events)} events>"


def read(payload: bytes) -> Batch:
    """Raises Unreadable. Events of other kinds are passed over."""
    try:
        batch = _batch(payload)
        events = [found for raw in batch.events if (found := _read(raw)) is not None]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(str(error)) from None
    return Batch(events, batch.rank or 0)


def _read(raw: msgspec.Raw) -> _Event | None:
    first = memoryview(raw)[0]
    positional = any(first in form for form in _ARRAYS)
    decode: Callable[[msgspec.Raw], _Event] = _array if positional else _map
    try:
        event = decode(raw)
    except msgspec.ValidationError:
        if (_kind_array if positional else _kind)(raw).type in _NAMES:
            raise
        return None
    # A model with several kinds of attention has several groups of blocks under the same names:
    # what a prompt can be found by is the first.
    if isinstance(event, _Stored | _Removed) and event.group_idx:
        return None
    return event


def _store(event: _Stored | _StoredArray, cache: EngineCache) -> None:
    names, tier = _names(event.block_hashes), _tier(event.medium)
    if memoryview(event.token_ids)[0] == _NO_TOKENS:
        cache.copy(names, tier)
        return
    before = event.parent_block_hash
    cache.store(names, None if before is None else _name(before), event.block_size, tier)


def _tier(medium: str | None) -> int:
    return DEVICE if medium is None or medium == "GPU" else HOST


def _names(blocks: list[Block]) -> list[int]:
    return [_name(block) for block in blocks]


def _name(block: Block) -> int:
    return block & _WORD if isinstance(block, int) else int.from_bytes(block[-8:], "big")

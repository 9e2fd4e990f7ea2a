"""A subscriber's picture of a cache, built from nothing but the payloads of batches.

Decodes by itself, so that encoder and decoder cannot share a mistake, and checks what every
consumer relies on: nothing is stored twice or removed twice, parents and tokens fit the names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

FIELDS: Mapping[str, Sequence[str]] = {
    "BlockStored": (
        *("block_hashes", "parent_block_hash", "token_ids", "block_size"),
        *("lora_id", "medium", "lora_name", "extra_keys"),
    ),
    "BlockRemoved": ("block_hashes", "medium"),
    "AllBlocksCleared": (),
}

Name = Callable[[int | None, list[int], tuple[str, ...] | None], int]


def events_of(payload: bytes) -> list[dict[str, Any]]:
    """The events of a batch as maps, whichever way they are encoded."""
    time, events, rank = msgspec.msgpack.decode(payload)
    assert isinstance(time, float)
    assert rank == 0
    return [e if isinstance(e, dict) else positional(e) for e in events]


def positional(event: list[Any]) -> dict[str, Any]:
    kind, *values = event
    return {"type": kind, **dict(zip(FIELDS[kind], values, strict=False))}


class Shadow:
    """What each medium holds; `name` computes a block's name from parent, tokens and extra keys."""

    def __init__(self, name: Name) -> None:
        self.blocks: dict[str, set[int]] = {"GPU": set(), "CPU": set()}
        self._name = name

    def apply(self, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            kind = event["type"]
            if kind == "AllBlocksCleared":
                for held in self.blocks.values():
                    held.clear()
            elif kind == "BlockRemoved":
                for name in event["block_hashes"]:
                    self.blocks[event["medium"]].remove(name)
            else:
                self._store(event)

    def _store(self, event: dict[str, Any]) -> None:
        assert event["type"] == "BlockStored"
        assert (event["lora_id"], event["lora_name"]) == (None, None)
        held, size, tokens = self.blocks[event["medium"]], event["block_size"], event["token_ids"]
        parent = event["parent_block_hash"]
        keys = event.get("extra_keys") or [None] * len(event["block_hashes"])
        assert event["block_hashes"]
        for at, name in enumerate(event["block_hashes"]):
            assert name not in held
            held.add(name)
            if event["medium"] == "GPU":
                extra = None if keys[at] is None else tuple(keys[at])
                assert name == self._name(parent, tokens[at * size : (at + 1) * size], extra)
            parent = name
        assert len(tokens) == (len(event["block_hashes"]) * size if event["medium"] == "GPU" else 0)

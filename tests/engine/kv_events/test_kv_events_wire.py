"""Batches as bytes: both encodings, against literals; and the header of a prompt's tip."""

from __future__ import annotations

from array import array

import msgspec
import pytest

from engine.kv_events import EventLog
from engine.kv_events.events import HOST
from engine.kv_events.wire import as_arrays, as_maps, prefix_tip


def log_of_everything() -> EventLog:
    log = EventLog(2)
    log.stored([10, 11, 12, 13], [0, 2, 3], None, [1, 2, 3, 4, 5, 6, 7, 8], salt="s")
    log.stored([14], [0], 13, array("I", [9, 10]), salt="s")
    log.removed(10)
    log.removed(12)
    log.removed(14, HOST)
    log.cleared()
    return log


def test_maps_are_what_vllm_sends_now() -> None:
    stored = {"type": "BlockStored", "block_size": 2, "lora_id": None, "lora_name": None}
    assert msgspec.msgpack.decode(as_maps(1.5, log_of_everything().take())) == [
        1.5,
        [
            stored
            | {"block_hashes": [10], "parent_block_hash": None, "token_ids": [1, 2]}
            | {"medium": "GPU", "extra_keys": [["s"]]},
            # 11 was there already: the stretch after it begins with it as parent.
            stored
            | {"block_hashes": [12, 13], "parent_block_hash": 11, "token_ids": [5, 6, 7, 8]}
            | {"medium": "GPU"},
            stored
            | {"block_hashes": [14], "parent_block_hash": 13, "token_ids": [9, 10]}
            | {"medium": "GPU"},
            {"type": "BlockRemoved", "block_hashes": [10, 12], "medium": "GPU"},
            {"type": "BlockRemoved", "block_hashes": [14], "medium": "CPU"},
            {"type": "AllBlocksCleared"},
        ],
        0,
    ]


def test_arrays_are_what_older_vllm_sent() -> None:
    assert msgspec.msgpack.decode(as_arrays(1.5, log_of_everything().take())) == [
        1.5,
        [
            ["BlockStored", [10], None, [1, 2], 2, None, "GPU", None, [["s"]]],
            ["BlockStored", [12, 13], 11, [5, 6, 7, 8], 2, None, "GPU", None],
            ["BlockStored", [14], 13, [9, 10], 2, None, "GPU", None],
            ["BlockRemoved", [10, 12], "GPU"],
            ["BlockRemoved", [14], "CPU"],
            ["AllBlocksCleared"],
        ],
        0,
    ]


def test_names_use_all_64_bits() -> None:
    log = EventLog(1)
    log.removed(2**64 - 1)
    _, ((_, names, _),), _ = msgspec.msgpack.decode(as_arrays(0.0, log.take()))
    assert names == [2**64 - 1]


def test_taking_empties_the_log() -> None:
    log = log_of_everything()
    assert repr(log) == "EventLog(6 events)"
    log.take()
    assert log.take() == []


@pytest.mark.parametrize(
    ("name", "blocks", "value"),
    [(0xAB, 3, "00000000000000ab:3"), (2**64 - 1, 512, "ffffffffffffffff:512"), (None, 0, "-:0")],
)
def test_tip(name: int | None, blocks: int, value: str) -> None:
    assert prefix_tip(name, blocks) == value

"""Batches of KV events in both encodings, as our engines and as others write them."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.kv_events.events import AllBlocksCleared, BlockRemoved, BlockStored, EventLog
from engine.kv_events.wire import as_arrays, as_maps
from router.control.kv_events.wire import Unreadable, read
from router.core.engine_cache.cache import EngineCache

encode = msgspec.msgpack.encode
FORMS = {"maps": as_maps, "arrays": as_arrays}


class Log:
    """A cache that remembers what it was told."""

    block_size = 0

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def store(self, blocks: list[int], before: int | None, size: int, tier: int) -> None:
        self.calls.append(("store", blocks, before, size, tier))

    def copy(self, blocks: list[int], tier: int) -> None:
        self.calls.append(("copy", blocks, tier))

    def remove(self, blocks: list[int], tier: int) -> None:
        self.calls.append(("remove", blocks, tier))

    def clear(self) -> None:
        self.calls.append(("clear",))


def calls(payload: bytes) -> list[tuple[Any, ...]]:
    log = Log()
    read(payload).apply(log)  # type: ignore[arg-type]
    return log.calls


@pytest.mark.parametrize("form", FORMS)
def test_what_our_engines_write(form: str) -> None:
    big = (1 << 64) - 1
    log = EventLog(2)
    log.stored([1, 2, big], [0, 2], None, [9] * 6, salt="s")
    log.removed(2)
    log.removed(big)
    log.offloaded([big])
    log.removed(big, "CPU")
    log.cleared()
    assert calls(FORMS[form](1.5, log.take())) == [
        ("store", [1], None, 2, 1),
        ("store", [big], 2, 2, 1),
        ("remove", [2, big], 1),
        ("copy", [big], 2),
        ("remove", [big], 2),
        ("clear",),
    ]


OTHERS: dict[str, tuple[Any, list[tuple[Any, ...]]]] = {
    "no medium, as of 2024": (
        [1.0, [["BlockStored", [7], None, [1, 2], 2, None], ["BlockRemoved", [7]]]],
        [("store", [7], None, 2, 1), ("remove", [7], 1)],
    ),
    "digests": (
        [1, [["BlockStored", [b"\0" * 24 + b"\0\0\0\0\0\0\1\2"], b"\1" * 32, [1], 1, None]], None],
        [("store", [258], int.from_bytes(b"\1" * 8, "big"), 1, 1)],
    ),
    "numbers with a sign": (
        [1.0, [["BlockStored", [-1], -2, [1], 1, None]], 3],
        [("store", [(1 << 64) - 1], (1 << 64) - 2, 1, 1)],
    ),
    "fields that nobody knows": (
        [1.0, [{"type": "BlockRemoved", "block_hashes": [1], "later": {"a": [1]}}], 0, "more"],
        [("remove", [1], 1)],
    ),
    "events that nobody knows": (
        [1.0, [{"type": "BlockMoved", "to": 1}, ["Other", 1], {"type": "AllBlocksCleared"}], 0],
        [("clear",)],
    ),
    "another group of layers": (
        [
            1.0,
            [
                {"type": "BlockRemoved", "block_hashes": [1], "group_idx": 1},
                {"type": "BlockRemoved", "block_hashes": [1], "group_idx": 0},
            ],
            0,
        ],
        [("remove", [1], 1)],
    ),
    "nothing": ([1.0, [], 0], []),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_others_write(name: str) -> None:
    value, expected = OTHERS[name]
    assert calls(encode(value)) == expected


def test_the_rank_is_told() -> None:
    assert read(encode([1.0, [], 3])).rank == 3
    assert read(encode([1.0, []])).rank == 0


UNREADABLE: dict[str, bytes] = {
    "nothing": b"",
    "no array": encode({"events": []}),
    "no events": encode([1.0]),
    "a field of another type": encode([1.0, [["BlockRemoved", "x"]], 0]),
    "a field that is missing": encode([1.0, [{"type": "BlockStored", "block_hashes": [1]}], 0]),
    "an event without a name": encode([1.0, [{"block_hashes": [1]}], 0]),
    "a number for an event": encode([1.0, [5], 0]),
    "cut off": as_maps(1.0, [AllBlocksCleared()])[:-5],
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable(name: str) -> None:
    with pytest.raises(Unreadable):
        read(UNREADABLE[name])


@given(st.binary(max_size=200))
def test_whatever_comes(data: bytes) -> None:
    try:
        read(data).apply(EngineCache(_Nobody(), 100))
    except Unreadable:
        pass


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_byte_that_is_wrong(at: int, value: int) -> None:
    events = [
        BlockStored([5, 6], 4, [1] * 8, 4, None, "GPU", None),
        BlockRemoved([5], "GPU"),
        AllBlocksCleared(),
    ]
    for form in FORMS.values():
        data = bytearray(form(1.0, events))
        data[at % len(data)] = value
        try:
            read(bytes(data)).apply(EngineCache(_Nobody(), 100))
        except Unreadable:
            pass


class _Nobody:
    def tied(self, name: int, held: bool) -> None: ...

    def cleared(self) -> None: ...


def test_token_ids_are_passed_over() -> None:
    """They may be anything: nothing is made of them."""
    strange = ["BlockStored", [1], None, [{"a": b"x"}, [None]], 16, None, "GPU"]
    assert calls(encode([1.0, [strange], 0])) == [("store", [1], None, 16, 1)]
    rng = random.Random(1)
    tokens = [rng.randrange(1 << 17) for _ in range(64)]
    stored = BlockStored(list(range(4)), None, tokens, 16, None, "GPU", None)
    for form in FORMS.values():
        assert calls(form(1.0, [stored])) == [("store", [0, 1, 2, 3], None, 16, 1)]

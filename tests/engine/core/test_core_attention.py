"""The fast CPU attention against the reference, over every layout of the cache."""

import pytest
import torch

from engine.attention import cpu
from engine.attention.base import KVCache, Span, make_cache
from engine.attention.cpu import CpuAttention
from engine.attention.torch_ref import TorchReference
from engine.blocks import BlockTable

SIZE, BLOCKS, DIM = 4, 64, 16
LAYOUTS: dict[str, list[int]] = {
    "one extent": list(range(10, 26)),
    "two extents": [*range(40, 45), *range(3, 14)],
    "reversed": list(range(30, 14, -1)),
    "scattered": [60, 2, 58, 4, 56, 6, 54, 8, 52, 10, 50, 12, 48, 14, 46, 16],
}


def table_of(blocks: list[int]) -> BlockTable:
    table = BlockTable()
    table.extend(blocks)
    return table


def filled(kv_heads: int, dtype: torch.dtype) -> KVCache:
    cache = make_cache(1, kv_heads, BLOCKS * SIZE, DIM, dtype, "cpu")[0]
    torch.manual_seed(0)
    cache.k.normal_()
    cache.v.normal_()
    return cache


def compare(
    shapes: list[tuple[int, int, list[int]]], heads: int, kv_heads: int, dtype: torch.dtype
) -> tuple[float, object]:
    """Largest difference between the backends over spans (context, length, blocks)."""
    spans: list[Span] = []
    slots: list[int] = []
    for context, length, blocks in shapes:
        spans.append(Span(len(slots), length, context, table_of(blocks)))
        slots += [blocks[p // SIZE] * SIZE + p % SIZE for p in range(context, context + length)]
    torch.manual_seed(1)
    qkv = torch.randn(len(slots), heads + 2 * kv_heads, DIM).to(dtype)
    q, k, v = qkv.split([heads, kv_heads, kv_heads], dim=1)
    row_bytes = kv_heads * DIM * dtype.itemsize
    results = []
    plan: object = None
    for backend in (TorchReference(SIZE), CpuAttention(SIZE, row_bytes, dtype)):
        cache = filled(kv_heads, dtype)
        plan = backend.prepare(spans, torch.tensor(slots))
        results.append(backend.attend(q, k, v, cache, plan).float())
        assert torch.equal(cache.k[:, slots].transpose(0, 1), k)
    return float((results[0] - results[1]).abs().max()), plan


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (8, 1)])
@pytest.mark.parametrize(
    ("context", "length"), [(0, 1), (1, 1), (SIZE, 1), (59, 1), (0, 7), (5, 3), (40, 20), (63, 1)]
)
def test_one_sequence(layout: str, heads: int, kv_heads: int, context: int, length: int) -> None:
    shapes = [(context, length, LAYOUTS[layout])]
    assert compare(shapes, heads, kv_heads, torch.float32)[0] < 2e-6
    assert compare(shapes, heads, kv_heads, torch.bfloat16)[0] < 3e-2


@pytest.mark.parametrize("gather_limit", [0, 1 << 20])
def test_decodes_and_prompts_in_one_step(
    gather_limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "GATHER_MAX_BYTES", gather_limit)
    shapes = [
        (9, 1, [1, 2, 3]),
        (30, 1, LAYOUTS["scattered"]),
        (0, 6, [20, 21]),
        (11, 5, [25, 24, 23, 22]),
    ]
    assert compare(shapes, 6, 2, torch.float32)[0] < 2e-6


@pytest.mark.parametrize("tail", [[], [(3, 6, [40, 50, 51])]])
def test_many_short_decodes_are_gathered(tail: list[tuple[int, int, list[int]]]) -> None:
    shapes = [(i, 1, [3 * i, 3 * i + 1, 3 * i + 2]) for i in range(12)]
    difference, plan = compare(shapes + tail, 6, 2, torch.float32)
    assert difference < 2e-6
    assert isinstance(plan, cpu.Plan)
    assert plan.gathered is not None
    assert plan.gathered.rows == 12
    assert len(plan.pieces) == len(tail)


def test_long_contexts_are_read_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the byte limit per sequence, twelve decodes are twelve pieces without a copy."""
    monkeypatch.setattr(cpu, "GATHER_MAX_BYTES", 64)
    shapes = [(8 + i % 3, 1, [3 * i, 3 * i + 1, 3 * i + 2]) for i in range(12)]
    difference, plan = compare(shapes, 6, 2, torch.float32)
    assert difference < 2e-6
    assert isinstance(plan, cpu.Plan)
    assert plan.gathered is None
    assert all(len(piece.extents) == 1 and piece.scattered is None for piece in plan.pieces)

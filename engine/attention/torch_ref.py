"""The reference backend: one plain attention per sequence, on any device."""

from typing import NamedTuple

import torch
from torch import Tensor

from engine.attention.base import KVCache, Span
from kernels import kv_store, paged_attention


class Plan(NamedTuple):
    slots: Tensor
    spans: list[tuple[Span, Tensor]]


class TorchReference:
    """Slow and clear; the oracle of the fast backends, selectable with `torch_ref`."""

    name = "torch_ref"

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size

    def prepare(self, spans: list[Span], slots: Tensor) -> Plan:
        device = slots.device
        return Plan(slots, [(s, torch.tensor(s.table.blocks, device=device)) for s in spans])

    def attend(self, q: Tensor, k: Tensor, v: Tensor, cache: KVCache, plan: Plan) -> Tensor:
        kv_store(k, v, cache.k, cache.v, plan.slots)
        out = torch.empty_like(q)
        for span, blocks in plan.spans:
            rows = slice(span.row, span.row + span.length)
            length = span.context + span.length
            out[rows] = paged_attention(q[rows], *cache, blocks, self.block_size, length)
        return out

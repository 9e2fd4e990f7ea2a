"""What an attention backend is: it turns a step's layout into its own plan, then runs layers.

The rows of a step lie flat, one row a token, grouped by sequence. `prepare` runs once per step,
`attend` once per layer; the latter stores the new keys and values before anything reads them.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from engine.blocks import BlockTable

CACHE_LINE = 64


class Span(NamedTuple):
    """`length` consecutive rows of the step, for positions `context` onward of one sequence."""

    row: int
    length: int
    context: int
    table: BlockTable


class KVCache(NamedTuple):
    """One layer's keys and values, each [KV heads, slots, head_dim]; slot = block * size + i."""

    k: Tensor
    v: Tensor


class AttentionBackend(Protocol):
    """`q` is [T, H, D], `k` and `v` are [T, KV, D]; the result is [T, H, D]."""

    name: str

    def prepare(self, spans: list[Span], slots: Tensor) -> Any:
        """Plan a step over `spans`, whose rows are stored at `slots` [T]."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, cache: KVCache, plan: Any) -> Tensor:
        """Store k and v, then attend causally over every span's context and itself."""


def make_cache(
    layers: int, kv_heads: int, slots: int, head_dim: int, dtype: torch.dtype, device: str
) -> list[KVCache]:
    """Zeroed caches: masked-out positions may be read, and must not hold NaN.

    On a CPU the zeros come from the operating system page by page as they are first touched, so
    a generous cache costs no memory until it is used.
    """
    shape = (kv_heads, slots, head_dim)

    def zeros() -> Tensor:
        if device != "cpu":
            return torch.zeros(shape, dtype=dtype, device=device)
        size = kv_heads * slots * head_dim * dtype.itemsize
        raw = torch.from_numpy(np.zeros(size + CACHE_LINE, dtype=np.uint8))
        start = -raw.data_ptr() % CACHE_LINE
        return raw[start : start + size].view(dtype).view(shape)

    return [KVCache(zeros(), zeros()) for _ in range(layers)]

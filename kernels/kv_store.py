"""Scatter of new keys and values into the paged cache."""

from torch import Tensor


def kv_store(k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slots: Tensor) -> None:
    """Write `k`, `v` [T, KV, D] to positions `slots` [T] (int64) of the caches [KV, slots, D]."""
    k_cache.index_copy_(1, slots, k.transpose(0, 1))
    v_cache.index_copy_(1, slots, v.transpose(0, 1))

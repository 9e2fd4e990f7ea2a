"""Attention of new queries over a sequence's whole paged context, the plain way.

The definition of correctness for every faster backend: gather the context by its block table,
score, mask what lies after the query, softmax in float32, weigh the values.
"""

import torch
from torch import Tensor


def slots_of(blocks: Tensor, block_size: int, length: int) -> Tensor:
    """Cache positions (int64, [length]) of the first `length` tokens held by `blocks` [N]."""
    offsets = torch.arange(block_size, device=blocks.device)
    return (blocks[:, None] * block_size + offsets).flatten()[:length]


def paged_attention(
    q: Tensor, k_cache: Tensor, v_cache: Tensor, blocks: Tensor, block_size: int, length: int
) -> Tensor:
    """Causal grouped-query attention of the last Q of `length` tokens of one sequence.

    `q` is [Q, H, D], the caches are [KV, slots, D] and already hold the new tokens; head h reads
    KV head h // (H // KV). Scores are scaled by 1/sqrt(D). Returns [Q, H, D] in q's dtype.
    """
    queries, heads, dim = q.shape
    kv_heads = k_cache.shape[0]
    slots = slots_of(blocks, block_size, length)
    k = k_cache.index_select(1, slots).float()
    v = v_cache.index_select(1, slots).float()
    grouped = q.float().view(queries, kv_heads, heads // kv_heads, dim).permute(1, 2, 0, 3)
    scores = torch.einsum("kgqd,ksd->kgqs", grouped, k) * dim**-0.5
    ahead = torch.ones(queries, length, dtype=torch.bool, device=q.device)
    scores.masked_fill_(ahead.triu(length - queries + 1), float("-inf"))
    out = torch.einsum("kgqs,ksd->kgqd", scores.softmax(-1), v)
    return out.permute(2, 0, 1, 3).reshape(queries, heads, dim).to(q.dtype)

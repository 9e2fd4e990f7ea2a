"""Attention over the head-major cache on a CPU, without copying long contexts.

A sequence's context is a few contiguous extents of the cache. One query row per sequence
(decode) runs torch's flash kernel straight on each extent, the heads of a group stacked as query
rows, and merges the parts by their log-sum-exp. A prompt chunk attends to itself on the fresh
keys and values (causal) and to the cached extents before it (unmasked), merged the same way.
Only where that costs more than a copy, the context is gathered: short decodes go through one
batched call, and a sequence scattered over many extents is first made contiguous.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.attention.base import KVCache, Span
from kernels import kv_store

GATHER_MAX_BYTES = 256 * 1024
"""Decodes whose longest context is at most this many bytes of one layer's keys and values go
through one gathered call. Whole blocks copy fast, and the fixed cost of a call for each sequence
outweighs the copy; beyond it, reading in place wins and copies would also leave the caches."""

MAX_EXTENTS = 6
"""Past this many extents a copy into one is cheaper than a call and a merge for each."""

Extent = tuple[int, int]


class Gathered(NamedTuple):
    """The first `rows` of the step, decodes done in one call.

    `blocks` [rows * N] is every sequence's table padded to N with block 0; `mask`
    [rows, 1, 1, N * block size] is minus infinity past each sequence's end.
    """

    rows: int
    blocks: Tensor
    mask: Tensor


class Piece(NamedTuple):
    """One span and where its cached context lies: extents, or slots to gather when scattered."""

    rows: slice
    decode: bool
    extents: list[Extent]
    scattered: Tensor | None


class Plan(NamedTuple):
    slots: Tensor
    gathered: Gathered | None
    pieces: list[Piece]


class CpuAttention:
    """Flash attention on cache extents in place; `kv_row_bytes` is one token's k of one layer."""

    name = "cpu"

    def __init__(self, block_size: int, kv_row_bytes: int, dtype: torch.dtype) -> None:
        self.block_size = block_size
        self.kv_row_bytes = kv_row_bytes
        self.dtype = dtype

    def prepare(self, spans: list[Span], slots: Tensor) -> Plan:
        decodes = 0
        longest = 0
        while decodes < len(spans) and spans[decodes].length == 1:
            longest = max(longest, spans[decodes].context + 1)
            decodes += 1
        if decodes > 1 and longest * self.kv_row_bytes * 2 <= GATHER_MAX_BYTES:
            pieces = [self._piece(span) for span in spans[decodes:]]
            return Plan(slots, self._gather(spans[:decodes]), pieces)
        return Plan(slots, None, [self._piece(span) for span in spans])

    def attend(self, q: Tensor, k: Tensor, v: Tensor, cache: KVCache, plan: Plan) -> Tensor:
        kv_store(k, v, cache.k, cache.v, plan.slots)
        gathered = plan.gathered
        if gathered is not None and not plan.pieces:
            return self._attend_gathered(q, cache, gathered)
        if gathered is None and len(plan.pieces) == 1:
            return _attend_piece(q, k, v, cache, plan.pieces[0])
        out = torch.empty_like(q)
        if gathered is not None:
            out[: gathered.rows] = self._attend_gathered(q[: gathered.rows], cache, gathered)
        for piece in plan.pieces:
            rows = piece.rows
            out[rows] = _attend_piece(q[rows], k[rows], v[rows], cache, piece)
        return out

    def _piece(self, span: Span) -> Piece:
        decode = span.length == 1
        length = span.context + 1 if decode else span.context
        rows = slice(span.row, span.row + span.length)
        size = self.block_size
        extents: list[Extent] = []
        for first, count in span.table.extents:
            if length <= 0:
                break
            taken = min(count * size, length)
            extents.append((first * size, first * size + taken))
            length -= taken
        if len(extents) <= MAX_EXTENTS:
            return Piece(rows, decode, extents, None)
        slots = torch.cat([torch.arange(start, end) for start, end in extents])
        return Piece(rows, decode, [], slots)

    def _gather(self, spans: list[Span]) -> Gathered:
        size = self.block_size
        lengths = [span.context + 1 for span in spans]
        width = max(-(-length // size) for length in lengths)
        blocks = [(span.table.blocks + [0] * width)[:width] for span in spans]
        beyond = torch.arange(width * size) >= torch.tensor(lengths)[:, None]
        mask = torch.zeros(len(spans), 1, 1, width * size, dtype=self.dtype)
        mask.masked_fill_(beyond[:, None, None], float("-inf"))
        return Gathered(len(spans), torch.tensor(blocks).flatten(), mask)

    def _attend_gathered(self, q: Tensor, cache: KVCache, gathered: Gathered) -> Tensor:
        batch, heads, dim = q.shape
        kv_heads = cache.k.shape[0]

        def gather(x: Tensor) -> Tensor:
            whole = x.view(kv_heads, -1, self.block_size * dim).index_select(1, gathered.blocks)
            return whole.view(kv_heads, batch, -1, dim).transpose(0, 1)

        out = F.scaled_dot_product_attention(
            q.view(batch, kv_heads, heads // kv_heads, dim),
            gather(cache.k),
            gather(cache.v),
            attn_mask=gathered.mask,
        )
        return out.reshape(batch, heads, dim)


def _flash(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> tuple[Tensor, Tensor]:
    result: tuple[Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, causal
    )
    return result


def _attend_piece(q: Tensor, k: Tensor, v: Tensor, cache: KVCache, piece: Piece) -> Tensor:
    if piece.scattered is not None:
        cached = [
            (cache.k.index_select(1, piece.scattered), cache.v.index_select(1, piece.scattered))
        ]
    else:
        cached = [(cache.k[:, start:end], cache.v[:, start:end]) for start, end in piece.extents]
    if piece.decode:
        return _decode(q, cached)
    return _chunk(q, k, v, cached)


def _decode(q: Tensor, cached: list[tuple[Tensor, Tensor]]) -> Tensor:
    _, heads, dim = q.shape
    kv_heads = cached[0][0].shape[0]
    grouped = q.view(1, kv_heads, heads // kv_heads, dim)
    parts = [_flash(grouped, k[None], v[None], causal=False) for k, v in cached]
    return _merge(parts).reshape(1, heads, dim)


def _chunk(q: Tensor, k: Tensor, v: Tensor, cached: list[tuple[Tensor, Tensor]]) -> Tensor:
    """KV heads as the batch axis; a group's heads read one KV head through a stride of zero."""
    rows, heads, dim = q.shape
    kv_heads = k.shape[1]
    group = heads // kv_heads
    grouped = q.view(rows, kv_heads, group, dim).permute(1, 2, 0, 3)
    fresh = (_spread(k.transpose(0, 1), group), _spread(v.transpose(0, 1), group))
    parts = [_flash(grouped, *fresh, causal=True)]
    for part_k, part_v in cached:
        parts.append(_flash(grouped, _spread(part_k, group), _spread(part_v, group), causal=False))
    return _merge(parts).permute(2, 0, 1, 3).reshape(rows, heads, dim)


def _spread(x: Tensor, group: int) -> Tensor:
    return x[:, None].expand(-1, group, -1, -1)


def _merge(parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Combine partial attentions over disjoint keys, each weighted by its share of the softmax."""
    if len(parts) == 1:
        return parts[0][0]
    dtype = parts[0][0].dtype
    weights = torch.stack([lse for _, lse in parts]).softmax(0).unsqueeze(-1)
    merged = parts[0][0].float() * weights[0]
    for i, (out, _) in enumerate(parts[1:], start=1):
        merged.addcmul_(out.float(), weights[i])
    return merged.to(dtype)

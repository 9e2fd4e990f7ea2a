"""The reference kernels against definitions written down independently, and transformers' own."""

import math

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from kernels import kv_store, paged_attention, rms_norm, rope, silu_mul

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def noise(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + math.prod(shape))
    return torch.randn(shape, generator=generator).to(dtype)


@DTYPES
def test_rms_norm_equals_transformers(dtype: torch.dtype) -> None:
    layer = LlamaRMSNorm(48, eps=1e-5).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(noise(48))
    x = noise(7, 48, dtype=dtype) * 3
    assert torch.allclose(rms_norm(x, layer.weight, 1e-5), layer(x), rtol=1e-2, atol=1e-6)


def test_rms_norm_takes_a_weight_per_head() -> None:
    x, weight = noise(5, 3, 16), noise(3, 16)
    found = rms_norm(x, weight, 1e-6)
    for head in range(3):
        assert torch.equal(found[:, head], rms_norm(x[:, head], weight[head], 1e-6))


@DTYPES
def test_rope_equals_transformers(dtype: torch.dtype) -> None:
    q, k = noise(9, 4, 16, dtype=dtype), noise(9, 2, 16, dtype=dtype, seed=1)
    angles = torch.outer(torch.arange(9.0), 1.0 / 10_000.0 ** (torch.arange(0, 16, 2) / 16))
    cos, sin = angles.cos(), angles.sin()
    full_cos = torch.cat((cos, cos), -1).to(dtype)
    theirs = apply_rotary_pos_emb(
        q.transpose(0, 1)[None],
        k.transpose(0, 1)[None],
        full_cos[None],
        torch.cat((sin, sin), -1).to(dtype)[None],
    )
    signed_sin = torch.cat((-sin, sin), -1).to(dtype)[:, None]
    for ours, wanted in zip((q, k), theirs, strict=True):
        found = rope(ours, full_cos[:, None], signed_sin)
        assert torch.allclose(found, wanted[0].transpose(0, 1), rtol=2e-2, atol=2e-2)
        if dtype == torch.float32:
            assert torch.allclose(found, wanted[0].transpose(0, 1), atol=1e-6)


@DTYPES
def test_silu_mul(dtype: torch.dtype) -> None:
    x = noise(6, 20, dtype=dtype)
    gate, up = x[:, :10].float(), x[:, 10:].float()
    assert torch.allclose(silu_mul(x).float(), gate * gate.sigmoid() * up, rtol=2e-2, atol=2e-2)


def test_kv_store_writes_its_slots_and_no_others() -> None:
    k_cache, v_cache = torch.zeros(2, 12, 4), torch.zeros(2, 12, 4)
    k, v = noise(3, 2, 4), noise(3, 2, 4, seed=1)
    slots = torch.tensor([5, 0, 11])
    kv_store(k, v, k_cache, v_cache, slots)
    for row, slot in enumerate(slots.tolist()):
        assert torch.equal(k_cache[:, slot], k[row])
        assert torch.equal(v_cache[:, slot], v[row])
    untouched = [slot for slot in range(12) if slot not in (5, 0, 11)]
    assert not k_cache[:, untouched].any()
    assert not v_cache[:, untouched].any()


@pytest.mark.parametrize("queries", [1, 2, 5])
@pytest.mark.parametrize("length", [5, 8, 19])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (8, 1)])
def test_paged_attention_one_query_at_a_time(
    queries: int, length: int, heads: int, kv_heads: int
) -> None:
    """Against a loop over queries and heads that sees only what lies at or before the query."""
    block_size, dim = 4, 16
    blocks = torch.tensor([3, 0, 7, 2, 5])
    k_cache = noise(kv_heads, 8 * block_size, dim)
    v_cache = noise(kv_heads, 8 * block_size, dim, seed=1)
    q = noise(queries, heads, dim)
    found = paged_attention(q, k_cache, v_cache, blocks, block_size, length)
    for row in range(queries):
        visible = length - queries + row + 1
        slots = [int(blocks[i // block_size]) * block_size + i % block_size for i in range(visible)]
        for head in range(heads):
            group = head // (heads // kv_heads)
            scores = k_cache[group, slots] @ q[row, head] / dim**0.5
            wanted = scores.softmax(0) @ v_cache[group, slots]
            assert torch.allclose(found[row, head], wanted, atol=1e-6)

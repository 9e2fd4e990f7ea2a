"""One decoder for every supported architecture; a feature table in the config tells them apart.

Pre-norm blocks of rotary grouped-query attention and a gated feed-forward, as in Llama; options
are biases on the projections (Qwen2) and normalised queries and keys (Qwen3). Rows of all
sequences lie flat in one batch [T, hidden]; only attention knows where sequences begin. Query,
key and value projections are one matrix, as are gate and up: fewer and larger products.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from engine.config import ModelConfig
from engine.layers.linear import Linear
from engine.layers.rotary import Rotary
from engine.models.weights import Weights
from kernels import rms_norm, rope, silu_mul

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q [T, H, D], k [T, KV, D], v [T, KV, D]) -> [T, H, D]."""


class Layer(NamedTuple):
    """One block's weights. `qk_norm` is [H + KV, D]: one row per query head, then per key head."""

    input_norm: Tensor
    qkv: Linear
    qk_norm: Tensor | None
    out: Linear
    post_norm: Tensor
    gate_up: Linear
    down: Linear


class Decoder:
    """The network without its cache. Loaded once, never changed."""

    def __init__(
        self,
        config: ModelConfig,
        weights: Weights,
        *,
        max_length: int,
        dtype: torch.dtype,
        device: str,
    ) -> None:
        self.config = config
        self.rotary = Rotary(config.rope, config.head_dim, max_length, dtype, device)
        shape = (config.vocab_size, config.hidden_size)
        self.embedding = weights.take("model.embed_tokens.weight", *shape)
        self.layers = [_load_layer(config, weights, i) for i in range(config.num_layers)]
        self.norm = weights.take("model.norm.weight", config.hidden_size)
        if config.tie_word_embeddings:
            weights.skip("lm_head.weight")
            self.head = Linear(self.embedding)
        else:
            self.head = Linear(weights.take("lm_head.weight", *shape))
        weights.finish()

    def forward(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Final hidden states [T, hidden] (not yet normalised) of `tokens` at `positions` [T]."""
        cos, sin = self.rotary.at(positions)
        x = self.embedding.index_select(0, tokens)
        for i, layer in enumerate(self.layers):
            x = x + self._attention(i, layer, x, cos, sin, attend)
            normed = rms_norm(x, layer.post_norm, self.config.rms_norm_eps)
            x = x + layer.down(silu_mul(layer.gate_up(normed)))
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary, float32 [T, vocab], of hidden states [T, hidden]."""
        return self.head(rms_norm(hidden, self.norm, self.config.rms_norm_eps)).float()

    def _attention(
        self, index: int, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend
    ) -> Tensor:
        config = self.config
        rows = x.shape[0]
        heads, kv_heads = config.num_heads, config.num_kv_heads
        normed = rms_norm(x, layer.input_norm, config.rms_norm_eps)
        qkv = layer.qkv(normed).view(rows, heads + 2 * kv_heads, config.head_dim)
        qk, v = qkv[:, : heads + kv_heads], qkv[:, heads + kv_heads :]
        if layer.qk_norm is not None:
            qk = rms_norm(qk, layer.qk_norm, config.rms_norm_eps)
        qk = rope(qk, cos, sin)
        out = attend(index, qk[:, :heads], qk[:, heads:], v)
        return layer.out(out.reshape(rows, heads * config.head_dim))


def _load_layer(config: ModelConfig, weights: Weights, index: int) -> Layer:
    prefix = f"model.layers.{index}"
    hidden, inner = config.hidden_size, config.intermediate_size
    q_size = config.num_heads * config.head_dim
    kv_size = config.num_kv_heads * config.head_dim

    def linear(names: list[tuple[str, int]], inputs: int, *, bias: bool) -> Linear:
        paths = [(f"{prefix}.{name}", size) for name, size in names]
        weight = torch.cat([weights.take(f"{p}.weight", size, inputs) for p, size in paths])
        biases = [weights.take(f"{p}.bias", size) for p, size in paths] if bias else None
        return Linear(weight, torch.cat(biases) if biases else None)

    qk_norm = None
    if config.qk_norm:
        q_norm = weights.take(f"{prefix}.self_attn.q_norm.weight", config.head_dim)
        k_norm = weights.take(f"{prefix}.self_attn.k_norm.weight", config.head_dim)
        rows = [q_norm.expand(config.num_heads, -1), k_norm.expand(config.num_kv_heads, -1)]
        qk_norm = torch.cat(rows)
    attention, mlp = "self_attn", "mlp"
    return Layer(
        input_norm=weights.take(f"{prefix}.input_layernorm.weight", hidden),
        qkv=linear(
            [
                (f"{attention}.q_proj", q_size),
                (f"{attention}.k_proj", kv_size),
                (f"{attention}.v_proj", kv_size),
            ],
            hidden,
            bias=config.qkv_bias,
        ),
        qk_norm=qk_norm,
        out=linear([(f"{attention}.o_proj", hidden)], q_size, bias=config.o_bias),
        post_norm=weights.take(f"{prefix}.post_attention_layernorm.weight", hidden),
        gate_up=linear(
            [(f"{mlp}.gate_proj", inner), (f"{mlp}.up_proj", inner)], hidden, bias=config.mlp_bias
        ),
        down=linear([(f"{mlp}.down_proj", hidden)], inner, bias=config.mlp_bias),
    )

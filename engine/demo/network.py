"""The bundled model as a trainable network: the Llama architecture in plain torch, for training
alone.

Serving goes through the engine's own decoder; this file only has to be quick on one CPU core.
Weights are kept in fp32 and cast to the activations' dtype in each step. Short sequences use
plain matrix products, which for bf16 on a CPU beat the fused attention several times in the
backward pass; long ones use the fused one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.demo.tokenizer import END_OF_TEXT, MAX_LENGTH, TURN_END, VOCABULARY

FUSED_FROM = 640


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; the defaults are the bundled model's."""

    hidden_size: int = 192
    intermediate_size: int = 512
    num_hidden_layers: int = 4
    num_attention_heads: int = 6
    num_key_value_heads: int = 2
    head_dim: int = 32
    vocab_size: int = VOCABULARY
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-5


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x, weight.to(x.dtype))


class Layer(nn.Module):
    """One decoder layer; parameters carry the names they have in a checkpoint."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        size, heads = shape.hidden_size, shape.num_attention_heads * shape.head_dim
        shared = shape.num_key_value_heads * shape.head_dim
        self.shape = shape
        self.weights = nn.ParameterDict(
            {
                "input_layernorm": torch.ones(size),
                "self_attn/q_proj": torch.empty(heads, size),
                "self_attn/k_proj": torch.empty(shared, size),
                "self_attn/v_proj": torch.empty(shared, size),
                "self_attn/o_proj": torch.empty(size, heads),
                "post_attention_layernorm": torch.ones(size),
                "mlp/gate_proj": torch.empty(shape.intermediate_size, size),
                "mlp/up_proj": torch.empty(shape.intermediate_size, size),
                "mlp/down_proj": torch.empty(size, shape.intermediate_size),
            }
        )

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """x [batch, length, hidden]; cos, sin [length, head_dim]; mask [length, length], 0 or -inf.

        Returns the layer's output, shaped as x.
        """
        w, shape = self.weights, self.shape
        batch, length, _ = x.shape
        heads, shared, dim = shape.num_attention_heads, shape.num_key_value_heads, shape.head_dim
        h = F.rms_norm(x, (x.shape[-1],), w["input_layernorm"].to(x.dtype), shape.rms_norm_eps)
        joint = torch.cat([w["self_attn/q_proj"], w["self_attn/k_proj"], w["self_attn/v_proj"]])
        qkv = _linear(h, joint).view(batch, length, heads + 2 * shared, dim).transpose(1, 2)
        rotated, v = qkv.split([heads + shared, shared], 1)
        low, high = rotated.chunk(2, -1)
        rotated = rotated * cos + torch.cat((-high, low), -1) * sin
        q, k = rotated.split([heads, shared], 1)
        if length >= FUSED_FROM:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:
            group = heads // shared
            q = (q * dim**-0.5).reshape(batch * shared, group * length, dim)
            scores = torch.bmm(q, k.reshape(batch * shared, length, dim).transpose(1, 2))
            weight = torch.softmax(scores.view(-1, group, length, length) + mask, -1)
            weight = weight.view(batch * shared, group * length, length)
            y = torch.bmm(weight, v.reshape(batch * shared, length, dim)).view(
                batch, heads, length, dim
            )
        x = x + _linear(
            y.transpose(1, 2).reshape(batch, length, heads * dim), w["self_attn/o_proj"]
        )
        norm = w["post_attention_layernorm"].to(x.dtype)
        h = F.rms_norm(x, (x.shape[-1],), norm, shape.rms_norm_eps)
        gate, up = _linear(h, torch.cat([w["mlp/gate_proj"], w["mlp/up_proj"]])).chunk(2, -1)
        return x + _linear(F.silu(gate) * up, w["mlp/down_proj"])


class Network(nn.Module):
    """Decoder with tied embeddings.

    dtype: of the activations (weights stay fp32).
    """

    def __init__(
        self, shape: Shape | None = None, *, seed: int = 0, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        super().__init__()
        self.shape = shape or Shape()
        self.dtype = dtype
        self.embedding = nn.Parameter(torch.empty(self.shape.vocab_size, self.shape.hidden_size))
        self.layers = nn.ModuleList(Layer(self.shape) for _ in range(self.shape.num_hidden_layers))
        self.norm = nn.Parameter(torch.ones(self.shape.hidden_size))
        self._initialise(seed)
        steps = torch.arange(0, self.shape.head_dim, 2) / self.shape.head_dim
        angles = torch.outer(torch.arange(MAX_LENGTH).float(), self.shape.rope_theta**-steps)
        self.cos = torch.cat((angles.cos(),) * 2, -1).to(dtype)
        self.sin = torch.cat((angles.sin(),) * 2, -1).to(dtype)

    def _initialise(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        shrink = (2 * self.shape.num_hidden_layers) ** -0.5
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.dim() == 2:
                    scale = shrink if name.endswith(("o_proj", "down_proj")) else 1.0
                    weight.normal_(0.0, 0.03 * scale, generator=generator)

    def forward(self, ids: Tensor, wanted: Tensor) -> Tensor:
        """Logits [n, vocabulary] in fp32 at flat positions `wanted` [n] of ids [batch, length]."""
        length = ids.shape[1]
        x = F.embedding(ids, self.embedding).to(self.dtype)
        mask = torch.full((length, length), float("-inf"), dtype=self.dtype).triu(1)
        for layer in self.layers:
            x = layer(x, self.cos[:length], self.sin[:length], mask)
        x = x.reshape(-1, x.shape[-1])[wanted]
        x = F.rms_norm(x, (x.shape[-1],), self.norm.to(x.dtype), self.shape.rms_norm_eps)
        return _linear(x, self.embedding).float()


def _checkpoint_names(network: Network) -> dict[str, nn.Parameter]:
    named: dict[str, nn.Parameter] = {}
    for name, weight in network.named_parameters():
        if name == "embedding":
            named["model.embed_tokens.weight"] = weight
        elif name == "norm":
            named["model.norm.weight"] = weight
        else:
            named[f"model.{name.replace('.weights.', '.').replace('/', '.')}.weight"] = weight
    return named


def save_checkpoint(network: Network, folder: Path) -> None:
    """Write config.json, generation_config.json and model.safetensors (bf16) in Llama layout."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: weight.detach().to(torch.bfloat16).contiguous()
        for name, weight in _checkpoint_names(network).items()
    }
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    ends = [2, 0]  # ids of TURN_END and END_OF_TEXT, asserted against the tokenizer by the tests
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **asdict(network.shape),
        "hidden_act": "silu",
        "max_position_embeddings": MAX_LENGTH,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "eos_token_id": ends,
        "pad_token_id": 0,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    generation = {
        "do_sample": False,
        "eos_token_id": ends,
        "pad_token_id": 0,
        "max_new_tokens": 256,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")


def load_checkpoint(network: Network, folder: Path) -> None:
    """Copy the weights of a checkpoint of the same shape into the network."""
    tensors = load_file(str(folder / "model.safetensors"))
    with torch.no_grad():
        for name, weight in _checkpoint_names(network).items():
            weight.copy_(tensors[name])


__all__ = ["END_OF_TEXT", "TURN_END", "Network", "Shape", "load_checkpoint", "save_checkpoint"]

"""Choice of the attention backend."""

import torch

from engine.attention.base import AttentionBackend
from engine.attention.cpu import CpuAttention
from engine.attention.torch_ref import TorchReference
from engine.config import ConfigError, EngineConfig


def make_backend(config: EngineConfig, dtype: torch.dtype) -> AttentionBackend:
    """The configured backend; `auto` is `cpu` on a CPU and `torch_ref` elsewhere."""
    name = config.attention_backend
    if name == "auto":
        name = "cpu" if config.device == "cpu" else "torch_ref"
    if name == "torch_ref":
        return TorchReference(config.block_size)
    if config.device != "cpu":
        raise ConfigError(
            f"attention_backend cpu does not run on {config.device}", param="attention_backend"
        )
    model = config.model
    row_bytes = model.num_kv_heads * model.head_dim * dtype.itemsize
    return CpuAttention(config.block_size, row_bytes, dtype)

"""Tables of rotary angles for every position, with the stretching that long contexts need."""

import math

import torch
from torch import Tensor

from engine.config import RopeConfig


def frequencies(rope: RopeConfig, head_dim: int) -> Tensor:
    """Angle per position of each feature pair, float32 [head_dim / 2].

    `linear` divides all by the factor. `llama3` divides those whose wavelength exceeds the
    original context (over `low_freq_factor`), keeps the short ones, and blends in between.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    base = 1.0 / (rope.theta**exponents)
    if rope.kind == "linear":
        return base / rope.factor
    if rope.kind == "llama3":
        turns = rope.original_max_position * base / (2 * math.pi)
        span = rope.high_freq_factor - rope.low_freq_factor
        keep = ((turns - rope.low_freq_factor) / span).clamp(0.0, 1.0)
        return base * keep + base / rope.factor * (1.0 - keep)
    return base


class Rotary:
    """`cos` and `sin` of all positions up to `length`, [length, 1, head_dim] in `dtype`."""

    def __init__(
        self, rope: RopeConfig, head_dim: int, length: int, dtype: torch.dtype, device: str
    ) -> None:
        angles = torch.outer(torch.arange(length).float(), frequencies(rope, head_dim))
        cos, sin = angles.cos(), angles.sin()
        self.cos = torch.cat((cos, cos), -1)[:, None].to(device, dtype)
        self.sin = torch.cat((-sin, sin), -1)[:, None].to(device, dtype)

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of both tables for `positions` [T], as `kernels.rope` takes them."""
        return self.cos.index_select(0, positions), self.sin.index_select(0, positions)

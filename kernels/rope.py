"""Rotary position embedding in the half-split layout: feature i is paired with i + D/2."""

import torch
from torch import Tensor


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate every head of `x` [T, heads, D] by the angles of its row.

    `cos` and `sin` are [T, 1, D]; the first half of `sin` carries the minus sign, so that the
    rotation is x * cos + swap_halves(x) * sin. Returns a new contiguous tensor.
    """
    return torch.addcmul(x * cos, torch.roll(x, x.shape[-1] // 2, -1), sin)

"""Root-mean-square normalisation of rows: y = x / sqrt(mean(x^2) + eps) * weight."""

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalise `x` [..., D] over its last axis and scale by `weight` ([D] or [heads, D]).

    The mean is taken in float32 whatever the dtype of `x`; the result has that dtype, rounded
    before the scaling, as checkpoints are trained with.
    """
    wide = x.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True).add_(eps))
    return (wide * scale).to(x.dtype) * weight

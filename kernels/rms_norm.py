"""Root-mean-square normalisation of rows: y = x / sqrt(mean(x^2) + eps) * weight."""

import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalise `x` [..., D] over its last axis and scale by `weight` ([D] or [heads, D]).

    The mean is taken in float32 whatever the dtype of `x`; the quotient is rounded to that dtype
    before the scaling, as in the models' training code.
    """
    return F.rms_norm(x, (x.shape[-1],), None, eps) * weight

"""Matrix multiplication with fixed weights.

On a CPU, bfloat16 weights are re-ordered once into the blocked layout that the vector units want,
which makes single-row products about 2.5 times as fast. The operations for it are internal to
torch, so they are tried once against the plain product and left alone if they fail or disagree.
"""

import functools
import logging

import torch
import torch.nn.functional as F
from torch import Tensor

log = logging.getLogger(__name__)

PACK_ROWS_HINT = 32
"""Batch size the layout is optimised for; 32 is no slower than 1 for a single row."""


class Linear:
    """y = x @ weight.T + bias for `weight` [N, K]; the weight may be kept only in packed form."""

    __slots__ = ("bias", "packed", "weight")

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.bias = bias
        self.packed = weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and can_pack()
        self.weight = _pack(weight) if self.packed else weight

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed:
            return _packed_product(x, self.weight, self.bias)
        return F.linear(x, self.weight, self.bias)


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), PACK_ROWS_HINT)
    return packed


def _packed_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


@functools.cache
def can_pack() -> bool:
    """Whether packed bfloat16 products work here and agree with the plain ones."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(96, 64, generator=generator).to(torch.bfloat16)
    x = torch.randn(3, 64, generator=generator).to(torch.bfloat16)
    try:
        found = _packed_product(x, _pack(weight), None)
    except (RuntimeError, AttributeError) as error:
        log.info("packed bfloat16 weights are not available: %s", error)
        return False
    agrees = torch.allclose(found.float(), F.linear(x, weight).float(), rtol=0.02, atol=0.1)
    if not agrees:
        log.warning("packed bfloat16 products disagree with plain ones; not used")
    return agrees

"""Tensor operations of the engine, one file each, in plain torch: they run on any device.

These definitions are also the references that a device-specific kernel must agree with.
"""

from kernels.kv_store import kv_store
from kernels.paged_attention import paged_attention
from kernels.rms_norm import rms_norm
from kernels.rope import rope
from kernels.silu_mul import silu_mul

__all__ = ["kv_store", "paged_attention", "rms_norm", "rope", "silu_mul"]

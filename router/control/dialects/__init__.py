"""The engines whose metrics pages control can read, by the name a cluster gives as ``engine``."""

from collections.abc import Mapping

from router.control.dialects.base import Dialect
from router.control.dialects.llamacpp import LlamaCpp
from router.control.dialects.sglang import Sglang
from router.control.dialects.tgi import Tgi
from router.control.dialects.vllm import Vllm

REGISTRY: tuple[Dialect, ...] = (Vllm(), Sglang(), Tgi(), LlamaCpp())

BY_NAME: Mapping[str, Dialect] = {dialect.name: dialect for dialect in REGISTRY}

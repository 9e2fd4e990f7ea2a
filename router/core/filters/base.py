"""What a filter is: it says which endpoints scorers are asked about."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

import msgspec

from router.core.clock import Rng
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest


class Filter(Protocol):
    def keep(
        self, request: LlmRequest, hosts: Sequence[HostState], rng: Rng
    ) -> Sequence[HostState]:
        """At least one of ``hosts``; the very same sequence where it keeps all of them."""
        ...


class FilterSpec(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of the filters' configuration; their YAML as a tagged union."""

    reads_prompt: ClassVar[bool] = False
    """Whether it looks at the checkpoints of prompts."""

    def build(self, memory: ClusterMemory) -> Filter:
        raise NotImplementedError

"""A freer KV cache is better (the Inference Extension's kv-cache-utilization-scorer).

A full cache makes an engine queue or preempt. Whatever its prefix cache keeps for later use does
not count as in use with vLLM, so this does not work against ``prefix_match``.
"""

from collections.abc import Sequence

from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest
from router.core.scorers.base import Scorer, ScorerSpec, neutral


class KvUtilization:
    class Spec(ScorerSpec, frozen=True, kw_only=True, tag="kv_utilization"):
        """The share of the engine's KV cache that is free.

        ``weight``: how much the score counts against the others.
        """

        reads = "kv_usage"

        def build(self, memory: ClusterMemory) -> Scorer:
            return KvUtilization()

    __slots__ = ()

    def score(
        self, request: LlmRequest, hosts: Sequence[HostState], now: float
    ) -> Sequence[float] | None:
        loads = [host.load for host in hosts]
        return neutral(
            [
                None if load is None or load.kv_usage is None else 1.0 - load.kv_usage
                for load in loads
            ]
        )

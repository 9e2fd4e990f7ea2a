"""Fewer requests in the engine's own queue are better (the Inference Extension's queue-scorer).

The figure is as old as the last reading of the metrics page: all requests of that time see the
same shortest queue and go there together. ``in_flight`` and ``token_load`` know at once.
"""

from collections.abc import Sequence

from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest
from router.core.scorers.base import Scorer, ScorerSpec, by_weight, fewest_best


class QueueDepth:
    class Spec(ScorerSpec, frozen=True, kw_only=True, tag="queue_depth"):
        """Requests that wait in the engine: the fewest score 1, the most 0.

        ``weight``: how much the score counts against the others.
        """

        reads = "waiting"

        def build(self, memory: ClusterMemory) -> Scorer:
            return QueueDepth()

    __slots__ = ()

    def score(
        self, request: LlmRequest, hosts: Sequence[HostState], now: float
    ) -> Sequence[float] | None:
        loads = [host.load for host in hosts]
        waiting = [None if load is None else load.waiting for load in loads]
        return fewest_best(by_weight(waiting, hosts))

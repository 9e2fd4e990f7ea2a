"""Fewer running requests are better, as the engine counts them (running-requests-size-scorer)."""

from collections.abc import Sequence

from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest
from router.core.scorers.base import Scorer, ScorerSpec, by_weight, fewest_best


class Running:
    class Spec(ScorerSpec, frozen=True, kw_only=True, tag="running"):
        """Requests that the engine runs: the fewest score 1, the most 0.

        ``weight``: how much the score counts against the others.
        """

        reads = "running"

        def build(self, memory: ClusterMemory) -> Scorer:
            return Running()

    __slots__ = ()

    def score(
        self, request: LlmRequest, hosts: Sequence[HostState], now: float
    ) -> Sequence[float] | None:
        loads = [host.load for host in hosts]
        running = [None if load is None else load.running for load in loads]
        return fewest_best(by_weight(running, hosts))

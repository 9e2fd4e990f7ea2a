"""Where a LoRA adapter is loaded is better (the Inference Extension's lora-affinity-scorer).

1.0 where the adapter runs, 0.8 where there is room for one more, 0.6 where it waits to be loaded,
0 where the engine has no room. A request's adapter is the model that it names; one for the base
model is not told apart from an adapter that is loaded nowhere, which does it no harm.
"""

from collections.abc import Sequence

from router.core.host import HostState
from router.core.load import LoadReport
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest
from router.core.scorers.base import Scorer, ScorerSpec, neutral

ACTIVE = 1.0
ROOM = 0.8
WAITING = 0.6
FULL = 0.0


class LoraAffinity:
    class Spec(ScorerSpec, frozen=True, kw_only=True, tag="lora_affinity"):
        """Whether an engine has the request's LoRA adapter loaded, or room for it.

        ``weight``: how much the score counts against the others.
        """

        reads = "adapters"

        def build(self, memory: ClusterMemory) -> Scorer:
            return LoraAffinity()

    __slots__ = ()

    def score(
        self, request: LlmRequest, hosts: Sequence[HostState], now: float
    ) -> Sequence[float] | None:
        model = request.model
        if model is None:
            return None
        return neutral([_score(model, host.load) for host in hosts])


def _score(model: str, load: LoadReport | None) -> float | None:
    adapters = None if load is None else load.adapters
    if adapters is None:
        return None
    if model in adapters.running:
        return ACTIVE
    if len(adapters.running) + len(adapters.waiting) < adapters.slots:
        return ROOM
    return WAITING if model in adapters.waiting else FULL

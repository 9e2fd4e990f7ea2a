"""Fewer requests in flight from here are better (llm-d's active-request-scorer).

Counted when a request is sent, over all workers of the machine, so that there is nothing to wait
for and nothing to be scraped.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest
from router.core.scorers.base import Scorer, ScorerSpec


class InFlight:
    class Spec(ScorerSpec, frozen=True, kw_only=True, tag="in_flight"):
        """Requests in flight from this machine: none score 1, the most 0.

        ``weight``: how much the score counts against the others. ``idle_threshold``: with up to
        so many an endpoint is as good as idle. ``max_busy_score``: what a busy one gets at most;
        below 1, idle ones are preferred by more.
        """

        idle_threshold: Annotated[int, msgspec.Meta(ge=0)] = 0
        max_busy_score: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0

        def build(self, memory: ClusterMemory) -> Scorer:
            return InFlight(self)

    __slots__ = ("_busy", "_idle")

    def __init__(self, spec: Spec) -> None:
        self._idle = spec.idle_threshold
        self._busy = spec.max_busy_score

    def score(
        self, request: LlmRequest, hosts: Sequence[HostState], now: float
    ) -> Sequence[float] | None:
        counts = [host.burden for host in hosts]
        most = max(counts)
        if most <= self._idle:
            return [1.0] * len(hosts)
        loads = [count / host.weight for count, host in zip(counts, hosts, strict=True)]
        scale = self._busy / max(loads)
        busy, idle = self._busy, self._idle
        return [
            1.0 if count <= idle else busy - load * scale
            for count, load in zip(counts, loads, strict=True)
        ]

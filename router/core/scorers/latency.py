"""A sooner first byte is better: how long it took lately, times the requests in flight.

llm-d's latency-scorer asks a model that a sidecar trains; without one it has nothing to say. Here
it is the peak-sensitive moving average of ``peak_ewma``, which needs nothing but the answers.
"""

from collections.abc import Sequence

from router.core.duration import Interval
from router.core.host import HostState, Latency
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest
from router.core.scorers.base import Scorer, ScorerSpec, fewest_best


class LatencyScorer:
    class Spec(ScorerSpec, frozen=True, kw_only=True, tag="latency"):
        """Time to the first byte that is to be expected: the shortest scores 1, the longest 0.

        ``weight``: how much the score counts against the others. ``tau``: how long a sample counts.
        ``initial``: what is assumed of an endpoint without samples. ``penalty``: what a failed
        attempt counts for. All three as with ``peak_ewma``.
        """

        tau: Interval = Interval(10)
        initial: Interval = Interval(0.01)
        penalty: Interval = Interval(10)

        def build(self, memory: ClusterMemory) -> Scorer:
            return LatencyScorer(self)

    __slots__ = ("_hosts", "_spec")

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._hosts: Sequence[HostState] = ()

    def score(
        self, request: LlmRequest, hosts: Sequence[HostState], now: float
    ) -> Sequence[float] | None:
        if hosts is not self._hosts:
            self._follow(hosts)
        return fewest_best(
            [
                host.latency.estimate(now) * (host.burden / host.weight + 1)
                for host in hosts
                if host.latency is not None
            ]
        )

    def _follow(self, hosts: Sequence[HostState]) -> None:
        self._hosts = hosts
        spec = self._spec
        terms = float(spec.tau), float(spec.initial), float(spec.penalty)
        for host in hosts:
            if host.latency is None:
                host.latency = Latency(*terms)
            else:
                host.latency.tune(*terms)

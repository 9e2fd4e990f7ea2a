"""Least request (Envoy's LEAST_REQUEST).

Equal weights: the power of two choices, drawn with replacement, a tie keeping the earlier draw
(Mitzenmacher 2001); or a full scan whose ties are broken uniformly. Different weights: earliest
deadline first with the weight divided by the load, ``weight / (active + 1) ** bias``.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import msgspec

from router.core.balancers.base import Balancer, BalancerSpec, Scores
from router.core.balancers.edf import EdfSchedule, weights_differ
from router.core.balancers.loads import least_active, less_loaded
from router.core.balancers.slow_start import SlowStart, WarmUp
from router.core.clock import Rng
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import EndpointId, LlmRequest


class LeastRequest:
    class Spec(BalancerSpec, frozen=True, kw_only=True, tag="least_request"):
        """The endpoint with the fewest requests in flight, over all workers of the machine.

        ``choice_count``: endpoints drawn and compared, at least 2. ``selection``: ``n_choices``
        or ``full_scan`` (all are compared). ``active_request_bias``: how strongly load lowers
        a weight where weights differ; 0 is plain weighted rotation. ``slow_start``: endpoints
        that have just come get less at first; off by default. While there are such, all are
        chosen by weight.
        """

        reads_conversation: ClassVar[bool] = False

        choice_count: Annotated[int, msgspec.Meta(ge=2)] = 2
        selection: Literal["n_choices", "full_scan"] = "n_choices"
        active_request_bias: Annotated[float, msgspec.Meta(ge=0)] = 1.0
        slow_start: SlowStart | None = None

        def build(self, rng: Rng, memory: ClusterMemory) -> Balancer:
            return LeastRequest(self)

    __slots__ = ("_choices", "_full_scan", "_hosts", "_schedule", "_spec", "_warm_up")

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._warm_up = None if spec.slow_start is None else WarmUp(spec.slow_start)
        self._full_scan = spec.selection == "full_scan"
        self._choices = spec.choice_count
        self._hosts: Sequence[HostState] = ()
        self._schedule: EdfSchedule[HostState] | None = None

    def pick(
        self,
        request: LlmRequest,
        hosts: Sequence[HostState],
        rng: Rng,
        tried: tuple[EndpointId, ...] = (),
        now: float = 0.0,
    ) -> tuple[HostState, str]:
        if hosts is not self._hosts:
            self._hosts = hosts
            if self._warm_up is not None:
                self._warm_up.follow(hosts, now)
            self._plan(hosts)
        elif self._warm_up is not None and self._warm_up.over(now):
            self._plan(hosts)
        if self._schedule is not None:
            return self._schedule.next(), "least loaded by weight"
        if self._full_scan:
            return least_active(hosts, rng), "least loaded"
        return less_loaded(hosts, self._choices, rng), "less loaded"

    def explain(self, request: LlmRequest, hosts: Sequence[HostState]) -> Scores:
        if weights_differ(hosts):
            return Scores(
                notes={"selection": "weighted turns, weight / (in flight + 1) ** bias"},
                hosts={host.id: {"dynamic_weight": self._dynamic_weight(host)} for host in hosts},
            )
        drawn = f"the least loaded of {self._choices} drawn from {len(hosts)}"
        selection = "the least loaded of all" if self._full_scan else drawn
        return Scores(
            notes={"selection": selection}, hosts={h.id: {"active": h.burden} for h in hosts}
        )

    def _plan(self, hosts: Sequence[HostState]) -> None:
        warming = self._warm_up is not None and self._warm_up.active
        self._schedule = None
        if warming or weights_differ(hosts):
            self._schedule = EdfSchedule(hosts, self._dynamic_weight)

    def _dynamic_weight(self, host: HostState) -> float:
        divisor: float = (host.burden + 1) ** self._spec.active_request_bias
        weight = host.weight if self._warm_up is None else self._warm_up.weight(host)
        return weight / divisor

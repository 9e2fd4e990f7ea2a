"""Round robin; earliest deadline first where weights differ (Envoy's ROUND_ROBIN)."""

from collections.abc import Sequence
from typing import ClassVar

from router.core.balancers.base import Balancer, BalancerSpec, Scores
from router.core.balancers.edf import EdfSchedule, weights_differ
from router.core.balancers.slow_start import SlowStart, WarmUp
from router.core.clock import Rng
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import EndpointId, LlmRequest


class RoundRobin:
    """Starts at a random host, so that workers and routers do not move in step."""

    class Spec(BalancerSpec, frozen=True, kw_only=True, tag="round_robin"):
        """Each endpoint in turn, as often as its weight says.

        ``slow_start``: endpoints that have just come get less at first; off by default.
        """

        reads_conversation: ClassVar[bool] = False

        slow_start: SlowStart | None = None

        def build(self, rng: Rng, memory: ClusterMemory) -> Balancer:
            return RoundRobin(rng, self.slow_start)

    __slots__ = ("_hosts", "_next", "_schedule", "_warm_up")

    def __init__(self, rng: Rng, slow_start: SlowStart | None = None) -> None:
        self._warm_up = None if slow_start is None else WarmUp(slow_start)
        self._next = rng.randrange(1 << 16)
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
            return self._schedule.next(), "weighted turn"
        self._next += 1
        return hosts[self._next % len(hosts)], "its turn"

    def _plan(self, hosts: Sequence[HostState]) -> None:
        self._schedule = None
        if self._warm_up is not None and self._warm_up.active:
            self._schedule = EdfSchedule(hosts, self._warm_up.weight)
        elif weights_differ(hosts):
            self._schedule = EdfSchedule(hosts, lambda host: host.weight)

    def explain(self, request: LlmRequest, hosts: Sequence[HostState]) -> Scores:
        total = sum(host.weight for host in hosts)
        return Scores(
            notes={"turn": "each worker's own; the seed stands for it"},
            hosts={host.id: {"share": host.weight / total} for host in hosts},
        )

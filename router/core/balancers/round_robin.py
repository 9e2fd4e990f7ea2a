"""Round robin; earliest deadline first where weights differ (Envoy's ROUND_ROBIN)."""

from collections.abc import Sequence

from router.core.balancers.affinity import AffinityTable
from router.core.balancers.base import Balancer, BalancerSpec
from router.core.balancers.edf import EdfSchedule, weights_differ
from router.core.clock import Rng
from router.core.host import HostState
from router.core.model import EndpointId, LlmRequest


class RoundRobin:
    """Starts at a random host, so that workers and routers do not move in step."""

    class Spec(BalancerSpec, frozen=True, tag="round_robin"):
        """Each endpoint in turn, as often as its weight says."""

        def build(self, rng: Rng, affinity: AffinityTable) -> Balancer:
            return RoundRobin(rng)

    __slots__ = ("_hosts", "_next", "_schedule")

    def __init__(self, rng: Rng) -> None:
        self._next = rng.randrange(1 << 16)
        self._hosts: Sequence[HostState] = ()
        self._schedule: EdfSchedule | None = None

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
            self._schedule = None
            if weights_differ(hosts):
                self._schedule = EdfSchedule(hosts, lambda host: host.weight)
        if self._schedule is not None:
            return self._schedule.next(), "weighted turn"
        self._next += 1
        return hosts[self._next % len(hosts)], "its turn"

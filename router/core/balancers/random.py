"""Uniform random choice (Envoy's RANDOM: weights are not looked at)."""

from collections.abc import Sequence

from router.core.balancers.affinity import AffinityTable
from router.core.balancers.base import Balancer, BalancerSpec
from router.core.clock import Rng
from router.core.host import HostState
from router.core.model import EndpointId, LlmRequest


class RandomChoice:
    class Spec(BalancerSpec, frozen=True, tag="random"):
        """Any endpoint, each as likely as the others; weights are ignored."""

        def build(self, rng: Rng, affinity: AffinityTable) -> Balancer:
            return RandomChoice()

    __slots__ = ()

    def pick(
        self,
        request: LlmRequest,
        hosts: Sequence[HostState],
        rng: Rng,
        tried: tuple[EndpointId, ...] = (),
        now: float = 0.0,
    ) -> tuple[HostState, str]:
        return hosts[rng.randrange(len(hosts))], "random"

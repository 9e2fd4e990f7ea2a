"""Random choice, by weight; Envoy's RANDOM does not look at weights."""

from collections.abc import Sequence
from typing import ClassVar

from router.core.balancers.base import Balancer, BalancerSpec
from router.core.balancers.edf import weights_differ
from router.core.balancers.weighted import WeightedDraw
from router.core.clock import Rng
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import EndpointId, LlmRequest


class RandomChoice:
    class Spec(BalancerSpec, frozen=True, tag="random"):
        """Any endpoint, each as likely as its weight says."""

        reads_conversation: ClassVar[bool] = False

        def build(self, rng: Rng, memory: ClusterMemory) -> Balancer:
            return RandomChoice()

    __slots__ = ("_draw", "_hosts")

    def __init__(self) -> None:
        self._hosts: Sequence[HostState] = ()
        self._draw: WeightedDraw | None = None

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
            self._draw = WeightedDraw(hosts) if weights_differ(hosts) else None
        if self._draw is not None:
            return self._draw.draw(rng), "random by weight"
        return hosts[rng.randrange(len(hosts))], "random"

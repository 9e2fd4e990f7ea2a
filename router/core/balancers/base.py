"""What a balancer is. It chooses; it does not filter: the hosts it gets may all be used."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from router.core.balancers.affinity import AffinityTable
from router.core.clock import Rng
from router.core.host import HostState
from router.core.model import EndpointId, LlmRequest


class Balancer(Protocol):
    """Small, with state of its own. One per cluster or subset and process."""

    def pick(
        self,
        request: LlmRequest,
        hosts: Sequence[HostState],
        rng: Rng,
        tried: tuple[EndpointId, ...] = (),
        now: float = 0.0,
    ) -> tuple[HostState, str]:
        """Choose a host and say why in a few words.

        Args:
            hosts: at least one; the same tuple object until membership or health changes.
            tried: endpoints this request has been to. Honouring it is optional: the director
                asks again, then decides itself.
            now: monotonic seconds; only balancers that learn or warm up over time look at it.
        """
        ...


class BalancerSpec(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of the balancers' configuration."""

    def build(self, rng: Rng, affinity: AffinityTable) -> Balancer:
        """Make a balancer.

        Args:
            affinity: the process's memory of where conversations went.
        """
        raise NotImplementedError

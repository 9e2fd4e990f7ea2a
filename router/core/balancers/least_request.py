"""Least request (Envoy's LEAST_REQUEST); how it picks is in ``fewest_requests``, which compiles.

Equal weights: the power of two choices, drawn with replacement, a tie keeping the earlier draw
(Mitzenmacher 2001); or a full scan whose ties are broken uniformly. Different weights: earliest
deadline first with the weight divided by the load, ``weight / (active + 1) ** bias``.
"""

from typing import Annotated, ClassVar, Literal

import msgspec

from router.core.balancers.base import Balancer, BalancerSpec
from router.core.balancers.fewest_requests import FewestRequests
from router.core.balancers.slow_start import SlowStart
from router.core.clock import Rng
from router.core.memory import ClusterMemory


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
            full_scan = self.selection == "full_scan"
            return FewestRequests(
                rng, self.choice_count, full_scan, self.active_request_bias, self.slow_start
            )

"""NVIDIA Dynamo's KV router: the least of what is to be computed and what is in memory already.

    cost = prefill_load_scale * max(prefill + prompt - overlap_score_credit * cached, 0) + decode

``prefill`` are tokens of prompts on their way to the endpoint that nobody has computed yet,
``cached`` those of this prompt that it is likely to have, and ``decode`` those that its requests in
flight would use together with this one, common beginnings once. Of equal costs one is drawn; with
a ``temperature`` the draw is a softmax over all costs, scaled to their range. Names and figures are
those of Dynamo's ``KvRouterConfig``; its ``overlap_score_weight`` was what ``prefill_load_scale``
is now. Dynamo counts in blocks of the engine, this in tokens: only the order matters.

What is cached is as in Dynamo's approximate mode (``--no-kv-events``): what went to an endpoint
within the last ``ttl``. Not here: engines' events, caches in host memory or on disk, output tokens
(off in Dynamo too) and its queue.
"""

from collections.abc import Sequence
from math import exp
from typing import Annotated, ClassVar

import msgspec

from router.core.balancers.base import Accounts, Balancer, BalancerSpec, Scores
from router.core.balancers.weighted import cheapest, drawn
from router.core.clock import Rng
from router.core.duration import Interval
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import EndpointId, LlmRequest
from router.core.prefix.placements import TOKENS, Lineup, Placements, prompt_tokens


class DynamoCost:
    class Spec(BalancerSpec, frozen=True, kw_only=True, tag="dynamo_cost"):
        """The endpoint with the least to compute and to hold: the cost function of NVIDIA Dynamo's
        KV router, without engines' events.

        ``prefill_load_scale``: weight of what is to be computed against what is in use; more
        favours the first token, less the following ones. Dynamo's older ``overlap_score_weight``.
        ``overlap_score_credit``: how much of a likely hit is believed, 0 to 1.
        ``temperature``: 0 takes the least cost; more draws at random, the likelier the cheaper.
        ``ttl``: a prompt that was sent is taken to be cached for this long; longer than the
        engines keep it, and requests go where their prefix has gone.
        """

        reads_prompt: ClassVar[bool] = True

        prefill_load_scale: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 1.0
        overlap_score_credit: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
        temperature: Annotated[float, msgspec.Meta(ge=0, le=100)] = 0.0
        ttl: Interval = Interval(120)

        def build(self, rng: Rng, memory: ClusterMemory) -> Balancer:
            return DynamoCost(self, memory.keep(Placements))

    __slots__ = ("_credit", "_lineup", "_placements", "_spec")

    def __init__(self, spec: Spec, placements: Placements) -> None:
        self._spec = spec
        self._credit = [spec.overlap_score_credit * tokens for tokens in TOKENS]
        self._placements = placements
        self._lineup: Lineup | None = None
        placements.tune(ttl=float(spec.ttl), active=True)

    @property
    def accounts(self) -> Accounts:
        return self._placements

    def pick(
        self,
        request: LlmRequest,
        hosts: Sequence[HostState],
        rng: Rng,
        tried: tuple[EndpointId, ...] = (),
        now: float = 0.0,
    ) -> tuple[HostState, str]:
        lineup = self._lineup = self._placements.lineup(hosts, self._lineup)
        prefill, decode = self._costs(request, lineup, now)
        costs = [one + other for one, other in zip(prefill, decode, strict=True)]
        if self._spec.temperature:
            return self._sample(hosts, costs, rng, tried), "drawn by cost"
        return cheapest(hosts, costs, rng, tried), "least cost"

    def explain(self, request: LlmRequest, hosts: Sequence[HostState]) -> Scores:
        """Tokens: ``prefill`` to compute, after its scale, and ``decode`` in use with this one."""
        lineup = self._placements.lineup(hosts, self._lineup)
        prefill, decode = self._costs(request, lineup, 0.0)
        return Scores(
            notes={"prompt_tokens": prompt_tokens(request)},
            hosts={
                host.id: {
                    "prefill": prefill[n],
                    "decode": decode[n],
                    "cost": prefill[n] + decode[n],
                }
                for n, host in enumerate(hosts)
            },
        )

    def _costs(
        self, request: LlmRequest, lineup: Lineup, now: float
    ) -> tuple[Sequence[float], Sequence[float]]:
        """Tokens to compute and tokens in use, for each host. Load counts by weight; the request's
        own tokens do not, or an idle endpoint of more weight would get all of them."""
        spec, placements, prompt = self._spec, self._placements, prompt_tokens(request)
        names = request.checkpoints
        outstanding = lineup.outstanding
        prefill = lineup.by_share([one.prefill for one in outstanding])
        decode = lineup.by_share([one.used for one in outstanding])
        cached = placements.index.match(names, lineup.rows, now)
        if cached is None:
            prefill = [load + prompt for load in prefill]
        else:
            credit = self._credit
            prefill = [
                max(load + prompt - credit[match], 0.0)
                for load, match in zip(prefill, cached, strict=True)
            ]
        if spec.prefill_load_scale != 1.0:
            prefill = [spec.prefill_load_scale * tokens for tokens in prefill]
        shared = placements.active.match(names, lineup.rows)
        if shared is None:
            decode = [load + prompt for load in decode]
        else:
            decode = [
                load + prompt - TOKENS[match] for load, match in zip(decode, shared, strict=True)
            ]
        return prefill, decode

    def _sample(
        self,
        hosts: Sequence[HostState],
        costs: Sequence[float],
        rng: Rng,
        tried: tuple[EndpointId, ...],
    ) -> HostState:
        """Softmax over the range of costs: the highest is exp(1/temperature) times less likely."""
        least = min(costs)
        spread = (max(costs) - least or 1.0) * self._spec.temperature
        chances = [
            0.0 if host.endpoint.id in tried else host.weight * exp((least - cost) / spread)
            for host, cost in zip(hosts, costs, strict=True)
        ]
        return drawn(hosts, chances, rng) if any(chances) else cheapest(hosts, costs, rng)

    def __repr__(self) -> str:
        return f"<DynamoCost {self._placements!r}>"

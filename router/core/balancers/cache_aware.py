"""SGLang's cache-aware routing: to the longest match while loads are alike, else to the least load.

Loads are unlike when the busiest endpoint has more than ``balance_abs_threshold`` requests more
than the idlest, and more than ``balance_rel_threshold`` times as many. Then, and for a prompt of
which no endpoint holds more than ``cache_threshold``, the endpoint with the fewest requests in
flight is taken. Names, rules and figures are those of sgl-router's command line and of its heirs,
the SGLang model gateway and vLLM's router, which share the policy ``cache_aware``.

They keep a tree of characters for each model and trim it every so often. Here prompts are known by
their checkpoints, 512 bytes at first and a quarter of the depth later, and what is too much goes
as soon as it is: a prompt below 512 bytes matches nothing, and a burst cannot outgrow the limit.
"""

from collections.abc import Sequence
from math import inf
from typing import Annotated, ClassVar, Literal

import msgspec

from router.core.balancers.base import Accounts, Balancer, BalancerSpec, Scores
from router.core.balancers.weighted import cheapest
from router.core.clock import Rng
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import EndpointId, LlmRequest
from router.core.prefix.blocks import BLOCK, DEPTHS
from router.core.prefix.placements import Lineup, Placements


class CacheAware:
    class Spec(BalancerSpec, frozen=True, kw_only=True, tag="cache_aware"):
        """The endpoint that was sent most of the prompt before, unless it is much busier than
        others: SGLang's cache-aware routing.

        ``cache_threshold``: share of the prompt that must match, 0.5 in older versions.
        ``balance_abs_threshold``: affinity is given up while the busiest endpoint has more
        requests in flight than the idlest by more than this; with fewer clients than that it
        never is, and one endpoint may get everything. ``balance_rel_threshold``: and only while
        it has more than this times as many. ``fallback``: where a prompt without a match goes,
        ``least_loaded``, or ``smallest_tree`` as in older versions, which floods an endpoint that
        has just come.
        ``max_tree_size``: bytes of prompts that one endpoint is taken to hold.
        """

        reads_prompt: ClassVar[bool] = True

        cache_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.3
        balance_abs_threshold: Annotated[int, msgspec.Meta(ge=0)] = 64
        balance_rel_threshold: Annotated[float, msgspec.Meta(ge=1)] = 1.5
        fallback: Literal["least_loaded", "smallest_tree"] = "least_loaded"
        max_tree_size: Annotated[int, msgspec.Meta(ge=1 << 16)] = 1 << 26

        def build(self, rng: Rng, memory: ClusterMemory) -> Balancer:
            return CacheAware(self, memory.keep(Placements))

    __slots__ = ("_lineup", "_placements", "_spec")

    def __init__(self, spec: Spec, placements: Placements) -> None:
        self._spec = spec
        self._placements = placements
        self._lineup: Lineup | None = None
        placements.tune(capacity=spec.max_tree_size // BLOCK)

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
        loads = _loads(lineup)
        if self._unlike(loads):
            return cheapest(hosts, loads, rng, tried), "least loaded, loads differ"
        matches = self._placements.index.match(request.checkpoints, lineup.rows)
        if matches is not None:
            if tried:
                matches = [
                    0 if host.endpoint.id in tried else match
                    for host, match in zip(hosts, matches, strict=True)
                ]
            longest = max(matches)
            if self._enough(longest, request):
                costs = [
                    load if match == longest else inf
                    for match, load in zip(matches, loads, strict=True)
                ]
                return cheapest(hosts, costs, rng), "prefix match"
        if self._spec.fallback == "smallest_tree":
            return cheapest(hosts, self._trees(lineup), rng, tried), "no match, smallest tree"
        return cheapest(hosts, loads, rng, tried), "no match, least loaded"

    def explain(self, request: LlmRequest, hosts: Sequence[HostState]) -> Scores:
        """``matched``: bytes of the prompt. ``tree``: bytes of all prompts it is taken to hold."""
        lineup = self._placements.lineup(hosts, self._lineup)
        index, loads = self._placements.index, _loads(lineup)
        matches = index.match(request.checkpoints, lineup.rows) or [0] * len(hosts)
        return Scores(
            notes={
                "prompt": request.prompt_bytes,
                "balanced": "no: by load alone" if self._unlike(loads) else "yes: by match",
            },
            hosts={
                host.id: {
                    "matched": _matched(matches[n]),
                    "load": loads[n],
                    "tree": index.blocks(host.id) * BLOCK,
                }
                for n, host in enumerate(hosts)
            },
        )

    def _unlike(self, loads: Sequence[float]) -> bool:
        spec, most, least = self._spec, max(loads), min(loads)
        return (
            most - least > spec.balance_abs_threshold and most > least * spec.balance_rel_threshold
        )

    def _enough(self, match: int, request: LlmRequest) -> bool:
        return _matched(match) > self._spec.cache_threshold * request.prompt_bytes

    def _trees(self, lineup: Lineup) -> Sequence[float]:
        return lineup.by_share([self._placements.index.blocks(host.id) for host in lineup.hosts])

    def __repr__(self) -> str:
        return f"<CacheAware {self._placements.index!r}>"


def _matched(match: int) -> int:
    """Bytes up to the deepest of so many checkpoints."""
    return DEPTHS[match - 1] * BLOCK if match else 0


def _loads(lineup: Lineup) -> Sequence[float]:
    return lineup.by_share([host.burden for host in lineup.hosts])

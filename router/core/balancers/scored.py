"""Filters, weighted scorers and a picker: the Inference Extension's way, and llm-d's.

Filters say which endpoints come into question. Each scorer gives them a score from 0 to 1, the
sum of these by weight decides: the highest wins, one of several equal ones being drawn; or one is
drawn in proportion to the sums. The default is that of both projects: prefix 3, queue 2, KV cache
2. Names and figures of the parts are in ``router.core.scorers`` and ``router.core.filters``.

What a scorer does not know of an endpoint counts as the mean of what it knows of the others, so
that an endpoint whose metrics page cannot be read is neither shunned nor flooded.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from router.core.balancers.base import Accounts, Balancer, BalancerSpec, Scores
from router.core.balancers.weighted import cheapest, drawn
from router.core.clock import Rng
from router.core.filters import AnyFilter
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import EndpointId, LlmRequest
from router.core.prefix.placements import Placements
from router.core.scorers import AnyScorer
from router.core.scorers.base import Remembering
from router.core.scorers.kv_utilization import KvUtilization
from router.core.scorers.prefix_match import PrefixMatch
from router.core.scorers.queue_depth import QueueDepth


class _Never:
    """No chance: an explanation shows what is decided where nobody explores."""

    def random(self) -> float:
        return 1.0

    def randrange(self, stop: int, /) -> int:
        return stop - 1


NEVER = _Never()


class Scored:
    class Spec(BalancerSpec, frozen=True, kw_only=True, tag="scored"):
        """The endpoint with the best sum of scores: the plug points of the Gateway API Inference
        Extension and of llm-d.

        ``scorers``: what counts and how much. Those that read engines' metrics pages know them as
        they were at the last scrape: between two scrapes all requests see the same best endpoint.
        ``filters``: which endpoints are asked about at all. ``picker``: ``max_score`` takes the
        best, ``weighted_random`` draws in proportion to the sums.
        """

        scorers: Annotated[tuple[AnyScorer, ...], msgspec.Meta(min_length=1, max_length=16)] = (
            QueueDepth.Spec(weight=2.0),
            KvUtilization.Spec(weight=2.0),
            PrefixMatch.Spec(weight=3.0),
        )
        filters: Annotated[tuple[AnyFilter, ...], msgspec.Meta(max_length=8)] = ()
        picker: Literal["max_score", "weighted_random"] = "max_score"

        def __post_init__(self) -> None:
            names = [one.__struct_config__.tag for one in (*self.scorers, *self.filters)]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"{name} is given twice")
            if not any(one.weight for one in self.scorers):
                raise ValueError("one scorer at least needs a weight above 0")

        @property
        def reads_prompt(self) -> bool:
            return any(one.reads_prompt for one in self.scorers) or any(
                one.reads_prompt for one in self.filters
            )

        def build(self, rng: Rng, memory: ClusterMemory) -> Balancer:
            return Scored(self, memory)

    __slots__ = ("_draws", "_filters", "_names", "_placements", "_remembering", "_scorers")

    def __init__(self, spec: Spec, memory: ClusterMemory) -> None:
        self._placements = memory.keep(Placements)
        self._placements.tune()  # what another balancer wanted; scorers may want something else
        self._draws = spec.picker == "weighted_random"
        self._filters = [one.build(memory) for one in spec.filters]
        self._scorers = [(one.weight, one.build(memory)) for one in spec.scorers]
        self._names = [str(one.__struct_config__.tag) for one in spec.scorers]
        self._remembering = [one for _, one in self._scorers if isinstance(one, Remembering)]

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
        asked, reason = hosts, "best score"
        if tried:
            asked = [host for host in hosts if host.endpoint.id not in tried] or hosts
        for one in self._filters:
            asked = one.keep(request, asked, rng)
        costs = self._costs(request, asked, now)
        if costs is None:
            host, reason = drawn(asked, [host.weight for host in asked], rng), "no score"
        elif self._draws and any(costs):
            chances = [-cost * host.weight for cost, host in zip(costs, asked, strict=True)]
            host, reason = drawn(asked, chances, rng), "drawn by score"
        else:
            host = cheapest(asked, costs, rng)
        for scorer in self._remembering:
            scorer.chosen(request, host)
        return host, reason

    def explain(self, request: LlmRequest, hosts: Sequence[HostState]) -> Scores:
        """Each scorer's own score, and the sum by weight of those that no filter removes."""
        columns: dict[EndpointId, dict[str, float | str]] = {host.id: {} for host in hosts}
        for name, (_, scorer) in zip(self._names, self._scorers, strict=True):
            scores = scorer.score(request, hosts, 0.0)
            if scores is not None:
                for host, score in zip(hosts, scores, strict=True):
                    columns[host.id][name] = score
        kept = hosts
        for one in self._filters:
            kept = one.keep(request, kept, NEVER)
        for host, cost in zip(kept, self._costs(request, kept, 0.0) or (), strict=False):
            columns[host.id]["score"] = -cost
        weights = ", ".join(
            f"{name} {weight:g}"
            for name, (weight, _) in zip(self._names, self._scorers, strict=True)
        )
        return Scores(notes={"weights": weights}, hosts=columns)

    def _costs(
        self, request: LlmRequest, hosts: Sequence[HostState], now: float
    ) -> Sequence[float] | None:
        """The scores by weight, summed up and taken off 0; None: nobody knows anything."""
        costs: list[float] | None = None
        for weight, scorer in self._scorers:
            scores = scorer.score(request, hosts, now)
            if scores is None:
                continue
            if costs is None:
                costs = [-weight * score for score in scores]
            else:
                costs = [cost - weight * score for cost, score in zip(costs, scores, strict=True)]
        return costs

    def __repr__(self) -> str:
        return f"<Scored {', '.join(self._names)}>"

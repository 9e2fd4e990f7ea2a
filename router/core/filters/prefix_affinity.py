"""Only endpoints that hold nearly all of the prompt, while there are any and they are not swamped.

llm-d's prefix-cache-affinity-filter. Affinity is a gate here and not a score: among those that
have the prefix the load scorers choose alone, and once the wait there is longer than the penalty
anybody may be chosen. llm-d pairs it with one load scorer, ``token_load`` where prefill is the
bottleneck and ``in_flight`` where decode is; a ``prefix_match`` beside it would go on pulling to
the endpoints that the gate has just let go of.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec

from router.core.clock import Rng
from router.core.duration import Duration
from router.core.filters.base import Filter, FilterSpec
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest
from router.core.prefix.placements import TOKENS, Lineup, Placements


class PrefixAffinity:
    class Spec(FilterSpec, frozen=True, kw_only=True, tag="prefix_affinity"):
        """Keeps a request at the endpoints that hold its prefix, until they are too busy.

        ``threshold``: share of the prompt that they must hold. ``exploration``: share of requests
        that may go anywhere, so that prefixes spread. ``max_penalty``: affinity is given up while
        even the least busy of them needs so much longer for what it has to compute than the least
        busy of the others; 0 never gives up. ``prefill_rate``: tokens that an engine computes in
        a second, which makes time of tokens; llm-d's figure is that of a 32-billion-parameter
        model on two H100.
        """

        reads_prompt: ClassVar[bool] = True

        threshold: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.8
        exploration: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
        max_penalty: Duration = Duration(18)
        prefill_rate: Annotated[float, msgspec.Meta(gt=0)] = 15_928

        def build(self, memory: ClusterMemory) -> Filter:
            return PrefixAffinity(self, memory.keep(Placements))

    __slots__ = ("_lineup", "_placements", "_spec", "_worth")

    def __init__(self, spec: Spec, placements: Placements) -> None:
        self._spec = spec
        self._placements = placements
        self._lineup: Lineup | None = None
        self._worth = spec.max_penalty * spec.prefill_rate  # the penalty in tokens

    def keep(
        self, request: LlmRequest, hosts: Sequence[HostState], rng: Rng
    ) -> Sequence[HostState]:
        placements, spec = self._placements, self._spec
        lineup = self._lineup = placements.lineup(hosts, self._lineup)
        names = request.checkpoints[: placements.deepest]
        matches = placements.index.match(names, lineup.rows)
        if matches is None or (spec.exploration and rng.random() < spec.exploration):
            return hosts
        enough = spec.threshold * TOKENS[len(names)]
        holders = [n for n, match in enumerate(matches) if TOKENS[match] >= enough]
        if not holders or len(holders) == len(hosts):
            return hosts
        if self._worth:
            ahead = lineup.by_share([one.prefill for one in lineup.outstanding])
            held = set(holders)
            soonest = min(ahead[n] for n in holders)
            others = min(load for n, load in enumerate(ahead) if n not in held)
            if soonest - others > self._worth:
                return hosts
        return [hosts[n] for n in holders]

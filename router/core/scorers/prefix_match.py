"""More of the prompt at an endpoint before is better (prefix-cache-scorer, approximate producer).

The Inference Extension and llm-d cut prompts into blocks of 64 characters or 16 tokens and
remember for each endpoint the 31250 it was sent last, 500,000 tokens, or as many as its metrics say
that it has (``auto_tune``). The score is the share of the prompt's blocks, from the first one on,
of which at most ``max_prefix_tokens`` count: 131072 in llm-d, 4096 (256 blocks) in the Inference
Extension, where prompts with as long a common beginning look all the same. Here the blocks are
those of the checkpoints.

It is a share: a short prompt that matches whole scores as high as a long one.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec

from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest
from router.core.prefix.placements import TOKENS, TOKENS_PER_BLOCK, Lineup, Placements
from router.core.scorers.base import Scorer, ScorerSpec


class PrefixMatch:
    class Spec(ScorerSpec, frozen=True, kw_only=True, tag="prefix_match"):
        """The share of the prompt that an endpoint was sent before, and should have cached.

        ``weight``: how much the score counts against the others. ``max_prefix_tokens``: of longer
        prompts only so much is looked at. ``lru_capacity``: tokens that an endpoint is taken to
        have cached. ``auto_tune``: where an engine tells how much its cache holds, that counts.
        """

        reads_prompt: ClassVar[bool] = True

        max_prefix_tokens: Annotated[int, msgspec.Meta(ge=TOKENS_PER_BLOCK)] = 131_072
        lru_capacity: Annotated[int, msgspec.Meta(ge=TOKENS_PER_BLOCK)] = 500_000
        auto_tune: bool = True

        def build(self, memory: ClusterMemory) -> Scorer:
            return PrefixMatch(self, memory.keep(Placements))

    __slots__ = ("_lineup", "_placements")

    def __init__(self, spec: Spec, placements: Placements) -> None:
        self._placements = placements
        self._lineup: Lineup | None = None
        placements.tune(
            capacity=spec.lru_capacity // TOKENS_PER_BLOCK,
            deepest=sum(0 < tokens <= spec.max_prefix_tokens for tokens in TOKENS),
            reported=spec.auto_tune,
        )

    def score(
        self, request: LlmRequest, hosts: Sequence[HostState], now: float
    ) -> Sequence[float] | None:
        placements = self._placements
        lineup = self._lineup = placements.lineup(hosts, self._lineup)
        names = request.checkpoints[: placements.deepest]
        matches = placements.index.match(names, lineup.rows)
        if matches is None:
            return None
        shares = [tokens / TOKENS[len(names)] for tokens in TOKENS[: len(names) + 1]]
        return [shares[match] for match in matches]

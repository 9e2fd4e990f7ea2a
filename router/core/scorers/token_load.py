"""Fewer tokens ahead are better (llm-d's token-load-scorer).

Counted are the tokens of prompts that an endpoint was sent and has not computed: not those that it
should have cached, and those of an attempt until its first token. This request's own count as if
it had been sent already. Work instead of requests: of all the scores that need no metrics page the
one that says most.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec

from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest
from router.core.prefix.placements import TOKENS, Lineup, Placements, prompt_tokens
from router.core.scorers.base import Scorer, ScorerSpec


class TokenLoad:
    class Spec(ScorerSpec, frozen=True, kw_only=True, tag="token_load"):
        """Prompt tokens on their way to an endpoint, with this request's: none score 1.

        ``weight``: how much the score counts against the others. ``queue_threshold_tokens``: so
        many score 0, and less in proportion; 128 requests of 32k tokens. A lower one makes this
        score tell more beside others.
        """

        reads_prompt: ClassVar[bool] = True

        queue_threshold_tokens: Annotated[int, msgspec.Meta(ge=1)] = 4_194_304

        def build(self, memory: ClusterMemory) -> Scorer:
            return TokenLoad(self, memory.keep(Placements))

    __slots__ = ("_lineup", "_placements", "_threshold")

    def __init__(self, spec: Spec, placements: Placements) -> None:
        self._threshold = spec.queue_threshold_tokens
        self._placements = placements
        self._lineup: Lineup | None = None

    def score(
        self, request: LlmRequest, hosts: Sequence[HostState], now: float
    ) -> Sequence[float] | None:
        placements = self._placements
        lineup = self._lineup = placements.lineup(hosts, self._lineup)
        ahead = lineup.by_share([one.prefill for one in lineup.outstanding])
        names = request.checkpoints[: placements.deepest]
        matches = placements.index.match(names, lineup.rows)
        prompt, most = prompt_tokens(request), self._threshold
        if matches is None:
            return [1.0 - min(load + prompt, most) / most for load in ahead]
        return [
            1.0 - min(load + prompt - TOKENS[match], most) / most
            for load, match in zip(ahead, matches, strict=True)
        ]

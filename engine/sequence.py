"""One choice of one request while it lives in the engine.

Two numbers drive everything: how many tokens are *known* (prompt + output so far) and how many
are *computed* (their keys and values are in the cache). Prefill, chunked prefill, decode and
recomputation after a preemption are all "compute some of the known ones"; a step that reaches
the last known token yields the next.
"""

import enum

from engine.blocks import BlockTable, extend_chain
from engine.request import EngineRequest, SamplingParams, TokenLogprob


class State(enum.Enum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class Sequence:
    """Mutable state of choice `index`. `first` is choice 0, whose prompt blocks it may share.

    `order` is the request's place in arrival order. `seed` is already specific to the choice.
    """

    __slots__ = (
        "admitted",
        "end",
        "first",
        "first_scheduled",
        "hashes",
        "index",
        "key",
        "num_cached",
        "num_computed",
        "num_prompt",
        "prompt_logprobs",
        "registered",
        "request",
        "sampling",
        "seed",
        "state",
        "table",
        "tokens",
    )

    def __init__(
        self,
        request: EngineRequest,
        *,
        index: int = 0,
        order: int,
        seed: int,
        max_model_len: int,
        by_priority: bool = False,
        first: "Sequence | None" = None,
    ) -> None:
        self.request = request
        self.sampling: SamplingParams = request.sampling
        self.index = index
        self.first = first
        self.seed = seed
        rank = (request.priority, request.arrival) if by_priority else (0, 0.0)
        self.key = (*rank, order, index)
        self.tokens = list(request.prompt_token_ids)
        self.num_prompt = len(self.tokens)
        limit = self.sampling.max_tokens
        room = max_model_len - self.num_prompt
        self.end = self.num_prompt + (room if limit is None else min(limit, room))
        self.num_computed = 0
        self.num_cached = 0
        self.admitted = False
        self.first_scheduled: float | None = None
        self.registered = 0
        self.table = BlockTable()
        self.hashes = list(request.block_hashes)
        self.state = State.WAITING
        wants_prompt = index == 0 and self.sampling.prompt_logprobs is not None
        self.prompt_logprobs: list[TokenLogprob | None] | None = (
            [None] * self.num_prompt if wants_prompt else None
        )

    @property
    def remaining(self) -> int:
        """Known tokens that are not computed yet."""
        return len(self.tokens) - self.num_computed

    @property
    def num_output(self) -> int:
        return len(self.tokens) - self.num_prompt

    @property
    def awaits_prompt(self) -> bool:
        """Choice 0 is still computing the prompt whose blocks this choice wants to share."""
        first = self.first
        return (
            first is not None
            and first.state is not State.FINISHED
            and first.num_computed < first.num_prompt
        )

    def block_hashes(self, count: int, block_size: int) -> list[bytes]:
        """Chained hashes of the first `count` blocks, all of whose tokens must be known."""
        extend_chain(self.hashes, self.tokens, count, block_size, self.request.cache_salt)
        return self.hashes[:count]

    def __repr__(self) -> str:
        return (
            f"<Sequence {self.request.request_id}/{self.index} {self.state.value} "
            f"{self.num_computed}/{len(self.tokens)} tokens, {len(self.table)} blocks>"
        )

"""Which tokens the next step computes.

No phases: every sequence has known and computed tokens, and a step computes some of the
difference. Running sequences come first, single-token (decode) ones before prompts in progress,
then the waiting queue in order. When the pool is dry the worst running sequence gives up its
blocks and queues again; its cached blocks usually make the recomputation a prefix hit. A new
sequence is admitted only if the whole of what it already knows fits beside what the running ones
still need, so that admission and preemption do not chase each other.
"""

import bisect
import math
from typing import NamedTuple

from engine.blocks import BlockPool
from engine.config import EngineConfig
from engine.kv_events.wire import short_name
from engine.sequence import Sequence, State


class Scheduled(NamedTuple):
    """`length` tokens of `sequence` to compute, beginning at its position `start`."""

    sequence: Sequence
    start: int
    length: int

    @property
    def samples(self) -> bool:
        """True when this chunk ends at the last known token, so that the next one follows."""
        return self.start + self.length == len(self.sequence.tokens)


class Scheduler:
    """Queues, seats and blocks. Mutated only by its own methods, between steps."""

    def __init__(self, config: EngineConfig, pool: BlockPool) -> None:
        self.pool = pool
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self.preemptions = 0
        self.prefix_queries = 0
        self.prefix_hits = 0
        self._waiting_tokens = 0
        self._seats = config.max_num_seqs
        self._token_budget = config.max_num_batched_tokens
        self._chunked = config.enable_chunked_prefill
        self._long_cap = config.long_prefill_token_threshold
        self._watermark = math.ceil(config.watermark * pool.num_blocks)

    @property
    def queued_prefill_tokens(self) -> int:
        """Tokens still to be computed before everybody is in decode.

        What waits counts whole, as nobody has looked yet what the cache spares it.
        """
        begun = sum(s.remaining for s in self.running if s.remaining > 1)
        return self._waiting_tokens + begun

    def add(self, sequence: Sequence) -> None:
        """Queue a new or preempted sequence at the place its key gives it."""
        bisect.insort(self.waiting, sequence, key=_key)
        self._waiting_tokens += _own_tokens(sequence)

    def release(self, sequence: Sequence) -> None:
        """Take a finished or aborted sequence out, wherever it is, and free its blocks now."""
        if sequence.state is State.RUNNING:
            self.running.remove(sequence)
        elif sequence.state is State.WAITING:
            self.waiting.remove(sequence)
            self._waiting_tokens -= _own_tokens(sequence)
        sequence.state = State.FINISHED
        self._drop_blocks(sequence)

    def schedule(self, prefill_tokens: int) -> list[Scheduled]:
        """The next step: decodes first, then prompt chunks of at most `prefill_tokens` in all.

        Holds the blocks that the step writes to. Empty only when nothing can run.
        """
        plan: dict[Sequence, int] = {}
        before = self.preemptions
        ready = [s for s in self.running if s.remaining == 1]
        for sequence in ready:
            if sequence.state is State.RUNNING:
                self._grow(sequence, 1, plan)
        decodes = len(plan)
        if self._chunked:
            prefill_tokens = min(prefill_tokens, self._token_budget - decodes)
        else:
            prefill_tokens = self._token_budget
        for sequence in [s for s in self.running if s.remaining > 1]:
            length = self._chunk(sequence, prefill_tokens)
            if length and sequence.state is State.RUNNING and self._grow(sequence, length, plan):
                prefill_tokens -= length
        if self.preemptions == before:
            self._admit(prefill_tokens, plan)
        return [Scheduled(s, s.num_computed, length) for s, length in plan.items()]

    def complete(self, step: list[Scheduled]) -> None:
        """Record that `step` ran: its tokens are computed, its full blocks can be found."""
        size = self.pool.block_size
        for sequence, start, length in step:
            sequence.num_computed = start + length
            if not self.pool.caching:
                continue
            full = sequence.num_computed // size
            if full > sequence.registered:
                self._register(sequence, full)

    def _register(self, sequence: Sequence, full: int) -> None:
        """Let the first `full` blocks of `sequence` be found; the log hears of new ones."""
        pool, first = self.pool, sequence.registered
        hashes = sequence.block_hashes(full, pool.block_size)
        fresh = [
            i - first
            for i in range(first, full)
            if pool.register(sequence.table.blocks[i], hashes[i])
        ]
        sequence.registered = full
        if pool.log is not None and fresh:
            pool.log.stored(
                [short_name(digest) for digest in hashes[first:]],
                fresh,
                short_name(hashes[first - 1]) if first else None,
                sequence.tokens[first * pool.block_size : full * pool.block_size],
                sequence.request.cache_salt,
            )

    def _admit(self, budget: int, plan: dict[Sequence, int]) -> None:
        owed = sum(self._owed(s) for s in self.running)
        place = 0
        while place < len(self.waiting) and len(self.running) < self._seats and budget > 0:
            sequence = self.waiting[place]
            if sequence.awaits_prompt:
                place += 1
                continue
            shared = self._shared_blocks(sequence)
            size = self.pool.block_size
            need = self.pool.blocks_for(len(sequence.tokens)) - len(shared)
            left = self.pool.num_free - self.pool.num_free_among(shared) - need - owed
            if left < 0 or (self.running and left < self._watermark):
                return
            length = self._limit(len(sequence.tokens) - len(shared) * size, budget)
            if length == 0:
                return
            del self.waiting[place]
            self._waiting_tokens -= _own_tokens(sequence)
            self._seat(sequence, shared)
            self._grow(sequence, length, plan)
            owed += self._owed(sequence)
            budget -= length

    def _seat(self, sequence: Sequence, shared: list[int]) -> None:
        self.pool.share(shared)
        sequence.table.extend(shared)
        sequence.num_computed = len(shared) * self.pool.block_size
        sequence.registered = len(shared)
        sequence.state = State.RUNNING
        self.running.append(sequence)
        if not sequence.admitted:
            sequence.admitted = True
            sequence.num_cached = sequence.num_computed
            if self.pool.caching and sequence.prompt_logprobs is None:
                self.prefix_queries += sequence.num_prompt
                self.prefix_hits += sequence.num_computed

    def _shared_blocks(self, sequence: Sequence) -> list[int]:
        """Blocks whose contents the sequence can take over; at least one token stays to compute.

        A request that wants the prompt's log-probabilities needs every position computed.
        """
        if sequence.prompt_logprobs is not None:
            return []
        size = self.pool.block_size
        limit = (len(sequence.tokens) - 1) // size
        shared = self.pool.find(sequence.block_hashes(limit, size)) if self.pool.caching else []
        first = sequence.first
        if first is not None and first.state is State.RUNNING:
            common = min(sequence.num_prompt, first.num_computed) // size
            common = min(common, limit)
            if common > len(shared):
                shared = first.table.blocks[:common]
        return shared

    def _owed(self, sequence: Sequence) -> int:
        """Blocks a running sequence still needs for tokens it already knows."""
        return max(0, self.pool.blocks_for(len(sequence.tokens)) - len(sequence.table))

    def _chunk(self, sequence: Sequence, budget: int) -> int:
        return self._limit(sequence.remaining, budget)

    def _limit(self, remaining: int, budget: int) -> int:
        if not self._chunked:
            return remaining if remaining <= budget else 0
        if self._long_cap:
            budget = min(budget, self._long_cap)
        return min(remaining, budget)

    def _grow(self, sequence: Sequence, length: int, plan: dict[Sequence, int]) -> bool:
        """Hold blocks for `length` more tokens, preempting as needed. False: itself preempted."""
        need = self.pool.blocks_for(sequence.num_computed + length) - len(sequence.table)
        if need > 0:
            while True:
                last = sequence.table.blocks[-1] if sequence.table.blocks else None
                blocks = self.pool.allocate(need, after=last)
                if blocks is not None:
                    break
                victim = max(self.running, key=_key)
                plan.pop(victim, None)
                self._preempt(victim)
                if victim is sequence:
                    return False
            sequence.table.extend(blocks)
        plan[sequence] = length
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._drop_blocks(sequence)
        sequence.num_computed = 0
        sequence.state = State.WAITING
        self.preemptions += 1
        self.add(sequence)

    def _drop_blocks(self, sequence: Sequence) -> None:
        self.pool.free(sequence.table.blocks)
        sequence.table.clear()

    def __repr__(self) -> str:
        return f"<Scheduler {len(self.running)} running, {len(self.waiting)} waiting, {self.pool}>"


def _own_tokens(sequence: Sequence) -> int:
    """Tokens that a waiting sequence brings; further choices share the prompt of the first."""
    return len(sequence.tokens) if sequence.first is None or sequence.admitted else 0


def _key(sequence: Sequence) -> tuple[float, float, int, int]:
    return sequence.key

"""When an emulated engine would produce which token: continuous batching in virtual time.

The engine works in steps.  A step decodes one token for every sequence past its prompt and spends
the rest of its token budget on prompts, first the ones already begun, then waiting ones in order
of arrival (chunked prefill).  A waiting sequence is admitted when there is a seat and when all the
KV blocks it will ever need can be reserved; while the head of the queue does not fit, nobody
overtakes it.  How long a step lasts is in `profiles`; all its tokens appear at its end.  Nothing
here reads a clock: `now` is an argument, and `next_time` says when to call `advance` again.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

from engine.emulator.kv import BYTES_PER_TOKEN, KvCache, Reservation, chain_hashes
from engine.emulator.profiles import Timing
from engine.kv_events import Event, EventLog

# Without any cost per step a long answer would come out in one burst and starve the event loop:
# it is cut into steps of this many tokens instead.
FREE_STEP_TOKENS = 64


class Sequence:
    """One request in the model.

    `width` choices are decoded side by side from one prompt.  `target` is the number of tokens of
    each choice; 0 means that the prompt is only read (embeddings).  `hashes` are the chain of the
    prompt's full blocks, of which the first `named` are in the prefix cache.  Of the `cached`
    tokens `reloaded` came from the host tier.  `fresh` is how many tokens per choice the last step
    added.  A `slow_factor` of 3 makes every step last three times as long for this sequence,
    `slow_delay` adds seconds per token; after `stall_at` tokens it pauses for `stall_for` seconds.
    """

    __slots__ = (
        *("owner", "prompt", "prompt_tokens", "target", "width", "hashes", "named", "cached"),
        *("reloaded", "computed"),
        *("produced", "fresh", "done", "arrival", "scheduled", "first_token", "last_token"),
        *("held", "not_before", "slow_factor", "slow_delay", "stall_at", "stall_for"),
    )

    def __init__(
        self,
        prompt: bytes,
        prompt_tokens: int,
        target: int,
        *,
        width: int = 1,
        owner: object = None,
    ) -> None:
        self.owner = owner
        self.prompt = prompt
        self.prompt_tokens = prompt_tokens
        self.target = target
        self.width = width
        self.hashes: list[int] = []
        self.named = 0
        self.cached = 0
        self.reloaded = 0
        self.computed = 0
        self.produced = 0
        self.fresh = 0
        self.done = False
        self.arrival = 0.0
        self.scheduled: float | None = None
        self.first_token: float | None = None
        self.last_token = 0.0
        self.held: Reservation | None = None
        self.not_before = -math.inf
        self.slow_factor = 1.0
        self.slow_delay = 0.0
        self.stall_at: int | None = None
        self.stall_for = math.inf

    def __repr__(self) -> str:
        return (
            f"Sequence(computed={self.computed}/{self.prompt_tokens}, cached={self.cached}, "
            f"produced={self.produced}/{self.target}, done={self.done})"
        )


class Step:
    """What one engine step did: its span, its tokens, and the sequences that got tokens.

    `reloaded` tokens came from the host tier, `events` are the changes of the KV cache since the
    step before.
    """

    __slots__ = ("decoded", "end", "events", "prefilled", "progressed", "reloaded", "start")

    def __init__(self, start: float) -> None:
        self.start = start
        self.end = start
        self.prefilled = 0
        self.decoded = 0
        self.reloaded = 0
        self.progressed: list[Sequence] = []
        self.events: list[Event] = []

    def __repr__(self) -> str:
        return (
            f"Step({self.start:.6f}..{self.end:.6f}, prefilled={self.prefilled}, "
            f"decoded={self.decoded}, progressed={len(self.progressed)})"
        )


class EngineModel:
    """The scheduler, the KV cache and the clockwork of one emulated engine."""

    def __init__(
        self,
        timing: Timing,
        answer: Callable[[int], bytes] | None = None,
        log: EventLog | None = None,
    ) -> None:
        """`answer(n)` is the text of an answer of n tokens, if later prompts may contain it.

        `log` is where the KV cache notes its changes, for `Step.events`.
        """
        self.timing = timing
        self._answer = answer
        self._log = log
        self.kv = KvCache(timing.num_blocks, timing.host_blocks, log)
        self.waiting: OrderedDict[Sequence, None] = OrderedDict()
        self.running: dict[Sequence, None] = {}
        self.queued_prefill_tokens = 0
        self._seats = timing.max_num_seqs
        self._usage: float | None = None
        self._step: Step | None = None
        self._plan: list[tuple[Sequence, int]] = []
        self._wake: float | None = None
        self._tokens_per_step = FREE_STEP_TOKENS if timing.free else 1

    @property
    def next_time(self) -> float | None:
        """When `advance` has something to do; None while idle."""
        return self._wake if self._step is None else self._step.end

    @property
    def full(self) -> bool:
        """Whether the waiting queue is at its limit."""
        limit = self.timing.max_queued
        return limit is not None and len(self.waiting) >= limit

    def kv_usage(self) -> float:
        """Share of blocks that hold computed tokens of running sequences, 0 to 1."""
        if self._usage is None:
            # Once a step at most: every answer's head may ask.
            ahead = sum(self._blocks_needed(s) - self._blocks_filled(s) for s in self.running)
            self._usage = max(0, self.kv.in_use - ahead) / self.timing.num_blocks
        return self._usage

    def blocks_for(self, prompt_tokens: int, target: int, width: int = 1) -> int:
        """Blocks that such a sequence reserves."""
        size = self.timing.block_size
        own = -(-(prompt_tokens + target) // size)
        # Choices share the full prompt blocks.
        return own + (width - 1) * (own - prompt_tokens // size)

    def chain(self, sequence: Sequence) -> list[int]:
        """Names of the prompt's full blocks."""
        if not sequence.hashes and self.timing.prefix_caching:
            sequence.hashes = chain_hashes(sequence.prompt, self.timing.block_size)
        return sequence.hashes

    def submit(self, sequence: Sequence, now: float) -> None:
        """Queue a sequence that `blocks_for` says can fit; an idle engine starts at once."""
        sequence.arrival = now
        self.chain(sequence)
        self.waiting[sequence] = None
        self.queued_prefill_tokens += sequence.prompt_tokens
        if self._step is None:
            self._start(now)

    def cancel(self, sequence: Sequence, now: float) -> None:
        """Forget a sequence in any state; its blocks are free at once."""
        self.waiting.pop(sequence, None)
        if sequence in self.running:
            self._leave(sequence)
        self.queued_prefill_tokens -= sequence.prompt_tokens - sequence.computed
        self._usage = None
        sequence.done = True
        if self._step is None:
            self._start(now)

    def advance(self, now: float) -> list[Step]:
        """Finish every step that ends at or before `now`, in order.

        With free steps at most one is finished per call, so that the caller can breathe.
        """
        steps: list[Step] = []
        while True:
            if self._step is None:
                if self._wake is None or self._wake > now:
                    return steps
                self._start(self._wake)
                if self._step is None:
                    return steps
            if self._step.end > now:
                return steps
            step = self._step
            self._finish(step)
            steps.append(step)
            self._start(step.end)
            if self.timing.free:
                return steps

    def _start(self, now: float) -> None:
        self._step = None
        self._wake = None
        self._usage = None
        plan = self._plan = []
        timing = self.timing
        step = Step(now)
        context = 0
        begun: list[Sequence] = []
        held_until = math.inf
        for sequence in self.running:
            if sequence.not_before > now:
                held_until = min(held_until, sequence.not_before)
            elif sequence.computed >= sequence.prompt_tokens:
                plan.append((sequence, 0))
                step.decoded += sequence.width
                context += (sequence.prompt_tokens + sequence.produced) * sequence.width
            else:
                begun.append(sequence)
        quadratic = self._plan_prompts(step, begun)
        if not plan:
            self._wake = None if math.isinf(held_until) else held_until
            return
        step.end = now + timing.step_seconds(
            decoding=step.decoded,
            context=context,
            prompt=step.prefilled,
            quadratic=quadratic,
            reloaded=step.reloaded,
        )
        self._step = step

    def _plan_prompts(self, step: Step, begun: list[Sequence]) -> float:
        """Spend what decoding leaves of the budget; the sum of tokens before each token."""
        budget = self.timing.max_num_batched_tokens - step.decoded
        quadratic = 0.0
        while budget > 0:
            if begun:
                sequence = begun.pop(0)
            elif self.waiting:
                sequence = next(iter(self.waiting))
                if not self._admit(sequence, step):
                    break
            else:
                break
            chunk = min(budget, sequence.prompt_tokens - sequence.computed)
            self._plan.append((sequence, chunk))
            step.prefilled += chunk
            quadratic += chunk * (sequence.computed + chunk / 2)
            budget -= chunk
        return quadratic

    def _admit(self, sequence: Sequence, step: Step) -> bool:
        if sequence.width > self._seats:
            return False
        size = self.timing.block_size
        # At least one prompt token is always computed: its output gives the first new token.
        usable = max(0, (sequence.prompt_tokens - 1) // size)
        hits = self.kv.hits(sequence.hashes[:usable])
        shared = sequence.hashes[:hits]
        fresh = self._blocks_needed(sequence) - hits
        held = self.kv.reserve(shared, fresh, sequence.prompt)
        if held is None:
            return False
        sequence.reloaded = held.reloaded * size
        step.reloaded += sequence.reloaded
        del self.waiting[sequence]
        self.running[sequence] = None
        self._seats -= sequence.width
        sequence.held = held
        sequence.scheduled = step.start
        sequence.named = hits
        sequence.cached = sequence.computed = hits * size
        self.queued_prefill_tokens -= sequence.computed
        return True

    def _finish(self, step: Step) -> None:
        for sequence, chunk in self._plan:
            if sequence.done:
                continue
            if chunk:
                sequence.computed += chunk
                self.queued_prefill_tokens -= chunk
                self._name_blocks(sequence)
                if sequence.computed < sequence.prompt_tokens:
                    self._hold_back(sequence, step)
                    continue
            most = 1 if sequence.slow_delay else self._tokens_per_step
            sequence.fresh = min(most, sequence.target - sequence.produced)
            stall = sequence.stall_at
            if stall is not None and stall > sequence.produced:
                sequence.fresh = min(sequence.fresh, stall - sequence.produced)
            sequence.produced += sequence.fresh
            if sequence.first_token is None:
                sequence.first_token = step.end
            sequence.done = sequence.produced >= sequence.target
            step.progressed.append(sequence)
            if sequence.done:
                self._remember(sequence)
                self._leave(sequence)
            else:
                self._hold_back(sequence, step)
        if self._log is not None:
            step.events = self._log.take()

    def _name_blocks(self, sequence: Sequence) -> None:
        """Name the blocks of the prompt that are full now."""
        size = self.timing.block_size
        first, last = sequence.named, min(sequence.computed // size, len(sequence.hashes))
        if last <= first:
            return
        assert sequence.held is not None
        sequence.named = last
        self.kv.register(
            sequence.held,
            sequence.hashes[first:last],
            parent=sequence.hashes[first - 1] if first else None,
            content=sequence.prompt[first * size * BYTES_PER_TOKEN : last * size * BYTES_PER_TOKEN],
        )

    def _hold_back(self, sequence: Sequence, step: Step) -> None:
        if sequence.slow_factor > 1 or sequence.slow_delay:
            stretch = (step.end - step.start) * sequence.slow_factor
            sequence.not_before = step.start + stretch + sequence.slow_delay * sequence.fresh
        if sequence.stall_at is not None and sequence.produced == sequence.stall_at:
            sequence.stall_at = None
            sequence.not_before = step.end + sequence.stall_for

    def _leave(self, sequence: Sequence) -> None:
        del self.running[sequence]
        self._seats += sequence.width
        if sequence.held is not None:
            self.kv.release(sequence.held)
            sequence.held = None

    def _remember(self, sequence: Sequence) -> None:
        """Name the answer's blocks too, so that the next turn of a conversation finds them."""
        if self._answer is None or sequence.held is None or sequence.width > 1:
            return
        if not self.timing.prefix_caching:
            return
        size = self.timing.block_size
        full = len(sequence.hashes) * size * BYTES_PER_TOKEN
        parent = sequence.hashes[-1] if sequence.hashes else None
        tail = sequence.prompt[full:] + self._answer(sequence.produced)
        names = chain_hashes(tail, size, parent)
        content = tail[: len(names) * size * BYTES_PER_TOKEN]
        self.kv.register(sequence.held, names, parent=parent, content=content)

    def _blocks_needed(self, sequence: Sequence) -> int:
        return self.blocks_for(sequence.prompt_tokens, sequence.target, sequence.width)

    def _blocks_filled(self, sequence: Sequence) -> int:
        return self.blocks_for(sequence.computed, sequence.produced, sequence.width)

    def __repr__(self) -> str:
        return (
            f"EngineModel(running={len(self.running)}, waiting={len(self.waiting)}, kv={self.kv!r})"
        )

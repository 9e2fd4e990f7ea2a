"""Block pool and scheduler against a shadow cache, driven at random.

The shadow remembers for every cache slot which token was written there and everything before it.
Whatever is added, run, preempted, aborted or reset: every position that a sequence counts as
computed must hold that sequence's own prefix, references must match the tables, and at the end
nothing is held. The KV events, decoded by a subscriber's means alone, must at any time tell exactly
which blocks can be found.
"""

import hashlib
import struct
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engine.blocks import BlockPool
from engine.config import EngineConfig, ModelConfig
from engine.kv_events import EventLog
from engine.kv_events.wire import as_maps, short_name
from engine.request import EngineRequest, SamplingParams
from engine.scheduler import Scheduler
from engine.sequence import Sequence, State
from tests.engine.kv_events.shadow import Shadow, events_of

SIZE = 2
MAX_LENGTH = 20
PROMPTS = st.builds(
    lambda blocks, tail: [token for block in blocks for token in block] + tail,
    st.lists(st.sampled_from([(0, 0), (0, 1), (1, 0)]), max_size=5),
    st.lists(st.integers(0, 1), min_size=1, max_size=2),
)
MODEL = ModelConfig(
    architecture="LlamaForCausalLM",
    vocab_size=4,
    hidden_size=8,
    intermediate_size=8,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=8,
)


class Digests:
    """Whole hashes by the names in events, worked out from what the events say."""

    def __init__(self) -> None:
        self._by_name: dict[int, bytes] = {}

    def name(self, parent: int | None, tokens: list[int], extra: tuple[str, ...] | None) -> int:
        assert extra is None or parent is None
        salt = extra[0] if extra else ""
        start = f"warmpath:{salt}".encode() if parent is None else self._by_name[parent]
        digest = hashlib.sha256(start + struct.pack(f"<{len(tokens)}q", *tokens)).digest()
        self._by_name[short_name(digest)] = digest
        return short_name(digest)


class ShadowedScheduler(RuleBasedStateMachine):
    @initialize(
        blocks=st.integers(10, 24),
        seats=st.integers(1, 6),
        caching=st.booleans(),
        chunked=st.booleans(),
        policy=st.sampled_from(["fcfs", "priority"]),
        cap=st.sampled_from([0, 3]),
    )
    def start(
        self, blocks: int, seats: int, caching: bool, chunked: bool, policy: str, cap: int
    ) -> None:
        config = EngineConfig(
            model=MODEL,
            block_size=SIZE,
            num_blocks=blocks,
            max_num_seqs=seats,
            max_num_batched_tokens=MAX_LENGTH + seats,
            enable_chunked_prefill=chunked,
            long_prefill_token_threshold=cap,
            watermark=0.05,
        )
        self.log = EventLog(SIZE)
        self.told = Shadow(Digests().name)
        self.pool = BlockPool(blocks, SIZE, caching=caching, log=self.log)
        self.scheduler = Scheduler(config, self.pool)
        self.by_priority = policy == "priority"
        self.shadow: dict[tuple[int, int], tuple[object, ...]] = {}
        self.live: list[Sequence] = []
        self.added = 0

    @rule(
        prompts=st.lists(PROMPTS, min_size=1, max_size=4),
        n=st.integers(1, 3),
        count=st.integers(1, 8),
        salt=st.sampled_from([None, "x"]),
        priority=st.integers(0, 2),
        scores_prompt=st.booleans(),
    )
    def add(
        self,
        prompts: list[list[int]],
        n: int,
        count: int,
        salt: str | None,
        priority: int,
        scores_prompt: bool,
    ) -> None:
        for prompt in prompts:
            self._add(prompt, n, count, salt, priority, scores_prompt)

    def _add(
        self,
        prompt: list[int],
        n: int,
        count: int,
        salt: str | None,
        priority: int,
        scores_prompt: bool,
    ) -> None:
        sampling = SamplingParams(
            n=n, max_tokens=count, prompt_logprobs=0 if scores_prompt else None
        )
        request = EngineRequest(
            request_id=str(self.added),
            prompt_token_ids=prompt,
            sampling=sampling,
            arrival=float(self.added),
            priority=priority,
            cache_salt=salt,
        )
        first: Sequence | None = None
        for index in range(n):
            sequence = Sequence(
                request,
                index=index,
                order=self.added,
                seed=0,
                max_model_len=MAX_LENGTH,
                by_priority=self.by_priority,
                first=first,
            )
            first = first or sequence
            self.scheduler.add(sequence)
            self.live.append(sequence)
        self.added += 1

    @rule(budget=st.integers(1, 12), tokens=st.lists(st.integers(0, 1), min_size=1, max_size=8))
    def steps(self, budget: int, tokens: list[int]) -> None:
        for token in tokens:
            self.step(budget, token)

    def step(self, budget: int, token: int) -> None:
        step = self.scheduler.schedule(budget)
        if self.live:
            assert step, f"work is queued but nothing runs: {self.scheduler}"
        lengths = [s.length for s in step]
        decodes = [length for s, _, length in step if s.num_output]
        assert min(lengths, default=1) >= 1
        assert len(step) == len({id(s.sequence) for s in step})
        assert len(decodes) <= len(self.scheduler.running)
        for sequence, start, length in step:
            for position in range(start, start + length):
                place = self._place(sequence, position)
                self.shadow[place] = self._prefix(sequence, position)
        self.scheduler.complete(step)
        for scheduled in step:
            sequence = scheduled.sequence
            if sequence.num_computed == len(sequence.tokens):
                sequence.tokens.append(token)
                if len(sequence.tokens) >= sequence.end:
                    self._leave(sequence)

    @rule(which=st.integers(0, 100))
    def abort(self, which: int) -> None:
        if self.live:
            self._leave(self.live[which % len(self.live)])

    @rule()
    def reset(self) -> None:
        self.pool.reset_cache()

    @invariant()
    def pool_is_sound(self) -> None:
        if not hasattr(self, "pool"):
            return
        self.pool.check()
        held = Counter(block for s in self.live for block in s.table.blocks)
        assert self.pool.num_held == len(held)
        for block, count in held.items():
            assert self.pool._references[block] == count

    @invariant()
    def events_tell_what_can_be_found(self) -> None:
        if hasattr(self, "pool"):
            self.told.apply(events_of(as_maps(0.0, self.log.take())))
            assert self.told.blocks["GPU"] == {short_name(d) for d in self.pool._by_hash}

    @invariant()
    def tokens_to_compute_are_counted(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        running = [s.remaining for s in self.scheduler.running if s.remaining > 1]
        # A choice beyond the first shares that one's prompt until it has run by itself.
        waiting = [len(s.tokens) for s in self.scheduler.waiting if not s.index or s.admitted]
        assert self.scheduler.queued_prefill_tokens == sum(running) + sum(waiting)

    @invariant()
    def computed_positions_hold_their_own_prefix(self) -> None:
        for sequence in getattr(self, "live", []):
            if sequence.state is State.WAITING:
                assert not sequence.table.blocks
                assert sequence.num_computed == 0
            for position in range(sequence.num_computed):
                place = self._place(sequence, position)
                assert self.shadow[place] == self._prefix(sequence, position)
            runs = [
                b for first, count in sequence.table.extents for b in range(first, first + count)
            ]
            assert runs == sequence.table.blocks

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        for _ in range(2000):
            if not self.live:
                break
            self.step(12, 0)
        assert not self.live, f"some never finished: {self.live}"
        assert self.pool.num_held == 0
        assert not self.scheduler.running
        assert not self.scheduler.waiting

    def _leave(self, sequence: Sequence) -> None:
        held = len(sequence.table.blocks)
        free = self.pool.num_free
        self.scheduler.release(sequence)
        self.live.remove(sequence)
        assert free <= self.pool.num_free <= free + held
        assert not sequence.table.blocks

    def _place(self, sequence: Sequence, position: int) -> tuple[int, int]:
        return sequence.table.blocks[position // SIZE], position % SIZE

    def _prefix(self, sequence: Sequence, position: int) -> tuple[object, ...]:
        return (sequence.request.cache_salt, *sequence.tokens[: position + 1])


ShadowedScheduler.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestShadowedScheduler = ShadowedScheduler.TestCase


def test_freed_prefix_outlives_its_suffix() -> None:
    """Freeing goes tail first, so eviction takes the end of a conversation before its start."""
    pool = BlockPool(4, SIZE)
    blocks = pool.allocate(4)
    assert blocks is not None
    chain = [bytes([i]) * 32 for i in range(4)]
    for block, digest in zip(blocks, chain, strict=True):
        pool.register(block, digest)
    pool.free(blocks)
    assert pool.find(chain) == blocks
    assert pool.allocate(2) is not None
    assert pool.find(chain) == blocks[:2]
    assert pool.allocate(3) is None, "only two are left"
    assert pool.find(chain) == blocks[:2], "a failed allocation evicts nothing"


def test_growing_sequences_keep_one_extent() -> None:
    """Two sequences that grow in turns start apart, so neither blocks the other's way."""
    pool = BlockPool(64, SIZE)
    first = pool.allocate(3)
    second = pool.allocate(3)
    assert first is not None
    assert second is not None
    for table in (first, second) * 20:
        grown = pool.allocate(1, after=table[-1])
        assert grown is not None
        table.extend(grown)
    for table in (first, second):
        assert table == list(range(table[0], table[0] + 23))


def test_double_free_is_caught() -> None:
    pool = BlockPool(4, SIZE)
    blocks = pool.allocate(1)
    assert blocks is not None
    pool.free(blocks)
    with pytest.raises(AssertionError, match="freed more often"):
        pool.free(blocks)


def test_equal_blocks_after_different_beginnings_are_different_blocks() -> None:
    sequences = [
        Sequence(
            EngineRequest(
                request_id="r",
                prompt_token_ids=prompt,
                sampling=SamplingParams(),
                arrival=0.0,
                cache_salt=salt,
            ),
            order=0,
            seed=0,
            max_model_len=64,
        )
        for prompt, salt in (([0, 1, 1, 1], None), ([1, 0, 1, 1], None), ([0, 1, 1, 1], "x"))
    ]
    chains = [sequence.block_hashes(2, SIZE) for sequence in sequences]
    assert len({chain[1] for chain in chains}) == 3
    assert chains[0][0] == sequences[0].block_hashes(1, SIZE)[0]

"""KV events of an emulated engine: exactly what its cache holds, at any time and over sockets."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from xxhash import xxh3_64_intdigest

from engine.emulator import Emulator
from engine.emulator.profiles import Timing
from engine.emulator.text import answer_text
from engine.emulator.timing import EngineModel, Sequence
from engine.kv_events import EventLog, KvEventsConfig, KvEventsError
from engine.kv_events.wire import ENCODINGS
from tests.engine.kv_events.listening import ANY_PORT, Peers
from tests.engine.kv_events.shadow import Shadow, events_of

Launch = Callable[..., Awaitable[Emulator]]
Web = Callable[[Emulator], Any]

SIZE = 2
ENABLED = KvEventsConfig(
    enable_kv_cache_events=True, endpoint=ANY_PORT, replay_endpoint=ANY_PORT, topic="kv"
)


def block_name(parent: int | None, tokens: list[int], extra: tuple[str, ...] | None) -> int:
    assert extra is None
    return xxh3_64_intdigest(struct.pack(f"<{len(tokens)}I", *tokens), seed=parent or 0)


class PublishedCache(RuleBasedStateMachine):
    """Requests over a small alphabet come, are cancelled and finish; the cache is always short."""

    @initialize(
        blocks=st.integers(6, 14), host=st.sampled_from([0, 1, 4, 9]), budget=st.integers(1, 9)
    )
    def start(self, blocks: int, host: int, budget: int) -> None:
        timing = Timing(
            decode_step=1.0,
            num_blocks=blocks,
            host_blocks=host,
            block_size=SIZE,
            max_num_batched_tokens=budget,
        )
        self.log = EventLog(SIZE)
        self.model = EngineModel(timing, answer_text, self.log)
        self.shadow = Shadow(block_name)
        self.live: list[Sequence] = []
        self.now = 0.0

    def hear(self) -> None:
        events = self.log.take()
        for encode in ENCODINGS.values():
            assert events_of(encode(0.0, events)) == events_of(ENCODINGS["map"](0.0, events))
        self.shadow.apply(events_of(ENCODINGS["map"](0.0, events)))

    @rule(
        words=st.lists(st.sampled_from([b"aaaa", b"bbbb"]), min_size=1, max_size=8),
        tail=st.sampled_from([b"", b"a"]),
        output=st.integers(0, 4),
        width=st.integers(1, 2),
    )
    def arrive(self, words: list[bytes], tail: bytes, output: int, width: int) -> None:
        prompt = b"".join(words) + tail
        sequence = Sequence(prompt, len(words) + len(tail), output, width=width)
        needed = self.model.blocks_for(sequence.prompt_tokens, output, width)
        if needed <= self.model.timing.num_blocks:
            self.model.submit(sequence, self.now)
            self.live.append(sequence)
        self.hear()

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 100))
    def cancel(self, which: int) -> None:
        sequence = self.live.pop(which % len(self.live))
        if not sequence.done:
            self.model.cancel(sequence, self.now)
        self.hear()

    @rule(steps=st.integers(1, 6))
    def pass_time(self, steps: int) -> None:
        self.now += steps
        for step in self.model.advance(self.now):
            self.shadow.apply(events_of(ENCODINGS["array"](0.0, step.events)))
        self.hear()

    @rule()
    def reset(self) -> None:
        before = {medium: set(held) for medium, held in self.shadow.blocks.items()}
        idle = self.model.kv.in_use == 0
        assert self.model.kv.clear() is idle
        self.hear()
        assert self.shadow.blocks == ({"GPU": set(), "CPU": set()} if idle else before)

    @invariant()
    def the_events_tell_what_the_cache_holds(self) -> None:
        device, host = self.shadow.blocks["GPU"], self.shadow.blocks["CPU"]
        assert not device & host
        assert (len(device), len(host)) == (self.model.kv.cached, self.model.kv.hosted)
        assert all(self.model.kv.hits([name]) == 1 for name in device | host)
        assert len(host) <= self.model.timing.host_blocks

    @invariant()
    def prompts_not_yet_computed_are_counted(self) -> None:
        left = [s.prompt_tokens - s.computed for s in self.live if not s.done]
        assert self.model.queued_prefill_tokens == sum(left)


TestPublishedCache = PublishedCache.TestCase
TestPublishedCache.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def test_prompts_are_told_chunk_by_chunk() -> None:
    log = EventLog(SIZE)
    timing = Timing(decode_step=1.0, num_blocks=20, block_size=SIZE, max_num_batched_tokens=5)
    model = EngineModel(timing, answer_text, log)
    model.submit(Sequence(b"abcd" * 12, 12, 3), 0.0)
    told = [
        [len(e["block_hashes"]) for e in events_of(ENCODINGS["map"](0.0, step.events))]
        for step in model.advance(100.0)
    ]
    # 5 + 5 + 2 tokens, each step completing blocks of two; the answer's block with its last token.
    assert told == [[2], [3], [1], [], [1]]


@pytest.fixture
def peers() -> Iterator[Peers]:
    made = Peers()
    yield made
    made.close()


def chat(text: str, **fields: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 8, **fields}


@pytest.mark.parametrize("encoding", ["map", "array"])
async def test_a_subscriber_knows_what_is_cached(
    launch: Launch, web: Web, peers: Peers, encoding: str
) -> None:
    timing = Timing(num_blocks=40, block_size=4)
    emulator = await launch(timing=timing, kv_events=ENABLED, kv_events_encoding=encoding)
    publisher = emulator.service.publisher
    assert publisher is not None
    subscriber = peers.subscriber(publisher, b"kv")
    client = web(emulator)
    shadow = Shadow(block_name)
    kinds: set[str] = set()
    for turn in range(12):
        answer = await client.post("/v1/chat/completions", json=chat(f"{turn % 7}" * 60))
        assert answer.status == 200
    while subscriber.poll(100):
        topic, _, payload = subscriber.recv_multipart()
        assert topic == b"kv"
        shadow.apply(events_of(payload))
        kinds.update(event["type"] for event in events_of(payload))
    assert len(shadow.blocks["GPU"]) == emulator.model.kv.cached > 0
    assert kinds == {"BlockStored", "BlockRemoved"}
    assert (await client.post("/reset_prefix_cache")).status == 200
    shadow.apply(events_of(subscriber.recv_multipart()[2]))
    assert shadow.blocks["GPU"] == set()
    assert emulator.model.kv.cached == 0


async def test_sources_and_metrics(launch: Launch, web: Web, peers: Peers) -> None:
    emulator = await launch(kv_events=ENABLED)
    client = web(emulator)
    (source,) = (await client.get("/kv_event_sources")).json()
    assert (source["data_parallel_rank"], source["topic"]) == (0, "kv")
    assert source["endpoint"].startswith("tcp://127.0.0.1:")
    page = (await client.get("/metrics")).text
    assert 'warmpath_engine_kv_event_batches_total{engine="0",model_name="emulated"} 0.0' in page
    assert 'reason="slow_subscriber"} 0.0' in page


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("early_head", [False, True])
async def test_the_answer_names_the_last_full_block_of_its_prompt(
    launch: Launch, web: Web, peers: Peers, stream: bool, early_head: bool
) -> None:
    emulator = await launch(timing=Timing(block_size=4), kv_events=ENABLED, early_head=early_head)
    assert emulator.service.publisher is not None
    subscriber = peers.subscriber(emulator.service.publisher)
    client = web(emulator)
    for text in ("a" * 64, "a" * 48 + "b" * 21):
        body = {"prompt": text, "max_tokens": 1, "stream": stream}
        tip = (await client.post("/v1/completions", json=body)).headers["x-kv-prefix-tip"]
        name, _, blocks = tip.partition(":")
        # 4 tokens of 4 bytes a block; the tail of the second text fills no block.
        assert int(blocks) == len(text) // 16
        stored = events_of(subscriber.recv_multipart()[2])[0]["block_hashes"]
        assert stored[-1] == int(name, 16)
    short = await client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1})
    assert short.headers["x-kv-prefix-tip"] == "-:0"
    refused = await client.post("/v1/completions", json={})
    assert refused.status == 400
    assert "x-kv-prefix-tip" not in refused.headers


async def test_nothing_is_published_unless_asked_for(launch: Launch, web: Web) -> None:
    client = web(await launch())
    assert (await client.get("/kv_event_sources")).json() == []
    assert "kv_event" not in (await client.get("/metrics")).text
    answer = await client.post("/v1/chat/completions", json=chat("hello"))
    assert "x-kv-prefix-tip" not in answer.headers


async def test_a_cache_in_use_is_not_reset(launch: Launch, web: Web) -> None:
    emulator = await launch(timing=Timing(decode_step=0.05))
    client = web(emulator)
    async with client.session.post("/v1/chat/completions", json=chat("hi", stream=True)) as answer:
        await answer.content.readany()
        refused = await client.post("/reset_prefix_cache")
        assert refused.status == 409
        assert "while requests use it" in refused.text


async def test_an_endpoint_in_use_stops_the_start(launch: Launch) -> None:
    emulator = await launch(kv_events=ENABLED)
    assert emulator.service.publisher is not None
    taken = KvEventsConfig(
        enable_kv_cache_events=True, endpoint=emulator.service.publisher.endpoint
    )
    with pytest.raises(KvEventsError, match="endpoint: cannot bind"):
        await launch(kv_events=taken)

"""The hand-over between the engine thread and the event loop, with a core made for the purpose."""

import asyncio
import threading
import time
from typing import Any

import pytest

from engine.detok import Vocabulary
from engine.generation import EngineDeadError, Watch
from engine.loop import AsyncEngine, TextOptions
from engine.metrics import VllmMetrics
from engine.request import (
    EngineRequest,
    EngineStats,
    RequestError,
    RequestOutput,
    SamplingParams,
)
from tests.engine.server.checkpoints import byte_level_tokenizer

VOCABULARY = Vocabulary(byte_level_tokenizer())
LETTER = VOCABULARY.tokenizer.token_to_id("a")


class ScriptedCore:
    """Every step gives every choice the letter `a`; `max_tokens` ends it."""

    def __init__(self) -> None:
        self.steps = 0
        self.left: dict[tuple[str, int], int] = {}
        self.aborted: list[tuple[str, int | None]] = []
        self.stuck = False
        self.threads: set[int] = set()

    def add(self, request: EngineRequest) -> None:
        self.threads.add(threading.get_ident())
        if request.prompt_token_ids == [13]:
            raise RequestError("unlucky", param="prompt")
        for index in range(request.sampling.n):
            self.left[request.request_id, index] = request.sampling.max_tokens or 1

    def abort(self, request_id: str, *, index: int | None = None) -> None:
        self.aborted.append((request_id, index))
        for key in list(self.left):
            if key[0] == request_id and index in (None, key[1]):
                del self.left[key]

    def step(self, now: float) -> list[RequestOutput]:
        self.threads.add(threading.get_ident())
        self.steps += 1
        if self.stuck:
            return []
        outputs = []
        for (request_id, index), left in list(self.left.items()):
            self.left[request_id, index] = left - 1
            if left == 1:
                del self.left[request_id, index]
            reason = "length" if left == 1 else None
            outputs.append(
                RequestOutput(
                    request_id=request_id,
                    index=index,
                    token_ids=[LETTER],
                    finish_reason=reason,  # type: ignore[arg-type]
                    first_scheduled=now,
                )
            )
        return outputs

    def has_work(self) -> bool:
        return bool(self.left)

    def stats(self) -> EngineStats:
        return EngineStats(
            num_running=len(self.left),
            queued_prefill_tokens=0,
            num_waiting=0,
            kv_cache_usage=0.0,
            block_size=1,
            num_blocks=1,
            prefix_cache_queries=0,
            prefix_cache_hits=0,
            preemptions=0,
            prompt_tokens=0,
            generation_tokens=0,
            last_step_tokens=0 if self.stuck else len(self.left),
        )


def make(core: Any, **more: Any) -> AsyncEngine:
    metrics = VllmMetrics("m")
    return AsyncEngine(core, vocabulary=VOCABULARY, metrics=metrics, max_num_seqs=8, **more)


def ask(name: str, prompt: int = 1, **sampling: Any) -> EngineRequest:
    params = SamplingParams(**{"max_tokens": 5, **sampling})
    return EngineRequest(
        request_id=name, prompt_token_ids=[prompt], sampling=params, arrival=time.monotonic()
    )


async def test_results_come_back_once_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    core = ScriptedCore()
    engine = make(core)
    loop = asyncio.get_running_loop()
    calls: list[str] = []
    original = loop.call_soon_threadsafe

    def counted(callback: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(getattr(callback, "__name__", ""))
        return original(callback, *args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    engine.start()
    generations = [engine.submit(ask(f"r{at}", n=4), TextOptions()) for at in range(8)]
    news = await Watch(generations).finished()
    assert [delta.text for _, delta in news] == ["aaaaa"] * 32
    # Steps plus at most a few hand-overs of an empty step: not one per token (there are 160).
    assert calls.count("_deliver") <= core.steps + 2
    assert core.threads == {engine._thread.ident}
    await engine.stop()
    assert not engine._thread.is_alive()


async def test_a_busy_event_loop_holds_the_core_back() -> None:
    core = ScriptedCore()
    engine = make(core)
    engine.start()
    generation = engine.submit(ask("r", max_tokens=5000), TextOptions())
    while not core.steps:
        await asyncio.sleep(0)
    before = core.steps
    time.sleep(0.1)  # noqa: ASYNC251 - the loop is to be blocked
    assert core.steps - before <= 8
    engine.abort(generation)
    await engine.stop()


async def test_a_slow_reader_finds_everything_merged() -> None:
    engine = make(ScriptedCore())
    engine.start()
    generation = engine.submit(ask("r", max_tokens=40, n=2), TextOptions())
    watch = Watch([generation])
    await engine.idle.wait()
    news = await watch.changed()
    assert [(delta.index, len(delta.text)) for _, delta in news] == [(0, 40), (1, 40)]
    assert await watch.changed() == []
    await engine.stop()


async def test_a_stop_string_aborts_its_choice_only() -> None:
    core = ScriptedCore()
    engine = make(core)
    engine.start()
    generation = engine.submit(ask("r", max_tokens=50, n=2), TextOptions(stop=("aaa",)))
    news = await Watch([generation]).finished()
    assert [(d.text, d.finish_reason, d.stop_reason) for _, d in news] == [
        ("", "stop", "aaa"),
        ("", "stop", "aaa"),
    ]
    async with asyncio.timeout(20):
        while len(core.aborted) < 2:
            await asyncio.sleep(0.001)
    await engine.stop()
    assert set(core.aborted) == {("r", 0), ("r", 1)}


async def test_stop_strings_wait_for_min_tokens() -> None:
    engine = make(ScriptedCore())
    engine.start()
    request = ask("r", max_tokens=50, min_tokens=10)
    generation = engine.submit(request, TextOptions(stop=("aaa",)))
    news = await Watch([generation]).finished()
    assert [(delta.text, delta.stop_reason) for _, delta in news] == [("a" * 10, "aaa")]
    await engine.stop()


async def test_a_refused_request_fails_alone() -> None:
    engine = make(ScriptedCore())
    engine.start()
    good = engine.submit(ask("good"), TextOptions())
    bad = engine.submit(ask("bad", prompt=13), TextOptions())
    with pytest.raises(RequestError, match="unlucky"):
        await Watch([bad]).finished()
    assert len(await Watch([good]).finished()) == 1
    assert engine.live == 0
    await engine.stop()


async def test_a_failed_core_fails_everybody_and_says_so() -> None:
    class Broken(ScriptedCore):
        def step(self, now: float) -> list[RequestOutput]:
            raise ZeroDivisionError

    told = asyncio.Event()
    engine = make(Broken(), on_death=told.set)
    engine.start()
    generations = [engine.submit(ask(f"r{at}"), TextOptions()) for at in range(3)]
    await told.wait()
    for generation in generations:
        with pytest.raises(EngineDeadError):
            await Watch([generation]).changed()
    with pytest.raises(EngineDeadError):
        engine.submit(ask("late"), TextOptions())
    assert engine.idle.is_set()
    await engine.stop()


async def test_work_that_cannot_run_does_not_spin() -> None:
    core = ScriptedCore()
    core.stuck = True
    engine = make(core)
    engine.start()
    generation = engine.submit(ask("r"), TextOptions())
    began = time.monotonic()
    await asyncio.sleep(0.1)
    # A step that can do nothing is followed by a pause of 2 ms.
    assert 1 <= core.steps <= (time.monotonic() - began) / 0.002 + 2
    engine.abort(generation)
    await engine.stop()


async def test_an_abort_tells_the_reader_and_the_core_once() -> None:
    core = ScriptedCore()
    core.stuck = True
    engine = make(core)
    engine.start()
    generation = engine.submit(ask("r"), TextOptions())
    engine.abort(generation)
    engine.abort(generation)
    news = await Watch([generation]).finished()
    assert [delta.finish_reason for _, delta in news] == ["abort"]
    async with asyncio.timeout(20):
        while not core.aborted:
            await asyncio.sleep(0.001)
    await engine.stop()
    assert core.aborted == [("r", None)]

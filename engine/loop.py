"""The engine core in its own thread, and the event loop's side of it.

The core is synchronous and knows no asyncio. `AsyncEngine` runs it in one thread: requests and
aborts go in through a queue that is drained before every step, and what a step produced comes back
as one `call_soon_threadsafe` per step, never one per token. A client that left therefore costs at
most the step that was running. At most `_STEPS_AHEAD` steps may be undelivered, so a busy event
loop slows the core down instead of piling up its results.

Text is decoded, stop strings are cut and metrics are counted on the event loop as results arrive
(`engine.generation`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from engine.detok import Vocabulary
from engine.generation import EngineDeadError, Generation, TextOptions
from engine.metrics import EngineGauges, VllmMetrics
from engine.request import EngineRequest, EngineStats, RequestError, RequestOutput

log = logging.getLogger("engine.loop")

_STEPS_AHEAD = 4
_IDLE_SECONDS = 0.002


class Core(Protocol):
    """What the loop needs of `engine.core.EngineCore`."""

    def add(self, request: EngineRequest) -> None: ...
    def abort(self, request_id: str, *, index: int | None = None) -> object: ...
    def step(self, now: float) -> list[RequestOutput]: ...
    def has_work(self) -> bool: ...
    def stats(self) -> EngineStats: ...


class AsyncEngine:
    """The event loop's handle on an engine core.

    Args:
        core: the engine core; touched only by the engine thread after `start`.
        vocabulary: of the served model.
        metrics: fed on the event loop.
        max_num_seqs: seats of the scheduler, to tell a queue from a burst.
        on_death: called on the event loop when the core fails.
        clock: monotonic seconds; also what the core is given as `now`.
    """

    def __init__(
        self,
        core: Core,
        *,
        vocabulary: Vocabulary,
        metrics: VllmMetrics,
        max_num_seqs: int,
        on_death: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._core = core
        self.vocabulary = vocabulary
        self._max_num_seqs = max_num_seqs
        self.on_death = on_death
        self.clock = clock
        self.metrics = metrics
        self.stats = core.stats()
        self.dead = False
        self.idle = asyncio.Event()
        self.idle.set()
        self._live: dict[str, Generation] = {}
        self._inbox: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._submitted = self._added = self._seen = 0
        self._submitted_tokens = self._added_tokens = self._seen_tokens = 0
        self._credits = threading.BoundedSemaphore(_STEPS_AHEAD)
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="engine-core", daemon=True)

    def __repr__(self) -> str:
        return f"AsyncEngine(live={len(self._live)}, queued={self.queued()}, dead={self.dead})"

    # ------------------------------------------------------------- event loop side

    def start(self) -> None:
        """Start the engine thread; results are delivered on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Abort what is running and end the engine thread."""
        self.abort_all()
        self._stopping.set()
        self._inbox.put(("stop", None))
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    @property
    def live(self) -> int:
        """Requests that are not complete."""
        return len(self._live)

    def queued(self) -> int:
        """Requests that wait for a seat or for memory, those not yet seen by the core included."""
        unseen = self._submitted - self._seen
        free_seats = max(0, self._max_num_seqs - self.stats.num_running)
        return self.stats.num_waiting + max(0, unseen - free_seats)

    def submit(self, request: EngineRequest, options: TextOptions) -> Generation:
        """Hand a request to the core. Raises `EngineDeadError`."""
        if self.dead:
            raise EngineDeadError("the engine has failed and is restarting")
        generation = Generation(request, options, self.vocabulary)
        self._live[request.request_id] = generation
        self.idle.clear()
        self._submitted += 1
        self._submitted_tokens += len(request.prompt_token_ids)
        self._inbox.put(("add", request))
        return generation

    def abort(self, generation: Generation, reason: str = "abort") -> None:
        """Take a request out of the engine before its next step. Does nothing when it is done."""
        request_id = generation.request.request_id
        if self._forget(request_id) is None:
            return
        self._inbox.put(("abort", (request_id, None)))
        generation.close(reason)
        self._count_end(generation, self.clock(), "abort")

    def abort_all(self) -> None:
        """Abort everything that is running."""
        for generation in list(self._live.values()):
            self.abort(generation)

    def gauges(self) -> EngineGauges:
        """For the metrics page."""
        stats = self.stats
        return EngineGauges(
            running=stats.num_running,
            waiting=stats.num_waiting + (self._submitted - self._seen),
            kv_usage=stats.kv_cache_usage,
            queued_prefill_tokens=(
                stats.queued_prefill_tokens + (self._submitted_tokens - self._seen_tokens)
            ),
        )

    def _deliver(
        self,
        outputs: list[RequestOutput],
        stats: EngineStats,
        seen: tuple[int, int],
        seconds: float,
    ) -> None:
        self._credits.release()
        now = self.clock()
        self._count_step(outputs, stats, seconds)
        self.stats = stats
        self._seen, self._seen_tokens = seen
        touched: dict[str, Generation] = {}
        for output in outputs:
            generation = self._live.get(output.request_id)
            if generation is None:
                continue
            touched[output.request_id] = generation
            self._count_tokens(generation, output, now)
            if generation.feed(output):
                self._inbox.put(("abort", (output.request_id, output.index)))
        for request_id, generation in touched.items():
            if generation.done:
                self._forget(request_id)
                self._count_end(generation, now, generation.choices[0].finish_reason or "stop")
            generation.on_news()

    def _refused(self, request_id: str, error: Exception) -> None:
        generation = self._forget(request_id)
        if generation is not None:
            generation.fail(error)

    def _forget(self, request_id: str) -> Generation | None:
        generation = self._live.pop(request_id, None)
        if not self._live:
            self.idle.set()
        return generation

    def _died(self, error: BaseException) -> None:
        self.dead = True
        log.critical("the engine core failed: %s", error, exc_info=error)
        for generation in list(self._live.values()):
            generation.fail(EngineDeadError("the engine failed while it worked on this request"))
            self._count_end(generation, self.clock(), "error")
        self._live.clear()
        self.idle.set()
        self.on_death()

    # ------------------------------------------------------------- metrics

    def _count_step(self, outputs: list[RequestOutput], stats: EngineStats, seconds: float) -> None:
        before, metrics = self.stats, self.metrics
        queries = stats.prefix_cache_queries - before.prefix_cache_queries
        if queries:
            metrics.prefix(queries, stats.prefix_cache_hits - before.prefix_cache_hits)
        if stats.preemptions > before.preemptions:
            metrics.preempted(stats.preemptions - before.preemptions)
        if stats.last_step_tokens and seconds:
            made = sum(len(output.token_ids) for output in outputs)
            metrics.iteration(stats.last_step_tokens, made, execute_seconds=seconds)

    def _count_tokens(self, generation: Generation, output: RequestOutput, now: float) -> None:
        if not output.token_ids:
            return
        if generation.first_at is None:
            generation.first_at = now
            generation.scheduled_at = output.first_scheduled
            self.metrics.first_token(
                now - generation.request.arrival,
                prompt_tokens=generation.prompt_tokens,
                cached_tokens=output.num_cached_tokens,
            )
        choice = generation.choices[output.index]
        if choice.tokens:
            self.metrics.inter_token(
                (now - choice.last_at) / len(output.token_ids), len(output.token_ids)
            )
        choice.last_at = now

    def _count_end(self, generation: Generation, now: float, reason: str) -> None:
        first, arrival = generation.first_at, generation.request.arrival
        scheduled = generation.scheduled_at
        sampling = generation.request.sampling
        last = max((choice.last_at for choice in generation.choices), default=now)
        self.metrics.finished(
            reason,
            prompt_tokens=generation.prompt_tokens,
            generation_tokens=generation.completion_tokens,
            e2e=now - arrival,
            queue_time=(now if scheduled is None else scheduled) - arrival,
            prefill_time=None if first is None or scheduled is None else first - scheduled,
            decode_time=None if first is None else last - first,
            params_n=sampling.n,
            max_tokens=sampling.max_tokens,
            longest_choice=max((choice.tokens for choice in generation.choices), default=0),
        )

    # ------------------------------------------------------------- engine thread

    def _run(self) -> None:
        assert self._loop is not None
        try:
            while not self._stopping.is_set():
                seen = self._drain()
                if self._stopping.is_set():
                    return
                started = self.clock()
                working = self._core.has_work()
                outputs = self._core.step(started) if working else []
                seconds = self.clock() - started if working else 0.0
                while not self._credits.acquire(timeout=0.2):
                    if self._stopping.is_set():
                        return
                stats = self._core.stats()
                self._loop.call_soon_threadsafe(self._deliver, outputs, stats, seen, seconds)
                if working and not outputs and not stats.last_step_tokens:
                    # Work that cannot run until something changes: do not spin on it.
                    time.sleep(_IDLE_SECONDS)
        except RuntimeError as error:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._died, error)
        except Exception as error:
            self._loop.call_soon_threadsafe(self._died, error)

    def _drain(self) -> tuple[int, int]:
        """Apply everything in the inbox; blocks while the core has nothing to do.

        How many requests, and prompt tokens of theirs, have been added so far.
        """
        assert self._loop is not None
        for kind, value in self._arrivals():
            if kind == "add":
                self._added += 1
                self._added_tokens += len(value.prompt_token_ids)
                try:
                    self._core.add(value)
                except RequestError as error:
                    self._loop.call_soon_threadsafe(self._refused, value.request_id, error)
            elif kind == "abort":
                request_id, index = value
                self._core.abort(request_id, index=index)
        return self._added, self._added_tokens

    def _arrivals(self) -> Iterator[tuple[str, Any]]:
        if not self._core.has_work():
            yield self._inbox.get()
        while True:
            try:
                yield self._inbox.get_nowait()
            except Empty:
                return

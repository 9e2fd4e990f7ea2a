"""The emulated engine behind the sockets: routes, the shared clockwork, and the books.

One timer serves all streams: it fires when the model's current step ends, hands the new tokens to
their jobs and is set again.  When the process falls behind (it was not given the CPU), the model's
time is moved back rather than letting several steps burst out at once, so the pace of tokens stays
what the profile says.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

from engine.emulator.config import EmulatorConfig
from engine.emulator.connection import Connection, Exchange
from engine.emulator.dialects import ANSWERS
from engine.emulator.faults import BEFORE_HEAD, STANDING, Fault, FaultBoard, FaultError, Kind
from engine.emulator.inputs import ApiError, InputReader, read_object
from engine.emulator.job import STREAM_HEAD, Job
from engine.emulator.pages import Pages
from engine.emulator.readings import ReadingReader
from engine.emulator.tally import Tally
from engine.emulator.text import answer_text
from engine.emulator.timing import EngineModel, Sequence, Step
from engine.kv_events import EventLog, Publisher
from engine.kv_events.wire import ENCODINGS, TIP_HEADER, prefix_tip
from engine.load_report import RESPONSE_HEADER, load_report
from engine.metrics import EngineGauges, VllmMetrics

# Event-loop timers are as coarse as a millisecond: a step this close is over.
TIMER_SLACK: Final = 0.0006
MAX_LAG: Final = 0.05
FREE_SLOWNESS: Final = 0.01
# JSON that could just be parsed may still be too deep for what is done with it.
TOO_DEEP: Final = "the request is nested too deeply"

Handler = Callable[[Exchange], None]


class EmulatorService:
    """Everything of one emulated engine but its listening socket."""

    def __init__(self, config: EmulatorConfig, close_listener: Callable[[float], None]) -> None:
        """`close_listener(seconds)` is called for the `refuse` fault.

        Raises KvEventsError when KV events are wanted and cannot be published.
        """
        self.config = config
        self.max_body_bytes = config.max_body_bytes
        self.identity = b"x-emulator-name: %b\r\n" % config.name.encode()
        self.connections: set[Connection] = set()
        self.draining = False
        timing = config.timing
        self.publisher: Publisher | None = None
        self._log: EventLog | None = None
        if config.kv_events.enabled:
            self.publisher = Publisher(config.kv_events, ENCODINGS[config.kv_events_encoding])
            self._log = EventLog(timing.block_size)
        self.model = EngineModel(timing, None if config.chunk_size else answer_text, self._log)
        self.metrics = VllmMetrics(
            config.models[0],
            max_model_len=config.context_length,
            legacy=config.legacy_metrics,
            prefix_caching=timing.prefix_caching,
            cache_config={
                "block_size": timing.block_size,
                "num_gpu_blocks": timing.num_blocks,
                "num_cpu_blocks": timing.host_blocks,
                "enable_prefix_caching": timing.prefix_caching,
            },
        )
        self.faults = FaultBoard(config.seed)
        self.tally = Tally(config.record)
        self.created = int(time.time())
        self._close_listener = close_listener
        self._inputs = InputReader(config)
        self._readings = ReadingReader(config)
        self._keys = {b"bearer " + key.encode() for key in config.api_keys}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._skew = 0.0
        self._number = 0
        self._work = {*self._inputs.readers, *self._readings.readers}
        self._pages: dict[str, dict[bytes, Handler]] = Pages(self).routes()

    @property
    def lag(self) -> float:
        """Seconds by which the model's time was moved back because the process had no CPU."""
        return self._skew

    def now(self) -> float:
        """Seconds of the model's time."""
        return time.monotonic() - self._skew

    def gauges(self) -> EngineGauges:
        """What the model holds at the moment."""
        model = self.model
        return EngineGauges(
            len(model.running),
            len(model.waiting),
            model.kv_usage(),
            queued_prefill_tokens=model.queued_prefill_tokens,
        )

    def load_line(self, form: bytes) -> bytes:
        """A header line with the load in the format asked for, empty if there is no such format."""
        report = load_report(form.decode("latin-1"), self.gauges())
        return b"" if report is None else f"{RESPONSE_HEADER}: {report}\r\n".encode()

    def reset_prefix_cache(self) -> bool:
        """Forget all cached prefixes; False, and nothing changes, while requests use them."""
        if not self.model.kv.clear():
            return False
        if self.publisher is not None and self._log is not None:
            self.publisher.publish(self._log.take())
        return True

    def close(self) -> None:
        """Stop publishing."""
        if self.publisher is not None:
            self.publisher.close()

    # ------------------------------------------------------------ requests

    def handle(self, exchange: Exchange) -> None:
        """Answer or take up a request."""
        path = exchange.path
        if path in self._work and exchange.method == b"POST":
            self.tally.start(exchange)
            self._take(exchange)
            return
        try:
            self._authorize(exchange)
            methods = self._pages.get(path)
            if methods is None and path.startswith("/v1/models/"):
                methods = self._pages["/v1/models/"]
            if methods is None and path not in self._work:
                raise ApiError(404, f"no such path: {path}")
            allowed = methods or {b"POST": self._take}
            method = b"GET" if exchange.method == b"HEAD" else exchange.method
            handler = allowed.get(method)
            if handler is None:
                self._method_not_allowed(exchange, allowed)
                return
            handler(exchange)
        except ApiError as error:
            self.answer_error(exchange, error)
        except FaultError as error:
            self.answer_error(exchange, ApiError(400, str(error), param=error.field))
        except RecursionError:
            self.answer_error(exchange, ApiError(400, TOO_DEEP))

    def refuse(self, exchange: Exchange, status: int, message: str) -> None:
        """Answer a request that broke the protocol; the connection closes after it."""
        self.answer_error(exchange, ApiError(status, message))

    def answer_error(self, exchange: Exchange, error: ApiError) -> None:
        """Send an error in OpenAI's form."""
        headers = b""
        if error.retry_after is not None:
            headers = b"retry-after: %g\r\n" % error.retry_after
        exchange.respond(error.status, error.body(), headers=headers)

    def _method_not_allowed(self, exchange: Exchange, allowed: dict[bytes, Handler]) -> None:
        names = b", ".join(sorted(allowed))
        error = ApiError(405, f"{exchange.path} takes {names.decode()}")
        exchange.respond(405, error.body(), headers=b"allow: %b\r\n" % names)

    def _authorize(self, exchange: Exchange) -> None:
        if self._keys and exchange.path.startswith("/v1"):
            given = exchange.headers.get(b"authorization", b"")
            scheme, _, key = given.partition(b" ")
            if scheme.lower() + b" " + key not in self._keys:
                raise ApiError(401, "missing or wrong API key", code="invalid_api_key")

    def _take(self, exchange: Exchange) -> None:
        try:
            fault = self._fault_for(exchange)
            if fault is not None and fault.kind in BEFORE_HEAD:
                if fault.delay:
                    self._loop.call_later(fault.delay, self._strike, exchange, fault)
                else:
                    self._strike(exchange, fault)
                return
            self._authorize(exchange)
            if self.draining:
                self.metrics.rejected("draining")
                raise ApiError(503, "the engine is shutting down", retry_after=1)
            if self.model.full:
                self.metrics.rejected("queue_full")
                raise ApiError(429, "too many requests are waiting", retry_after=1)
            self._submit(self._read(exchange, fault))
        except ApiError as error:
            self.tally.finish(exchange)
            self.answer_error(exchange, error)
        except RecursionError:
            self.tally.finish(exchange)
            self.answer_error(exchange, ApiError(400, TOO_DEEP))

    def _read(self, exchange: Exchange, fault: Fault | None) -> Job:
        path = exchange.path
        if path not in self._inputs.readers:
            content_type = exchange.headers.get(b"content-type", b"")
            reading = self._readings.readers[path](exchange.body, content_type)
            sequence = Sequence(reading.prompt, reading.prompt_tokens, 0)
            return Job(self, exchange, sequence, fault, reading=reading)
        work = self._inputs.read(path, read_object(exchange.body))
        blocks = self.model.blocks_for(work.prompt_tokens, work.target, work.width)
        if blocks > self.config.timing.num_blocks:
            raise ApiError(400, "n: so many choices do not fit in the KV cache", param="n")
        prefix, form = ANSWERS[path]
        self._number += 1
        given = exchange.headers.get(b"x-request-id")
        name = given.decode("latin-1") if given else f"{self.config.seed:08x}{self._number:024x}"
        sequence = Sequence(work.prompt, work.prompt_tokens, work.target, width=work.width)
        return Job(
            self, exchange, sequence, fault, answer=form(work, prefix + name, int(time.time()))
        )

    def _submit(self, job: Job) -> None:
        sequence, fault = job.sequence, job.fault
        sequence.owner = job
        job.exchange.job = job
        if fault is not None and fault.kind is Kind.STALL:
            sequence.stall_at = fault.after_chunks
            sequence.stall_for = math.inf if fault.delay is None else fault.delay
        elif fault is not None and fault.kind is Kind.SLOW:
            sequence.slow_factor = fault.factor
            sequence.slow_delay = fault.delay or 0.0
            if self.config.timing.free and fault.delay is None:
                sequence.slow_delay = FREE_SLOWNESS * fault.factor
        if self.publisher is not None:
            names = self.model.chain(sequence)
            tip = prefix_tip(names[-1] if names else None, len(names))
            job.exchange.extra = f"{TIP_HEADER}: {tip}\r\n".encode()
        if self.config.early_head and job.streams:
            job.open()
        self.model.submit(sequence, self.now())
        self._set_timer()

    # ------------------------------------------------------------ faults

    def _fault_for(self, exchange: Exchange) -> Fault | None:
        asked = exchange.headers.get(b"x-emulator-fault")
        if asked is None:
            return self.faults.pick(exchange.path) if self.faults.active else None
        try:
            fault = Fault.parse(asked.decode("latin-1"))
        except FaultError as error:
            raise ApiError(400, f"x-emulator-fault: {error}", param=error.field) from None
        if fault.kind in STANDING:
            raise ApiError(400, f"{fault.kind.value} cannot be asked for by a request")
        return fault

    def add_fault(self, fault: Fault | str) -> Fault:
        """Put a fault in force; `refuse` acts at once and is not kept."""
        if isinstance(fault, str):
            fault = Fault.parse(fault)
        if fault.kind is Kind.REFUSE:
            self._close_listener(fault.delay or 0.0)
            return fault
        return self.faults.add(fault)

    def _strike(self, exchange: Exchange, fault: Fault) -> None:
        if exchange.finished or fault.kind is Kind.HANG:
            return
        if fault.kind is Kind.HANG_AFTER_HEAD:
            exchange.write(exchange.head(STREAM_HEAD))
            return
        self.tally.fault(exchange)
        if fault.kind is Kind.STATUS:
            error = ApiError(fault.code, "fault on purpose", retry_after=fault.retry_after)
            self.answer_error(exchange, error)
        elif fault.kind is Kind.RESET_BEFORE_HEAD:
            exchange.reset()
        else:
            if fault.kind is Kind.GARBAGE_HEAD:
                exchange.write(b"\x16\x03\x01\x02garbage\r\n\r\n")
            exchange.close()

    # ------------------------------------------------------------ clockwork

    def _set_timer(self) -> None:
        due = self.model.next_time
        if due is None:
            return
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        delay = due - self.now()
        self._timer_at = due
        if delay <= TIMER_SLACK:
            self._timer = self._loop.call_soon(self._tick)
        else:
            self._timer = self._loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self.now()
        due = self.model.next_time
        if due is not None and now - due > MAX_LAG:
            self._skew += now - due
            now = due
        for step in self.model.advance(now + TIMER_SLACK):
            if step.events and self.publisher is not None:
                self.publisher.publish(step.events)
            self._account(step)
            for sequence in step.progressed:
                job = sequence.owner
                assert isinstance(job, Job)
                if not job.ended:
                    job.progress()
        self._set_timer()

    # ------------------------------------------------------------ books

    def _account(self, step: Step) -> None:
        metrics = self.metrics
        generated = 0
        for sequence in step.progressed:
            fresh = sequence.fresh
            generated += fresh * sequence.width
            if sequence.first_token == step.end and sequence.produced == fresh:
                self._account_first(sequence)
                fresh -= 1
            if fresh > 0:
                metrics.inter_token((step.end - sequence.last_token) / fresh, fresh)
            sequence.last_token = step.end
            if sequence.done:
                job = sequence.owner
                assert isinstance(job, Job)
                reason = job.answer.work.finish if job.answer is not None else "stop"
                self._account_end(sequence, reason)
        span = step.end - step.start
        metrics.iteration(
            step.prefilled + step.decoded, generated, forward_seconds=span, execute_seconds=span
        )

    def _account_first(self, sequence: Sequence) -> None:
        assert sequence.first_token is not None
        sequence.last_token = sequence.first_token
        if self.config.timing.prefix_caching:
            local = sequence.cached - sequence.reloaded
            self.metrics.prefix(sequence.prompt_tokens, local)
            if self.config.timing.host_blocks:
                self.metrics.external_prefix(sequence.prompt_tokens - local, sequence.reloaded)
        self.metrics.first_token(
            sequence.first_token - sequence.arrival,
            prompt_tokens=sequence.prompt_tokens,
            cached_tokens=sequence.cached,
            external_tokens=sequence.reloaded,
        )

    def _account_end(self, sequence: Sequence, reason: str) -> None:
        now = self.now() if reason == "abort" else sequence.last_token
        scheduled, first = sequence.scheduled, sequence.first_token
        job = sequence.owner
        work = job.answer.work if isinstance(job, Job) and job.answer is not None else None
        prefill = decode = None
        if scheduled is not None and first is not None:
            prefill, decode = first - scheduled, sequence.last_token - first
        self.metrics.finished(
            reason,
            prompt_tokens=sequence.prompt_tokens,
            generation_tokens=sequence.produced * sequence.width,
            longest_choice=sequence.produced,
            e2e=max(0.0, now - sequence.arrival),
            queue_time=max(0.0, (now if scheduled is None else scheduled) - sequence.arrival),
            prefill_time=prefill,
            decode_time=decode,
            params_n=sequence.width // work.prompts if work else 1,
            max_tokens=work.max_tokens if work else None,
        )

    def gone(self, exchange: Exchange) -> None:
        """A client left before its answer was complete."""
        if not exchange.counted:
            return
        job = exchange.job
        sent = 0
        if isinstance(job, Job):
            sent = job.sent
            self._drop(job)
        self.tally.abort(exchange, time.monotonic(), sent)

    def completed(self, job: Job) -> None:
        """A job has sent its whole answer."""
        self.tally.finish(job.exchange)

    def spoilt(self, job: Job) -> None:
        """A job was cut short on purpose."""
        self.tally.fault(job.exchange)
        self._drop(job)

    def _drop(self, job: Job) -> None:
        job.ended = True
        if not job.sequence.done:
            self.model.cancel(job.sequence, self.now())
            self._account_end(job.sequence, "abort")
            self._set_timer()

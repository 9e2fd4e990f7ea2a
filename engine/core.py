"""The engine without its server: requests in, tokens out, one synchronous step at a time.

`add` queues a request's choices, `step` runs one batch and returns what each choice gained,
`abort` takes a request out and frees its blocks before it returns. There is no thread, no event
loop and no clock in here: `now` is an argument, in seconds on any monotonic clock. One caller at
a time; whoever owns the core serialises access to it.
"""

import logging
from collections.abc import Callable

from engine.blocks import BlockPool
from engine.config import ConfigError, EngineConfig
from engine.kv_events import Event, EventLog
from engine.pacing import StepPacer
from engine.request import (
    EngineRequest,
    EngineStats,
    FinishReason,
    RequestError,
    RequestOutput,
    check_sampling,
)
from engine.runner import ModelRunner
from engine.sampler import Sampled, choice_seed, mix64, sample
from engine.scheduler import Scheduled, Scheduler
from engine.sequence import Sequence, State

__all__ = ["EngineCore", "EngineStats"]

log = logging.getLogger(__name__)


class EngineCore:
    """Loads the model on construction. Raises `ConfigError` for what it cannot run.

    `publish` gets the changes of the prefix cache after each step that made any.
    """

    def __init__(
        self, config: EngineConfig, publish: Callable[[list[Event]], None] | None = None
    ) -> None:
        _check_budget(config)
        self.config = config
        self.runner = ModelRunner(config)
        self.max_model_len = self.runner.max_model_len
        if not config.enable_chunked_prefill and config.max_num_batched_tokens < self.max_model_len:
            raise ConfigError(
                f"without chunked prefill max_num_batched_tokens "
                f"({config.max_num_batched_tokens}) must be at least max_model_len "
                f"({self.max_model_len})",
                param="max_num_batched_tokens",
            )
        self._publish = publish
        self.pool = BlockPool(
            self.runner.num_blocks,
            config.block_size,
            caching=config.enable_prefix_caching,
            log=None if publish is None else EventLog(config.block_size),
        )
        self.scheduler = Scheduler(config, self.pool)
        self._pacer = StepPacer(config.max_step_seconds, config.max_num_batched_tokens)
        self._choices: dict[str, list[Sequence]] = {}
        self._added = 0
        self._last_step: tuple[float, int] | None = None
        self._last_step_tokens = 0
        self._prompt_tokens = 0
        self._generation_tokens = 0

    def add(self, request: EngineRequest) -> None:
        """Queue `request`. Raises `RequestError` naming the field that is out of bounds."""
        self._check(request)
        seed = request.sampling.seed
        if seed is None:
            seed = mix64(mix64(self.config.seed) + self._added)
        first: Sequence | None = None
        choices: list[Sequence] = []
        for index in range(request.sampling.n):
            sequence = Sequence(
                request,
                index=index,
                order=self._added,
                seed=choice_seed(seed, index),
                max_model_len=self.max_model_len,
                by_priority=self.config.scheduling_policy == "priority",
                first=first,
            )
            first = first or sequence
            choices.append(sequence)
            self.scheduler.add(sequence)
        self._choices[request.request_id] = choices
        self._added += 1

    def abort(self, request_id: str, *, index: int | None = None) -> list[RequestOutput]:
        """End a request, or one choice of it, at once; its blocks are free on return.

        Returns a last output with finish_reason "abort" for each choice ended. An unknown or
        finished request is no error and gives an empty list.
        """
        ended = [s for s in self._choices.get(request_id, ()) if index in (None, s.index)]
        return [self._finish(sequence, "abort") for sequence in ended]

    def step(self, now: float) -> list[RequestOutput]:
        """Run one batch. Choices that neither gained a token nor finished have no output.

        If the model itself fails, the choices in the batch end with finish_reason "error".
        """
        outputs = self._step(now)
        self._tell()
        return outputs

    def _step(self, now: float) -> list[RequestOutput]:
        self._observe(now)
        decoding = any(s.remaining == 1 for s in self.scheduler.running)
        step = self.scheduler.schedule(self._pacer.budget(decoding=decoding))
        self._last_step_tokens = sum(scheduled.length for scheduled in step)
        if not step:
            self._last_step = None
            return []
        for sequence, _, _ in step:
            if sequence.first_scheduled is None:
                sequence.first_scheduled = now
        prefill = sum(s.length for s in step if s.length > 1)
        try:
            logits = self.runner.run(step)
            sampling = [s.sequence for s in step if s.samples]
            sampled = sample(logits, sampling, self.config.model.eos_token_ids)
        except Exception:
            log.exception("a step of %d tokens failed", self._last_step_tokens)
            return [self._finish(s.sequence, "error") for s in step]
        self._count_prompt(step)
        self.scheduler.complete(step)
        outputs = [self._accept(s, t) for s, t in zip(sampling, sampled, strict=True)]
        self._last_step = (now, prefill) if self.has_work() else None
        return outputs

    def has_work(self) -> bool:
        """True while a call of `step` would do something."""
        return bool(self.scheduler.running or self.scheduler.waiting)

    def stats(self) -> EngineStats:
        """Gauges and totals; cheap enough to take after every step."""
        return EngineStats(
            num_running=len(self.scheduler.running),
            num_waiting=len(self.scheduler.waiting),
            queued_prefill_tokens=self.scheduler.queued_prefill_tokens,
            kv_cache_usage=self.pool.num_held / self.pool.num_blocks,
            block_size=self.pool.block_size,
            num_blocks=self.pool.num_blocks,
            prefix_cache_queries=self.scheduler.prefix_queries,
            prefix_cache_hits=self.scheduler.prefix_hits,
            preemptions=self.scheduler.preemptions,
            prompt_tokens=self._prompt_tokens,
            generation_tokens=self._generation_tokens,
            last_step_tokens=self._last_step_tokens,
        )

    def reset_prefix_cache(self) -> None:
        """Forget all cached prefixes. Running requests are not disturbed."""
        self.pool.reset_cache()
        self._tell()

    def _tell(self) -> None:
        log, publish = self.pool.log, self._publish
        if log is not None and publish is not None and (events := log.take()):
            publish(events)

    def _observe(self, now: float) -> None:
        """Time from one step's begin to the next one's, when the work in between never ceased."""
        if self._last_step is not None:
            began, prefill = self._last_step
            self._pacer.observe(now - began, prefill_tokens=prefill)

    def _accept(self, sequence: Sequence, sampled: Sampled) -> RequestOutput:
        token = sampled.token
        if token is None:
            return self._finish(sequence, "error")
        sequence.tokens.append(token)
        self._generation_tokens += 1
        params = sequence.sampling
        reason: FinishReason | None = None
        stop_reason: int | None = None
        if sequence.num_output >= params.min_tokens:
            if token in params.stop_token_ids:
                reason, stop_reason = "stop", token
            elif token in self.config.model.eos_token_ids and not params.ignore_eos:
                reason = "stop"
        if reason is None and len(sequence.tokens) >= sequence.end:
            reason = "length"
        if reason is None:
            output = self._output(sequence, token, sampled)
        else:
            output = self._finish(sequence, reason, token, sampled)
            output.stop_reason = stop_reason
        return output

    def _finish(
        self,
        sequence: Sequence,
        reason: FinishReason,
        token: int | None = None,
        sampled: Sampled | None = None,
    ) -> RequestOutput:
        output = self._output(sequence, token, sampled)
        output.finish_reason = reason
        self.scheduler.release(sequence)
        request_id = sequence.request.request_id
        choices = [s for s in self._choices[request_id] if s.state is not State.FINISHED]
        if choices:
            self._choices[request_id] = choices
        else:
            del self._choices[request_id]
        return output

    def _output(
        self, sequence: Sequence, token: int | None, sampled: Sampled | None
    ) -> RequestOutput:
        logprob = sampled.logprob if sampled is not None else None
        first_token = token is not None and sequence.num_output == 1
        first = sequence.first or sequence
        return RequestOutput(
            request_id=sequence.request.request_id,
            index=sequence.index,
            token_ids=[] if token is None else [token],
            logprobs=None if logprob is None else [logprob],
            prompt_logprobs=sequence.prompt_logprobs if first_token else None,
            num_prompt_tokens=sequence.num_prompt,
            num_cached_tokens=first.num_cached,
            first_scheduled=sequence.first_scheduled,
        )

    def _count_prompt(self, step: list[Scheduled]) -> None:
        for sequence, start, length in step:
            done = start < sequence.num_prompt <= start + length
            if done and sequence.index == 0 and sequence.num_output == 0:
                self._prompt_tokens += sequence.num_prompt

    def _check(self, request: EngineRequest) -> None:
        prompt = request.prompt_token_ids
        vocab_size = self.config.model.vocab_size
        if request.request_id in self._choices:
            raise RequestError(
                f"request id {request.request_id!r} is already in use", param="request_id"
            )
        if not prompt:
            raise RequestError("the prompt must hold at least one token", param="prompt")
        if min(prompt) < 0 or max(prompt) >= vocab_size:
            raise RequestError(
                f"the prompt holds a token id outside 0 to {vocab_size - 1}", param="prompt"
            )
        check_sampling(request.sampling, vocab_size=vocab_size)
        limit = self.max_model_len
        wanted = request.sampling.max_tokens
        if len(prompt) >= limit:
            raise RequestError(
                f"This model's maximum context length is {limit} tokens, but the prompt alone "
                f"has {len(prompt)}. Please shorten it.",
                param="prompt",
            )
        if wanted is not None and len(prompt) + wanted > limit:
            raise RequestError(
                f"This model's maximum context length is {limit} tokens, but the prompt has "
                f"{len(prompt)} and max_tokens asks for {wanted} more. Please lower one of them.",
                param="max_tokens",
            )

    def __repr__(self) -> str:
        return f"<EngineCore {self.scheduler!r}>"


def _check_budget(config: EngineConfig) -> None:
    if config.max_num_batched_tokens < config.max_num_seqs:
        raise ConfigError(
            f"max_num_batched_tokens ({config.max_num_batched_tokens}) must be at least "
            f"max_num_seqs ({config.max_num_seqs}), or running streams would starve",
            param="max_num_batched_tokens",
        )

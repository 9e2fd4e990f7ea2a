"""The engine's vocabulary: what goes into the core and what comes out of it.

A caller hands the core an `EngineRequest` (token ids and `SamplingParams`) and gets a list of
`RequestOutput` after each step: one entry per choice that produced a token or finished. Text is
no concern of the core: stop *strings*, templates and detokenisation live in the server, which
aborts a choice when its text is complete. All ids are plain ints, all times are seconds.
"""

from typing import Literal

import msgspec

FinishReason = Literal["stop", "length", "abort", "error"]

MAX_LOGPROBS = 20
MAX_CHOICES = 128
MAX_LOGIT_BIAS = 1024
MAX_STOP_TOKENS = 256


class RequestError(ValueError):
    """A request the engine refuses. `param` names the offending request field."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How the tokens of one request are chosen.

    `max_tokens` None means: up to the engine's `max_model_len`. `temperature` 0 is greedy.
    `top_k` 0 or -1, `top_p` 1 and `min_p` 0 switch the filter off; they apply in the order
    temperature, min-p, top-k, top-p, each on the renormalised survivors of the one before.
    `repetition_penalty` looks at prompt and output, the other two at the output only.
    `logprobs`/`prompt_logprobs` ask for that many alternatives (0 = the chosen token only) of
    the raw distribution, before temperature, penalties and filters. A token draw depends only on
    (seed, choice index, position), so equal seeds repeat whatever else is in the batch.
    """

    n: int = 1
    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: dict[int, float] | None = None


class EngineRequest(msgspec.Struct, kw_only=True):
    """One request. `arrival` is on the caller's clock; a lower `priority` is served first.

    `cache_salt` keeps a tenant's prefix blocks apart: only equal salts share cached blocks.
    `block_hashes` are those of the prompt's first blocks as far as somebody has computed them.
    """

    request_id: str
    prompt_token_ids: list[int]
    sampling: SamplingParams
    arrival: float
    priority: int = 0
    cache_salt: str | None = None
    block_hashes: list[bytes] = []


class TokenLogprob(msgspec.Struct, frozen=True):
    """Natural-log probability of one token; `rank` 1 is the likeliest; `top` is best first."""

    token_id: int
    logprob: float
    rank: int
    top: tuple[tuple[int, float], ...] = ()


class RequestOutput(msgspec.Struct, kw_only=True):
    """What one choice of one request gained in one step.

    `token_ids` and `logprobs` hold only the new tokens; a stopping token (end of sequence or one
    of `stop_token_ids`) is included. `stop_reason` is the `stop_token_ids` member that ended the
    choice, None for the model's own end-of-sequence token. `prompt_logprobs` comes once, with the
    first output of choice 0; its first entry is None, as nothing precedes the first token.
    `first_scheduled` is the `now` of the step that first computed anything for the choice.
    """

    request_id: str
    index: int
    token_ids: list[int]
    logprobs: list[TokenLogprob] | None = None
    prompt_logprobs: list[TokenLogprob | None] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: int | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    first_scheduled: float | None = None


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """Gauges (now) and totals (since start). Prefix figures are in tokens; usage is in 0..1.

    `queued_prefill_tokens` are known tokens still to be computed, but for the one that each
    sequence in decode computes in a step.
    """

    num_running: int
    num_waiting: int
    queued_prefill_tokens: int
    kv_cache_usage: float
    block_size: int
    num_blocks: int
    prefix_cache_queries: int
    prefix_cache_hits: int
    preemptions: int
    prompt_tokens: int
    generation_tokens: int
    last_step_tokens: int


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise RequestError(
            f"{name} must be between {low:g} and {high:g}, got {value:g}", param=name
        )


def _at_least(name: str, value: int | None, low: int) -> None:
    if value is not None and value < low:
        raise RequestError(f"{name} must be at least {low}, got {value}", param=name)


def check_sampling(params: SamplingParams, *, vocab_size: int) -> None:
    """Raise `RequestError` naming the first field of `params` that is out of its range."""
    _within("n", params.n, 1, MAX_CHOICES)
    _at_least("max_tokens", params.max_tokens, 1)
    _at_least("min_tokens", params.min_tokens, 0)
    if params.max_tokens is not None and params.min_tokens > params.max_tokens:
        raise RequestError(
            f"min_tokens ({params.min_tokens}) is above max_tokens ({params.max_tokens})",
            param="min_tokens",
        )
    _within("temperature", params.temperature, 0.0, 100.0)
    if not 0.0 < params.top_p <= 1.0:
        raise RequestError(
            f"top_p must be above 0 and at most 1, got {params.top_p:g}", param="top_p"
        )
    _at_least("top_k", params.top_k, -1)
    _within("min_p", params.min_p, 0.0, 1.0)
    _within("presence_penalty", params.presence_penalty, -2.0, 2.0)
    _within("frequency_penalty", params.frequency_penalty, -2.0, 2.0)
    # Much smaller ones would take logits beyond what float32 holds.
    _within("repetition_penalty", params.repetition_penalty, 0.01, 100.0)
    for name, count in (("logprobs", params.logprobs), ("prompt_logprobs", params.prompt_logprobs)):
        if count is not None:
            _within(name, count, 0, MAX_LOGPROBS)
    _check_token_fields(params, vocab_size)


def _check_token_fields(params: SamplingParams, vocab_size: int) -> None:
    if len(params.stop_token_ids) > MAX_STOP_TOKENS:
        raise RequestError(
            f"stop_token_ids holds {len(params.stop_token_ids)} ids, the limit is "
            f"{MAX_STOP_TOKENS}",
            param="stop_token_ids",
        )
    for token in params.stop_token_ids:
        _token_in_vocabulary("stop_token_ids", token, vocab_size)
    bias = params.logit_bias or {}
    if len(bias) > MAX_LOGIT_BIAS:
        raise RequestError(
            f"logit_bias holds {len(bias)} entries, the limit is {MAX_LOGIT_BIAS}",
            param="logit_bias",
        )
    for token, value in bias.items():
        _token_in_vocabulary("logit_bias", token, vocab_size)
        _within("logit_bias", value, -100.0, 100.0)


def _token_in_vocabulary(name: str, token: int, vocab_size: int) -> None:
    if not 0 <= token < vocab_size:
        raise RequestError(
            f"{name} names token {token}, the vocabulary has ids 0 to {vocab_size - 1}", param=name
        )

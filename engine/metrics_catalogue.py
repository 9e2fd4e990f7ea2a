"""The catalogue of the engine's Prometheus page: vLLM's names, labels and buckets as one table.

Two generations of names exist in the field.  `Generation.CURRENT` rows are what vLLM publishes
today; `Generation.LEGACY` rows are the names of 2024, still read by older dashboards and routers,
and can be switched off.  `FIXED` legacy rows never move: vLLM itself publishes a constant there
when the feature (CPU swap) does not exist.

A row names the series inside our code (`key`), the exposed family (`name`, without the `_total`
that counters get), and its labels besides `model_name` and `engine`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class Kind(Enum):
    """Prometheus type of a family."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Generation(Enum):
    """Which release line of vLLM introduced the name."""

    CURRENT = "current"
    LEGACY = "legacy"


class Row(NamedTuple):
    """One metric family.

    `label` is the extra label (empty: none) and `values` its closed set, all shown from the start
    at 0 so that rates work from the first event.  `buckets` names an entry of `ladder()`.
    `source` is the key of the row whose data this family repeats under an older name.
    """

    key: str
    name: str
    kind: Kind
    text: str
    label: str = ""
    values: tuple[str, ...] = ()
    buckets: str = ""
    generation: Generation = Generation.CURRENT
    source: str = ""


TTFT: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
    *(10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
GAP: Final = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
    *(10.0, 20.0, 40.0, 80.0),
)
LATENCY: Final = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0),
    *(240.0, 480.0, 960.0, 1920.0, 7680.0),
)
ITERATION: Final = (1.0, *(float(2**power) for power in range(3, 15)))
CHOICES: Final = (1.0, 2.0, 5.0, 10.0, 20.0)
PREEMPTIONS: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0)

FINISH_REASONS: Final = ("stop", "length", "abort", "error", "repetition")
REJECTION_REASONS: Final = ("queue_full", "draining")
WAITING_REASONS: Final = ("capacity", "deferred")
PROMPT_SOURCES: Final = ("local_compute", "local_cache_hit", "external_kv_transfer")
LOSS_REASONS: Final = ("queue_full", "slow_subscriber", "error")


def mantissa_ladder(mantissas: tuple[int, ...], limit: int) -> tuple[float, ...]:
    """Bounds m * 10**k up to and including `limit`, for example 1 2 5 10 20 50 ..."""
    bounds: list[float] = []
    scale = 1
    while True:
        for mantissa in mantissas:
            if mantissa * scale > limit:
                return tuple(bounds)
            bounds.append(float(mantissa * scale))
        scale *= 10


def ladder(name: str, max_model_len: int) -> tuple[float, ...]:
    """Upper bounds of the bucket set `name`; token ladders end at `max_model_len` tokens."""
    if name == "tokens":
        return mantissa_ladder((1, 2, 5), max_model_len)
    if name == "milliseconds":
        return mantissa_ladder((1, 2, 3, 5, 8), 3000)
    return {
        "ttft": TTFT,
        "gap": GAP,
        "latency": LATENCY,
        "iteration": ITERATION,
        "choices": CHOICES,
        "preemptions": PREEMPTIONS,
    }[name]


def _gauge(key: str, text: str, label: str = "", values: tuple[str, ...] = ()) -> Row:
    return Row(key, f"vllm:{key}", Kind.GAUGE, text, label, values)


def _counter(key: str, text: str, label: str = "", values: tuple[str, ...] = ()) -> Row:
    return Row(key, f"vllm:{key}", Kind.COUNTER, text, label, values)


def _histogram(key: str, text: str, buckets: str) -> Row:
    return Row(key, f"vllm:{key}", Kind.HISTOGRAM, text, buckets=buckets)


def _legacy(key: str, kind: Kind, text: str, *, source: str = "", buckets: str = "") -> Row:
    return Row(
        key,
        f"vllm:{key}",
        kind,
        text,
        buckets=buckets,
        generation=Generation.LEGACY,
        source=source,
    )


def _own(key: str, kind: Kind, text: str, label: str = "", values: tuple[str, ...] = ()) -> Row:
    return Row(key, f"warmpath_engine_{key}", kind, text, label, values)


KV_EVENTS: Final[tuple[Row, ...]] = (
    _own("kv_event_batches", Kind.COUNTER, "Batches of KV events sent, one per step."),
    _own(
        "kv_event_batches_lost",
        Kind.COUNTER,
        "Batches of KV events lost; with slow_subscriber: times that one fell behind.",
        "reason",
        LOSS_REASONS,
    ),
    _own("kv_event_replays", Kind.COUNTER, "Requests to replay batches of KV events."),
    _own("kv_event_queue", Kind.GAUGE, "Batches of KV events waiting to be sent."),
    _own("kv_event_replay_bytes", Kind.GAUGE, "Bytes of KV events kept for replay."),
)
"""Our own, shown where KV events are published; vLLM has no such metrics."""

CATALOGUE: Final[tuple[Row, ...]] = (
    _gauge("num_requests_running", "Requests in the batch now."),
    _gauge("num_requests_waiting", "Requests waiting for a place in the batch."),
    _gauge(
        "num_requests_waiting_by_reason",
        "Waiting requests by what they wait for.",
        "reason",
        WAITING_REASONS,
    ),
    _gauge("kv_cache_usage_perc", "Share of KV-cache blocks in use, 1 means all."),
    _counter("prefix_cache_queries", "Prompt tokens looked up in the prefix cache."),
    _counter("prefix_cache_hits", "Prompt tokens found in the prefix cache."),
    _counter("external_prefix_cache_queries", "Prompt tokens looked up in a slower tier."),
    _counter("external_prefix_cache_hits", "Prompt tokens found in a slower tier."),
    _counter("num_preemptions", "Requests put back to waiting for want of KV blocks."),
    _counter("prompt_tokens", "Prompt tokens of requests that reached their first token."),
    _counter("prompt_tokens_by_source", "Prompt tokens by origin.", "source", PROMPT_SOURCES),
    _counter("prompt_tokens_cached", "Prompt tokens served from a cache."),
    _counter(
        "prompt_tokens_cached_by_source",
        "Prompt tokens served from a cache, by cache.",
        "source",
        PROMPT_SOURCES[1:],
    ),
    _counter("generation_tokens", "Tokens generated."),
    _counter("request_success", "Requests ended, by reason.", "finished_reason", FINISH_REASONS),
    _counter("admission_rejections", "Requests refused on arrival.", "reason", REJECTION_REASONS),
    _histogram("time_to_first_token_seconds", "Arrival to first token.", "ttft"),
    _histogram("inter_token_latency_seconds", "Gap between two tokens of a request.", "gap"),
    _histogram("request_time_per_output_token_seconds", "Mean gap of a whole request.", "gap"),
    _histogram("e2e_request_latency_seconds", "Arrival to last token.", "latency"),
    _histogram("request_queue_time_seconds", "Arrival to first scheduling.", "latency"),
    _histogram("request_inference_time_seconds", "First scheduling to last token.", "latency"),
    _histogram("request_prefill_time_seconds", "First scheduling to first token.", "latency"),
    _histogram("request_decode_time_seconds", "First token to last token.", "latency"),
    _histogram("request_prompt_tokens", "Prompt length in tokens.", "tokens"),
    _histogram("request_generation_tokens", "Output length in tokens.", "tokens"),
    _histogram(
        "request_max_num_generation_tokens", "Longest output among a request's choices.", "tokens"
    ),
    _histogram("request_params_n", "The n parameter.", "choices"),
    _histogram("request_params_max_tokens", "The max_tokens parameter.", "tokens"),
    _histogram("request_num_preemptions", "Preemptions of one request.", "preemptions"),
    _histogram(
        "request_prefill_kv_computed_tokens",
        "Prompt tokens computed, not cached.",
        "tokens",
    ),
    _histogram("iteration_tokens_total", "Tokens computed in one engine step.", "iteration"),
    # ------------------------------------------------------------------ names of 2024
    _legacy("gpu_cache_usage_perc", Kind.GAUGE, "See kv_cache_usage_perc."),
    _legacy("cpu_cache_usage_perc", Kind.GAUGE, "Always 0: no CPU swap space."),
    _legacy("num_requests_swapped", Kind.GAUGE, "Always 0: no CPU swap space."),
    _legacy("avg_prompt_throughput_toks_per_s", Kind.GAUGE, "Prompt tokens/s, last 5 s."),
    _legacy("avg_generation_throughput_toks_per_s", Kind.GAUGE, "Generated tokens/s, last 5 s."),
    _legacy("gpu_prefix_cache_hit_rate", Kind.GAUGE, "Hits by queries; -1 with caching off."),
    _legacy("cpu_prefix_cache_hit_rate", Kind.GAUGE, "Always -1: no CPU cache."),
    _legacy(
        "gpu_prefix_cache_queries",
        Kind.COUNTER,
        "See prefix_cache_queries.",
        source="prefix_cache_queries",
    ),
    _legacy(
        "gpu_prefix_cache_hits", Kind.COUNTER, "See prefix_cache_hits.", source="prefix_cache_hits"
    ),
    _legacy(
        "time_per_output_token_seconds",
        Kind.HISTOGRAM,
        "See inter_token_latency_seconds.",
        source="inter_token_latency_seconds",
        buckets="gap",
    ),
    _legacy(
        "time_in_queue_requests",
        Kind.HISTOGRAM,
        "See request_queue_time_seconds.",
        source="request_queue_time_seconds",
        buckets="latency",
    ),
    _legacy(
        "model_forward_time_milliseconds",
        Kind.HISTOGRAM,
        "Model forward pass of one step.",
        buckets="milliseconds",
    ),
    _legacy(
        "model_execute_time_milliseconds",
        Kind.HISTOGRAM,
        "Forward pass, sampling and transfers of one step.",
        buckets="milliseconds",
    ),
)

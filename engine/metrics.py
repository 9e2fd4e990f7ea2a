"""The engine's Prometheus page, written by hand so that a scrape costs the engine almost nothing.

Recording is a list increment (a histogram adds one bisect); no locks, no label dictionaries.  One
`VllmMetrics` belongs to one thread.  `render` walks the table of `engine.metrics_catalogue` and
fills in numbers behind label strings prepared once.  Times are seconds, tokens are counts.

Families that nobody feeds are not shown: the forward-pass histograms appear with the first step
that reports its time.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.metrics_catalogue import CATALOGUE, KV_EVENTS, Generation, Kind, Row, ladder

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
THROUGHPUT_WINDOW = 5.0
_SNAPSHOT_EVERY = 0.25


@dataclass(frozen=True, slots=True)
class EngineGauges:
    """What the scheduler holds at the moment of a scrape.

    `running`, `waiting` and `deferred` (waiting for something else than capacity, part of
    `waiting`) are requests; `kv_usage` is the share of KV blocks in use, 0 to 1.
    `queued_prefill_tokens` are prompt tokens still to be computed for those that wait or run; what
    the prefix cache will spare those that wait is not known yet and not taken off.  `kv_events` are
    the values of the rows `KV_EVENTS` by key, None where none are published.
    """

    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    deferred: int = 0
    queued_prefill_tokens: int = 0
    kv_events: Mapping[str, list[float]] | None = None


class Histogram:
    """Counts per bucket (last one: +Inf) and the sum of what was observed."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, n: int = 1) -> None:
        """Add `n` observations of `value`; a bound includes its own value."""
        self.counts[bisect_left(self.bounds, value)] += n
        self.total += value * n

    def __repr__(self) -> str:
        return f"Histogram(n={sum(self.counts)}, sum={self.total:.6g})"


class VllmMetrics:
    """vLLM's metrics of one engine.

    Args:
        model_name: the first served model name, the value of the `model_name` label.
        engine: index of the engine (data-parallel rank), the value of the `engine` label.
        max_model_len: where the token-count ladders end.
        legacy: also publish the names of 2024.
        cache_config: labels of `vllm:cache_config_info` (block_size, num_gpu_blocks, ...); the
            family is left out when empty.
        prefix_caching: False makes the legacy hit rate -1.
        clock: monotonic seconds, used for the throughput window only.
    """

    def __init__(
        self,
        model_name: str,
        engine: str = "0",
        *,
        max_model_len: int = 4096,
        legacy: bool = True,
        cache_config: Mapping[str, object] | None = None,
        prefix_caching: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model_name = model_name
        self._clock = clock
        self._prefix_caching = prefix_caching
        self._rows = [r for r in CATALOGUE if legacy or r.generation is Generation.CURRENT]
        base = {"engine": engine, "model_name": model_name}
        self._counters: dict[str, dict[str, int]] = {}
        self._histograms: dict[str, Histogram] = {}
        self._heads = {row.key: _head(row) for row in self._rows}
        self._lines: dict[str, list[str]] = {}
        for row in CATALOGUE:
            bounds = ladder(row.buckets, max_model_len) if row.buckets else ()
            if row.kind is Kind.COUNTER and not row.source:
                self._counters[row.key] = dict.fromkeys(row.values or ("",), 0)
            elif row.kind is Kind.HISTOGRAM and not row.source:
                self._histograms[row.key] = Histogram(bounds)
            self._lines[row.key] = _sample_prefixes(row, bounds, base)
        for row in KV_EVENTS:
            self._heads[row.key] = _head(row)
            self._lines[row.key] = _sample_prefixes(row, (), base)
        self._cache_info = _cache_info(cache_config or {}, engine)
        start = clock() - THROUGHPUT_WINDOW
        self._snapshots: deque[tuple[float, int, int]] = deque([(start, 0, 0)], maxlen=64)

        counters, histograms = self._counters, self._histograms
        self._queries = counters["prefix_cache_queries"]
        self._hits = counters["prefix_cache_hits"]
        self._prompt = counters["prompt_tokens"]
        self._generation = counters["generation_tokens"]
        self._ttft = histograms["time_to_first_token_seconds"]
        self._gap = histograms["inter_token_latency_seconds"]
        self._iteration = histograms["iteration_tokens_total"]

    # ---------------------------------------------------------------- recording

    def prefix(self, queries: int, hits: int) -> None:
        """A prompt of `queries` tokens was looked up and `hits` of them were cached."""
        self._queries[""] += queries
        self._hits[""] += hits

    def external_prefix(self, queries: int, hits: int) -> None:
        """Of a prompt `queries` tokens were looked up in a slower tier and `hits` were there."""
        self._counters["external_prefix_cache_queries"][""] += queries
        self._counters["external_prefix_cache_hits"][""] += hits

    def first_token(
        self, ttft: float, *, prompt_tokens: int, cached_tokens: int = 0, external_tokens: int = 0
    ) -> None:
        """A request produced its first token `ttft` seconds after its arrival.

        Of its `cached_tokens` so many as `external_tokens` came from a slower tier.
        """
        local_tokens = cached_tokens - external_tokens
        self._ttft.observe(ttft)
        self._prompt[""] += prompt_tokens
        by_source = self._counters["prompt_tokens_by_source"]
        by_source["local_compute"] += prompt_tokens - cached_tokens
        cached_by_source = self._counters["prompt_tokens_cached_by_source"]
        for sources in (by_source, cached_by_source):
            sources["local_cache_hit"] += local_tokens
            sources["external_kv_transfer"] += external_tokens
        self._counters["prompt_tokens_cached"][""] += cached_tokens
        self._histograms["request_prefill_kv_computed_tokens"].observe(
            prompt_tokens - cached_tokens
        )
        self._snapshot()

    def inter_token(self, gap: float, n: int = 1) -> None:
        """`n` tokens followed their predecessors after `gap` seconds each."""
        self._gap.observe(gap, n)

    def iteration(
        self,
        tokens: int,
        generation_tokens: int,
        *,
        forward_seconds: float | None = None,
        execute_seconds: float | None = None,
    ) -> None:
        """One engine step computed `tokens` tokens and sampled `generation_tokens` new ones."""
        self._iteration.observe(tokens)
        self._generation[""] += generation_tokens
        if forward_seconds is not None:
            self._histograms["model_forward_time_milliseconds"].observe(forward_seconds * 1e3)
        if execute_seconds is not None:
            self._histograms["model_execute_time_milliseconds"].observe(execute_seconds * 1e3)
        self._snapshot()

    def preempted(self, n: int = 1) -> None:
        """`n` running requests lost their KV blocks and wait again."""
        self._counters["num_preemptions"][""] += n

    def rejected(self, reason: str) -> None:
        """A request was refused on arrival; `reason` is one of `REJECTION_REASONS`."""
        self._counters["admission_rejections"][reason] += 1

    def finished(
        self,
        reason: str,
        *,
        prompt_tokens: int,
        generation_tokens: int,
        e2e: float,
        queue_time: float,
        prefill_time: float | None = None,
        decode_time: float | None = None,
        params_n: int = 1,
        max_tokens: int | None = None,
        longest_choice: int | None = None,
        preemptions: int = 0,
    ) -> None:
        """A request ended.  All times in seconds, counted in monotonic time.

        Args:
            reason: one of `FINISH_REASONS`; KeyError otherwise.
            prefill_time: first scheduling to first token; None when no token came.
            decode_time: first token to last token; None when no token came.
            longest_choice: tokens of the longest of `params_n` choices; default all of them.
        """
        self._counters["request_success"][reason] += 1
        histograms = self._histograms
        histograms["e2e_request_latency_seconds"].observe(e2e)
        histograms["request_queue_time_seconds"].observe(queue_time)
        histograms["request_prompt_tokens"].observe(prompt_tokens)
        histograms["request_generation_tokens"].observe(generation_tokens)
        histograms["request_max_num_generation_tokens"].observe(
            generation_tokens if longest_choice is None else longest_choice
        )
        histograms["request_params_n"].observe(params_n)
        histograms["request_num_preemptions"].observe(preemptions)
        if max_tokens is not None:
            histograms["request_params_max_tokens"].observe(max_tokens)
        if prefill_time is None or decode_time is None:
            return
        histograms["request_prefill_time_seconds"].observe(prefill_time)
        histograms["request_decode_time_seconds"].observe(decode_time)
        histograms["request_inference_time_seconds"].observe(prefill_time + decode_time)
        if generation_tokens > 1:
            histograms["request_time_per_output_token_seconds"].observe(
                decode_time / (generation_tokens - 1)
            )

    # ---------------------------------------------------------------- reading

    def render(self, gauges: EngineGauges) -> bytes:
        """The page in text format 0.0.4 (`CONTENT_TYPE`)."""
        levels = self._levels(gauges)
        out: list[str] = []
        for row in self._rows:
            prefixes = self._lines[row.key]
            if row.kind is Kind.GAUGE:
                values: list[float] = levels[row.key]
            elif row.kind is Kind.COUNTER:
                values = [float(v) for v in self._counters[row.source or row.key].values()]
            else:
                histogram = self._histograms[row.source or row.key]
                if row.buckets == "milliseconds" and not any(histogram.counts):
                    continue
                values = _cumulative(histogram)
            out.append(self._heads[row.key])
            out.extend(f"{p}{v}\n" for p, v in zip(prefixes, values, strict=True))
        for key, values in (gauges.kv_events or {}).items():
            out.append(self._heads[key])
            out.extend(f"{p}{v}\n" for p, v in zip(self._lines[key], values, strict=True))
        out.append(self._cache_info)
        return "".join(out).encode()

    def _levels(self, gauges: EngineGauges) -> dict[str, list[float]]:
        prompt_rate, generation_rate = self._throughput()
        queries = self._queries[""]
        hit_rate = self._hits[""] / max(queries, 1) if self._prefix_caching else -1.0
        usage = float(gauges.kv_usage)
        return {
            "num_requests_running": [float(gauges.running)],
            "num_requests_waiting": [float(gauges.waiting)],
            "num_requests_waiting_by_reason": [
                float(gauges.waiting - gauges.deferred),
                float(gauges.deferred),
            ],
            "kv_cache_usage_perc": [usage],
            "gpu_cache_usage_perc": [usage],
            "cpu_cache_usage_perc": [0.0],
            "num_requests_swapped": [0.0],
            "avg_prompt_throughput_toks_per_s": [prompt_rate],
            "avg_generation_throughput_toks_per_s": [generation_rate],
            "gpu_prefix_cache_hit_rate": [hit_rate],
            "cpu_prefix_cache_hit_rate": [-1.0],
        }

    def _snapshot(self) -> None:
        # One entry per quarter second, overwritten until it is over, so that the newest one always
        # holds the present totals.
        slot = self._clock() // _SNAPSHOT_EVERY * _SNAPSHOT_EVERY
        snapshots = self._snapshots
        if snapshots[-1][0] == slot:
            snapshots.pop()
        snapshots.append((slot, self._prompt[""], self._generation[""]))

    def _throughput(self) -> tuple[float, float]:
        now = self._clock()
        snapshots = self._snapshots
        # The newest entry from before the window is the baseline; when nothing is newer, the engine
        # has been idle for the whole window and both rates come out as 0.
        while len(snapshots) > 1 and snapshots[1][0] <= now - THROUGHPUT_WINDOW:
            snapshots.popleft()
        since, prompt, generation = snapshots[0]
        span = min(max(now - since, _SNAPSHOT_EVERY), THROUGHPUT_WINDOW)
        return (self._prompt[""] - prompt) / span, (self._generation[""] - generation) / span


def _labels(pairs: Mapping[str, object]) -> str:
    def escape(value: object) -> str:
        return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{k}="{escape(v)}"' for k, v in sorted(pairs.items())) + "}"


def _head(row: Row) -> str:
    name = f"{row.name}_total" if row.kind is Kind.COUNTER else row.name
    return f"# HELP {name} {row.text}\n# TYPE {name} {row.kind.value}\n"


def _sample_prefixes(row: Row, bounds: tuple[float, ...], base: Mapping[str, str]) -> list[str]:
    """Name and labels of each sample line of `row`, in the order `render` has the values."""
    if row.kind is Kind.HISTOGRAM:
        edges = [str(b) for b in bounds] + ["+Inf"]
        lines = [f"{row.name}_bucket{_labels({**base, 'le': edge})} " for edge in edges]
        return [*lines, f"{row.name}_count{_labels(base)} ", f"{row.name}_sum{_labels(base)} "]
    name = f"{row.name}_total" if row.kind is Kind.COUNTER else row.name
    if not row.label:
        return [f"{name}{_labels(base)} "]
    return [f"{name}{_labels({**base, row.label: value})} " for value in row.values]


def _cumulative(histogram: Histogram) -> list[float]:
    values: list[float] = []
    seen = 0
    for count in histogram.counts:
        seen += count
        values.append(float(seen))
    return [*values, float(seen), histogram.total]


def _cache_info(config: Mapping[str, object], engine: str) -> str:
    if not config:
        return ""
    name = "vllm:cache_config_info"
    labels = _labels({**config, "engine": engine})
    return f"# HELP {name} KV-cache configuration.\n# TYPE {name} gauge\n{name}{labels} 1.0\n"

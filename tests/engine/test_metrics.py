"""The metrics page: every name is there, prometheus_client reads it, and the numbers add up."""

from __future__ import annotations

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from engine.metrics import EngineGauges, VllmMetrics
from engine.metrics_catalogue import CATALOGUE, Generation, Kind, mantissa_ladder

CURRENT_NAMES = [
    "num_requests_running",
    "num_requests_waiting",
    "num_requests_waiting_by_reason",
    "kv_cache_usage_perc",
    "cache_config_info",
    "prefix_cache_queries",
    "prefix_cache_hits",
    "external_prefix_cache_queries",
    "external_prefix_cache_hits",
    "num_preemptions",
    "prompt_tokens",
    "prompt_tokens_by_source",
    "prompt_tokens_cached",
    "prompt_tokens_cached_by_source",
    "generation_tokens",
    "request_success",
    "admission_rejections",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_inference_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
    "request_max_num_generation_tokens",
    "request_params_n",
    "request_params_max_tokens",
    "request_num_preemptions",
    "request_prefill_kv_computed_tokens",
    "iteration_tokens_total",
]
LEGACY_NAMES = [
    "gpu_cache_usage_perc",
    "cpu_cache_usage_perc",
    "num_requests_swapped",
    "avg_prompt_throughput_toks_per_s",
    "avg_generation_throughput_toks_per_s",
    "gpu_prefix_cache_hit_rate",
    "cpu_prefix_cache_hit_rate",
    "gpu_prefix_cache_queries",
    "gpu_prefix_cache_hits",
    "time_per_output_token_seconds",
    "time_in_queue_requests",
    "model_forward_time_milliseconds",
    "model_execute_time_milliseconds",
]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def parse(page: bytes) -> dict[str, Metric]:
    return {f.name: f for f in text_string_to_metric_families(page.decode())}


def value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    found = [
        s.value
        for family in families.values()
        for s in family.samples
        if s.name == sample and labels.items() <= s.labels.items()
    ]
    assert len(found) == 1, (sample, labels, found)
    return found[0]


def one_request(metrics: VllmMetrics) -> None:
    """Queued 0.5 s, prefill 1 s of 100 tokens (32 cached), then 5 tokens 0.25 s apart."""
    metrics.prefix(100, 32)
    metrics.iteration(68, 1, forward_seconds=0.9, execute_seconds=1.0)
    metrics.first_token(1.5, prompt_tokens=100, cached_tokens=32)
    for _ in range(4):
        metrics.inter_token(0.25)
        metrics.iteration(1, 1, forward_seconds=0.2, execute_seconds=0.25)
    metrics.finished(
        "length",
        prompt_tokens=100,
        generation_tokens=5,
        e2e=2.5,
        queue_time=0.5,
        prefill_time=1.0,
        decode_time=1.0,
        max_tokens=5,
    )


@pytest.mark.parametrize("legacy", [True, False])
def test_every_name_is_published(legacy: bool) -> None:
    metrics = VllmMetrics("m", legacy=legacy, cache_config={"block_size": 16})
    one_request(metrics)
    wanted = {f"vllm:{n}" for n in CURRENT_NAMES + (LEGACY_NAMES if legacy else [])}
    assert set(parse(metrics.render(EngineGauges()))) == wanted


def test_one_request_adds_up() -> None:
    metrics = VllmMetrics("m", engine="3", max_model_len=200)
    one_request(metrics)
    families = parse(metrics.render(EngineGauges(running=2, waiting=3, kv_usage=0.25, deferred=1)))
    table = [
        ("vllm:num_requests_running", {}, 2),
        ("vllm:num_requests_waiting", {}, 3),
        ("vllm:num_requests_waiting_by_reason", {"reason": "capacity"}, 2),
        ("vllm:num_requests_waiting_by_reason", {"reason": "deferred"}, 1),
        ("vllm:kv_cache_usage_perc", {}, 0.25),
        ("vllm:gpu_cache_usage_perc", {}, 0.25),
        ("vllm:prefix_cache_queries_total", {}, 100),
        ("vllm:gpu_prefix_cache_hits_total", {}, 32),
        ("vllm:gpu_prefix_cache_hit_rate", {}, 0.32),
        ("vllm:prompt_tokens_total", {}, 100),
        ("vllm:prompt_tokens_by_source_total", {"source": "local_compute"}, 68),
        ("vllm:prompt_tokens_cached_total", {}, 32),
        ("vllm:generation_tokens_total", {}, 5),
        ("vllm:request_success_total", {"finished_reason": "length"}, 1),
        ("vllm:request_success_total", {"finished_reason": "stop"}, 0),
        ("vllm:time_to_first_token_seconds_sum", {}, 1.5),
        ("vllm:time_to_first_token_seconds_bucket", {"le": "1.0"}, 0),
        ("vllm:time_to_first_token_seconds_bucket", {"le": "2.5"}, 1),
        ("vllm:inter_token_latency_seconds_count", {}, 4),
        ("vllm:time_per_output_token_seconds_count", {}, 4),
        ("vllm:request_time_per_output_token_seconds_sum", {}, 0.25),
        ("vllm:request_inference_time_seconds_sum", {}, 2.0),
        ("vllm:request_prefill_kv_computed_tokens_sum", {}, 68),
        ("vllm:iteration_tokens_total_sum", {}, 72),
        ("vllm:iteration_tokens_total_bucket", {"le": "1.0"}, 4),
        ("vllm:request_prompt_tokens_bucket", {"le": "100.0"}, 1),
        ("vllm:request_prompt_tokens_bucket", {"le": "50.0"}, 0),
        ("vllm:model_forward_time_milliseconds_sum", {}, pytest.approx(1700)),
    ]
    for name, labels, wanted in table:
        assert value(families, name, model_name="m", engine="3", **labels) == wanted, name


def test_buckets_are_cumulative_and_a_bound_includes_its_value() -> None:
    metrics = VllmMetrics("m")
    for gap in (0.01, 0.0100001, 0.2, 1000.0):
        metrics.inter_token(gap)
    samples = parse(metrics.render(EngineGauges()))["vllm:inter_token_latency_seconds"].samples
    counts = {s.labels["le"]: s.value for s in samples if s.name.endswith("_bucket")}
    assert (counts["0.01"], counts["0.025"], counts["0.2"]) == (1, 2, 3)
    assert (counts["80.0"], counts["+Inf"]) == (3, 4)
    assert list(counts.values()) == sorted(counts.values())


def test_throughput_is_of_the_last_five_seconds() -> None:
    clock = Clock()
    metrics = VllmMetrics("m", clock=clock)

    def generation_rate() -> float:
        families = parse(metrics.render(EngineGauges()))
        return value(families, "vllm:avg_generation_throughput_toks_per_s")

    assert generation_rate() == 0
    for _ in range(100):  # 10 s at 20 tokens/s
        clock.now += 0.1
        metrics.iteration(2, 2)
    assert generation_rate() == pytest.approx(20, rel=0.1)
    clock.now += 60
    assert generation_rate() == 0


def test_label_values_are_escaped() -> None:
    families = parse(VllmMetrics('a"b\\c\nd').render(EngineGauges()))
    assert value(families, "vllm:num_requests_running", model_name='a"b\\c\nd') == 0


def test_unknown_reasons_are_errors_of_the_caller() -> None:
    metrics = VllmMetrics("m")
    with pytest.raises(KeyError):
        metrics.rejected("bored")


def test_prefix_caching_off_shows_minus_one() -> None:
    families = parse(VllmMetrics("m", prefix_caching=False).render(EngineGauges()))
    assert value(families, "vllm:gpu_prefix_cache_hit_rate") == -1


def test_the_catalogue_is_consistent() -> None:
    keys = [row.key for row in CATALOGUE]
    assert len(keys) == len(set(keys))
    by_key = {row.key: row for row in CATALOGUE}
    for row in CATALOGUE:
        assert (row.kind is Kind.HISTOGRAM) == bool(row.buckets), row.key
        if row.source:
            source = by_key[row.source]
            assert (source.kind, source.buckets) == (row.kind, row.buckets)
            assert (source.generation, row.generation) == (Generation.CURRENT, Generation.LEGACY)


def test_token_ladders_end_at_the_limit() -> None:
    assert mantissa_ladder((1, 2, 5), 100) == (1, 2, 5, 10, 20, 50, 100)
    assert mantissa_ladder((1, 2, 5), 99) == (1, 2, 5, 10, 20, 50)

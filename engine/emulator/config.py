"""What an emulated engine is told: identity, limits, timing profile and text shape."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from engine.emulator.profiles import PROFILES, Timing
from engine.kv_events import KvEventsConfig
from engine.kv_events.wire import ENCODINGS


class ConfigError(ValueError):
    """A setting out of range; the message names it and its limit."""


@dataclass(frozen=True, slots=True)
class EmulatorConfig:
    """Settings of one emulated engine.

    Args:
        host, port: where to listen; port 0 picks a free one.
        models: served model names, the first one names the metrics.
        name: sent as `x-emulator-name`, so that a test sees who answered.
        seed: seeds output lengths, ids and fault rates.
        timing: costs and limits.
        max_model_len: prompt plus output, in tokens; lowered to what the KV cache holds.
        mean_output_tokens: mean output length when a request sets no max_tokens.
        tokens_per_chunk: tokens joined into one SSE event.
        chunk_size: pad the text of each SSE event to at least this many bytes; 0: no padding.
        early_head: send the head of a stream on arrival, as vLLM does, not with the first token.
        api_keys: if any, requests below /v1 need one of them as bearer token.
        legacy_metrics: publish vLLM's metric names of 2024 too.
        embedding_size: length of embedding vectors.
        max_body_bytes: larger request bodies get 413.
        record: how many of the last requests to keep for inspection, bodies as digests.
        kv_events: whether and where changes of the KV cache are published.
        kv_events_encoding: "map" as vLLM encodes events now, "array" as it did until early 2026.
    """

    host: str = "127.0.0.1"
    port: int = 0
    models: tuple[str, ...] = ("emulated",)
    name: str = "emulator"
    seed: int = 0
    timing: Timing = field(default_factory=lambda: PROFILES["instant"])
    max_model_len: int = 131_072
    mean_output_tokens: int = 64
    tokens_per_chunk: int = 1
    chunk_size: int = 0
    early_head: bool = False
    api_keys: tuple[str, ...] = ()
    legacy_metrics: bool = True
    embedding_size: int = 16
    max_body_bytes: int = 64 * 1024 * 1024
    record: int = 64
    kv_events: KvEventsConfig = field(default_factory=KvEventsConfig)
    kv_events_encoding: str = "map"

    def __post_init__(self) -> None:
        timing = self.timing
        limits: list[tuple[str, float, float, float]] = [
            ("port", self.port, 0, 65535),
            ("max_model_len", self.max_model_len, 2, 1 << 24),
            ("mean_output_tokens", self.mean_output_tokens, 1, 1 << 20),
            ("tokens_per_chunk", self.tokens_per_chunk, 1, 1024),
            ("chunk_size", self.chunk_size, 0, 1 << 20),
            ("embedding_size", self.embedding_size, 1, 16384),
            ("max_body_bytes", self.max_body_bytes, 1, 1 << 32),
            ("record", self.record, 0, 100_000),
            ("max_num_seqs", timing.max_num_seqs, 1, 1 << 20),
            ("max_num_batched_tokens", timing.max_num_batched_tokens, 1, 1 << 24),
            ("num_gpu_blocks", timing.num_blocks, 1, 1 << 32),
            ("block_size", timing.block_size, 1, 4096),
            ("speed", timing.speed, 1e-6, 1e9),
            ("prefill_tokens_per_second", timing.prefill_tokens_per_second, 1e-3, math.inf),
            ("prefill_quadratic", timing.prefill_quadratic, 0, 1),
            ("decode_step", timing.decode_step, 0, 3600),
            ("decode_per_seq", timing.decode_per_seq, 0, 3600),
            ("decode_per_kv_token", timing.decode_per_kv_token, 0, 1),
            ("host_blocks", timing.host_blocks, 0, 1 << 32),
            ("reload_per_token", timing.reload_per_token, 0, 1),
        ]
        for name, value, low, high in limits:
            if not low <= value <= high:
                raise ConfigError(f"{name} must be between {low} and {high}, got {value}")
        if timing.max_num_batched_tokens < timing.max_num_seqs:
            raise ConfigError(
                f"max_num_batched_tokens ({timing.max_num_batched_tokens}) must be at least "
                f"max_num_seqs ({timing.max_num_seqs}), or prompts would starve"
            )
        if timing.max_queued is not None and timing.max_queued < 1:
            raise ConfigError(f"max_num_queued_reqs must be at least 1, got {timing.max_queued}")
        if not all(self.api_keys):
            raise ConfigError("api_key must not be empty")
        if not self.models or not all(self.models):
            raise ConfigError("at least one served model name is needed")
        if not self.name or not self.name.isascii() or not self.name.isprintable():
            raise ConfigError(f"name must be printable ASCII, got {self.name!r}")
        if self.kv_events_encoding not in ENCODINGS:
            known = " or ".join(ENCODINGS)
            raise ConfigError(
                f"kv_events_encoding must be {known}, got {self.kv_events_encoding!r}"
            )
        if self.kv_events.enabled and not timing.prefix_caching:
            raise ConfigError("kv_events need prefix caching, which is switched off")

    @property
    def context_length(self) -> int:
        """Longest prompt plus output that is accepted, in tokens."""
        return min(self.max_model_len, self.timing.num_blocks * self.timing.block_size)

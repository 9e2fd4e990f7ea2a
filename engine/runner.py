"""Runs one scheduled step: lays the chunks out flat, runs the decoder over the paged cache.

Rows are the scheduled tokens, decodes first, then prompt chunks. Only rows whose next token is
wanted (and, on request, the rows of a prompt's chunk) go through the vocabulary projection.
"""

import math

import torch
from torch import Tensor

from engine.attention import make_backend
from engine.attention.base import Span, make_cache
from engine.config import ConfigError, EngineConfig
from engine.models.decoder import Decoder
from engine.models.weights import DummyWeights, SafetensorWeights, Weights
from engine.sampler import token_logprobs
from engine.scheduler import Scheduled

DEFAULT_KV_BYTES = 1 << 30

PROMPT_LOGPROB_ROWS = 128
"""Prompt rows scored at a time: bounds the float32 logits of a large vocabulary to ~80 MB."""


class ModelRunner:
    """Owns the weights, the caches and the attention backend."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.device = config.device
        if config.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device cuda was asked for, but torch sees no GPU", param="device")
        self.dtype = _resolve_dtype(config)
        self.num_blocks = _resolve_blocks(config, self.dtype)
        self.max_model_len = _resolve_length(config, self.num_blocks)
        model = config.model
        self.backend = make_backend(config, self.dtype)
        self.decoder = Decoder(
            model,
            _weights(config, self.dtype),
            max_length=self.max_model_len,
            dtype=self.dtype,
            device=self.device,
        )
        slots = self.num_blocks * config.block_size
        try:
            self._caches = make_cache(
                model.num_layers, model.num_kv_heads, slots, model.head_dim, self.dtype, self.device
            )
        except (MemoryError, ValueError, torch.OutOfMemoryError):
            # ValueError is what numpy has for a size beyond what an index can hold.
            raise ConfigError(
                f"there is no memory for a KV cache of {self.num_blocks} blocks",
                param="kv_cache_memory_bytes" if config.num_blocks is None else "num_blocks",
            ) from None

    @torch.inference_mode()
    def run(self, step: list[Scheduled]) -> Tensor:
        """Compute the step's tokens. Returns float32 logits [S, vocab], a row for each chunk
        that `samples`, in order; fills `prompt_logprobs` of the sequences that want them."""
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        spans: list[Span] = []
        last_rows: list[int] = []
        size = self.config.block_size
        for sequence, start, length in step:
            spans.append(Span(len(tokens), length, start, sequence.table))
            blocks = sequence.table.blocks
            covered = range(start, start + length)
            tokens += sequence.tokens[start : start + length]
            positions += covered
            slots += [blocks[i // size] * size + i % size for i in covered]
            if start + length == len(sequence.tokens):
                last_rows.append(len(tokens) - 1)
        plan = self.backend.prepare(spans, torch.tensor(slots, device=self.device))

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return self.backend.attend(q, k, v, self._caches[layer], plan)

        hidden = self.decoder.forward(
            torch.tensor(tokens, device=self.device),
            torch.tensor(positions, device=self.device),
            attend,
        )
        for scheduled, span in zip(step, spans, strict=True):
            if scheduled.sequence.prompt_logprobs is not None:
                self._score_prompt(scheduled, hidden[span.row : span.row + span.length])
        return self.decoder.logits(hidden[torch.tensor(last_rows, dtype=torch.int64)])

    def _score_prompt(self, scheduled: Scheduled, hidden: Tensor) -> None:
        sequence, start, length = scheduled
        found = sequence.prompt_logprobs
        count = sequence.sampling.prompt_logprobs
        stop = min(start + length, sequence.num_prompt - 1)
        if found is None or count is None:
            return
        for begin in range(start, stop, PROMPT_LOGPROB_ROWS):
            end = min(begin + PROMPT_LOGPROB_ROWS, stop)
            logits = self.decoder.logits(hidden[begin - start : end - start])
            targets = sequence.tokens[begin + 1 : end + 1]
            for i, target in enumerate(targets):
                found[begin + 1 + i] = token_logprobs(logits[i], target, count)


def _weights(config: EngineConfig, dtype: torch.dtype) -> Weights:
    if config.load_format == "dummy":
        return DummyWeights(dtype, config.device, config.seed)
    if config.model.path is None:
        raise ConfigError("the model has no checkpoint folder to load from", param="model")
    return SafetensorWeights(config.model.path, dtype, config.device)


def _resolve_dtype(config: EngineConfig) -> torch.dtype:
    if config.dtype != "auto":
        return torch.float32 if config.dtype == "float32" else torch.bfloat16
    if config.model.dtype == "float32":
        return torch.float32
    if config.device == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.float32
    return torch.bfloat16


def _resolve_blocks(config: EngineConfig, dtype: torch.dtype) -> int:
    if config.num_blocks is not None:
        return config.num_blocks
    model = config.model
    row = model.num_kv_heads * model.head_dim * dtype.itemsize
    block = 2 * model.num_layers * row * config.block_size
    memory = config.kv_cache_memory_bytes
    if memory is not None and memory < block:
        raise ConfigError(
            f"kv_cache_memory_bytes {memory} holds no block; one takes {block} bytes",
            param="kv_cache_memory_bytes",
        )
    if memory is not None:
        return memory // block
    length = config.max_model_len or model.max_position_embeddings
    wanted = config.max_num_seqs * math.ceil(length / config.block_size)
    return max(1, min(wanted, DEFAULT_KV_BYTES // block))


def _resolve_length(config: EngineConfig, num_blocks: int) -> int:
    capacity = num_blocks * config.block_size
    length = config.max_model_len or min(config.model.max_position_embeddings, capacity)
    if length < 2:
        raise ConfigError(
            f"max_model_len is {length}; a prompt and its answer take at least 2 tokens",
            param="max_model_len",
        )
    if config.max_model_len is not None and config.max_model_len > capacity:
        raise ConfigError(
            f"max_model_len {config.max_model_len} does not fit the KV cache, which holds "
            f"{capacity} tokens; give it more memory or lower max_model_len",
            param="max_model_len",
        )
    return length

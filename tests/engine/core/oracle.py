"""Tiny random checkpoints of each architecture, made by transformers, and its answers to them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from engine.config import EngineConfig, ModelConfig
from engine.core import EngineCore
from engine.request import EngineRequest, RequestOutput, SamplingParams

VOCAB = 199
BLOCK = 8
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": 198,
    "bos_token_id": 0,
    "initializer_range": 0.3,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "llama3_rope": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, rope_parameters=LLAMA3_ROPE)),
    "llama_bias": lambda: LlamaForCausalLM(
        LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True)
    ),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=16)),
}


class Oracle:
    """One checkpoint on disk and the transformers model it came from."""

    def __init__(self, name: str, folder: Path) -> None:
        torch.manual_seed(len(name))
        self.model = FAMILIES[name]().eval()
        with torch.no_grad():
            for parameter_name, parameter in self.model.named_parameters():
                if parameter_name.endswith("bias") or "norm" in parameter_name:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
        self.model.save_pretrained(folder)
        self.folder = folder
        self.config = ModelConfig.from_dir(folder)

    def generate(self, prompt: list[int], count: int) -> list[int]:
        """Greedy continuation of exactly `count` tokens."""
        out = self.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            do_sample=False,
            max_new_tokens=count,
            eos_token_id=None,
            pad_token_id=0,
        )
        found: list[int] = out[0, len(prompt) :].tolist()
        return found

    @torch.inference_mode()
    def logits(self, tokens: list[int]) -> torch.Tensor:
        found: torch.Tensor = self.model(torch.tensor([tokens])).logits[0]
        return found

    def core(self, **settings: Any) -> EngineCore:
        defaults: dict[str, Any] = {
            "dtype": "float32",
            "block_size": BLOCK,
            "num_blocks": 128,
            "max_num_seqs": 32,
            "max_step_seconds": None,
        }
        return EngineCore(EngineConfig(model=self.config, **{**defaults, **settings}))


def prompt_of(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(1000 * seed + length)
    return torch.randint(1, VOCAB - 1, (length,), generator=generator).tolist()


def greedy(count: int, **more: Any) -> SamplingParams:
    return SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True, **more)


def request(name: str, prompt: list[int], sampling: SamplingParams, **more: Any) -> EngineRequest:
    return EngineRequest(
        request_id=name, prompt_token_ids=prompt, sampling=sampling, arrival=0.0, **more
    )


def run(core: EngineCore, limit: int = 5000) -> dict[tuple[str, int], list[RequestOutput]]:
    """Step until idle; all outputs by (request id, choice)."""
    found: dict[tuple[str, int], list[RequestOutput]] = {}
    for _ in range(limit):
        if not core.has_work():
            return found
        for output in core.step(0.0):
            found.setdefault((output.request_id, output.index), []).append(output)
    raise AssertionError(f"still busy after {limit} steps: {core}")


def tokens_of(outputs: list[RequestOutput]) -> list[int]:
    return [token for output in outputs for token in output.token_ids]

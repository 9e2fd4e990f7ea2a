"""What an emulated engine costs and holds: the formula of a step's time, and engines known by name.

A step lasts

    decode_step + decode_per_seq * decoding + decode_per_kv_token * their context
                + prompt_tokens / prefill_rate + prefill_quadratic * sum(chunk * context)
                + reload_per_token * tokens loaded from the host tier

divided by `speed`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Timing:
    """Costs and limits of the engine to imitate; times in seconds, sizes in tokens.

    `prefill_quadratic` is seconds per (prompt token x token of context before it),
    `decode_per_kv_token` seconds per token in the context of a decoding choice.  What the KV cache
    has no room for goes to `host_blocks` more blocks of slower memory, if there are any, and comes
    back at `reload_per_token`.  `max_queued` of None leaves the waiting queue unbounded.
    """

    prefill_tokens_per_second: float = math.inf
    prefill_quadratic: float = 0.0
    decode_step: float = 0.0
    decode_per_seq: float = 0.0
    decode_per_kv_token: float = 0.0
    reload_per_token: float = 0.0
    max_num_seqs: int = 1024
    max_num_batched_tokens: int = 8192
    num_blocks: int = 262_144
    host_blocks: int = 0
    block_size: int = 16
    prefix_caching: bool = True
    max_queued: int | None = None
    speed: float = 1.0

    @property
    def free(self) -> bool:
        """Whether steps take no time at all."""
        costs = (
            *(self.decode_step, self.decode_per_seq, self.decode_per_kv_token),
            *(self.prefill_quadratic, self.reload_per_token),
        )
        return not any(costs) and math.isinf(self.prefill_tokens_per_second)

    def step_seconds(
        self, *, decoding: int, context: int, prompt: int, quadratic: float, reloaded: int
    ) -> float:
        """How long a step takes.

        Args:
            decoding: choices that decode.
            context: tokens before theirs, in all.
            prompt: prompt tokens computed.
            quadratic: sum over those of the tokens before each.
            reloaded: tokens loaded from the host tier.
        """
        seconds = (
            self.decode_step
            + self.decode_per_seq * decoding
            + self.decode_per_kv_token * context
            + prompt / self.prefill_tokens_per_second
            + self.prefill_quadratic * quadratic
            + self.reload_per_token * reloaded
        )
        return seconds / self.speed


# Llama-3.1-8B on one H100 of 80 GB, from the profile in LLMServingSim (MIT, commit 5daddb2): chunks
# of 1, 512, 1024 and 2048 tokens take 8.2, 17.8, 30.2 and 64.8 ms there and 8.2, 20.7, 33.5 and
# 60.3 ms here.  Attention is 4 x width x layers operations per pair of tokens at 375 TFLOP/s, the
# KV cache is 128 KiB a token in bf16 and read at 2.7 TB/s; 412,000 tokens of it fit beside the
# weights.
_H100_8B_HBM: Final = Timing(
    prefill_tokens_per_second=1 / 24e-6,
    prefill_quadratic=1.4e-9,
    decode_step=0.0082,
    decode_per_seq=0.00002,
    decode_per_kv_token=50e-9,
    max_num_seqs=256,
    max_num_batched_tokens=2048,
    num_blocks=412_000 // 16,
    block_size=16,
)

PROFILES: Final[Mapping[str, Timing]] = {
    # No waiting anywhere: for tests of everything but time, and for measuring proxies.
    "instant": Timing(),
    # A model of a million parameters on one CPU thread.
    "cpu-tiny": Timing(
        prefill_tokens_per_second=20_000,
        decode_step=0.0015,
        decode_per_seq=0.00011,
        max_num_seqs=64,
        max_num_batched_tokens=512,
        num_blocks=2048,
        block_size=32,
    ),
    # Llama-3 8B in bf16 on one H100 of 80 GB: 8192 prompt tokens in 0.28 s of which 13 % is the
    # quadratic part; a decode step reads 15 GB of weights; 55 GB are left for KV at 128 KiB/token.
    "h100-8b": Timing(
        prefill_tokens_per_second=33_700,
        prefill_quadratic=1.1e-9,
        decode_step=0.006,
        decode_per_seq=0.00004,
        max_num_seqs=256,
        max_num_batched_tokens=8192,
        num_blocks=27_000,
        block_size=16,
    ),
    # For experiments with routing: prompts in small chunks, decode slower as contexts grow.
    "h100-8b-hbm": _H100_8B_HBM,
    # The same with the cache in fp8 and the host's memory behind it: 3.3 million tokens in all.
    "h100-8b-offload": replace(
        _H100_8B_HBM,
        decode_per_kv_token=25e-9,
        reload_per_token=2.6e-6,
        num_blocks=824_000 // 16,
        host_blocks=(3_300_000 - 824_000) // 16,
    ),
}

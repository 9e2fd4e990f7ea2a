"""Decode speed of the engine beside transformers' generate, and what a shared prefix saves.

Both run in this process, one after the other, on one thread, on the same random Qwen3-0.6B-shaped
bfloat16 weights (596 M parameters), and on a tiny float32 Llama the size of a demo model, where
fixed costs per operation dominate. Figures are CPU-seconds (`time.process_time`), the best of a
few rounds, so that a busy machine disturbs them little. Decode speed leaves the prompt out on
both sides. The last part times the first token of two requests that share a 1024-token prefix,
on a small model with default engine settings.

Run: OMP_NUM_THREADS=1 python bench/engine_decode.py   (about two minutes, 5 GB of memory)
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from bench.machine import processor
from engine.config import EngineConfig, ModelConfig
from engine.core import EngineCore
from engine.request import EngineRequest, SamplingParams

RESULTS = Path(__file__).parent / "results"

QWEN3_06B = {
    "vocab_size": 151_936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SMALL = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
TINY = {
    "vocab_size": 1024,
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
PREFIX, SUFFIX = 1024, 16
TINY_STEPS = 48


def prompt_of(length: int, vocab: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, vocab, (length,), generator=generator).tolist()


def cpu_seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def generate(model: Any, prompts: list[list[int]], count: int) -> None:
    ids = torch.tensor(prompts)
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        min_new_tokens=count,
        max_new_tokens=count,
        pad_token_id=0,
    )


def transformers_decode(model: Any, prompts: list[list[int]], steps: int) -> float:
    """Tokens per CPU-second past the first token."""
    short = cpu_seconds(lambda: generate(model, prompts, 1))
    long = cpu_seconds(lambda: generate(model, prompts, 1 + steps))
    return len(prompts) * steps / (long - short)


def engine_decode(core: EngineCore, prompts: list[list[int]], steps: int) -> float:
    """Tokens per CPU-second once every prompt is computed."""
    core.reset_prefix_cache()
    for i, prompt in enumerate(prompts):
        core.add(request_of(str(i), prompt, steps + 64))
    produced: set[str] = set()
    while len(produced) < len(prompts):
        produced.update(output.request_id for output in core.step(time.monotonic()))
    count = 0
    began = time.process_time()
    for _ in range(steps):
        count += len(core.step(time.monotonic()))
    seconds = time.process_time() - began
    for i in range(len(prompts)):
        core.abort(str(i))
    return count / seconds


def request_of(name: str, prompt: list[int], count: int) -> EngineRequest:
    sampling = SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True)
    return EngineRequest(request_id=name, prompt_token_ids=prompt, sampling=sampling, arrival=0.0)


def first_token(core: EngineCore, name: str, prompt: list[int]) -> float:
    """CPU-seconds from `add` to the first token."""

    def work() -> None:
        core.add(request_of(name, prompt, 2))
        while not core.step(time.monotonic()):
            pass

    seconds = cpu_seconds(work)
    core.abort(name)
    return seconds


def random_qwen3(folder: Path) -> tuple[Any, EngineCore]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    model = Qwen3ForCausalLM(Qwen3Config(**QWEN3_06B)).eval()
    torch.set_default_dtype(torch.float32)
    model.config.architectures = ["Qwen3ForCausalLM"]
    model.config.dtype = torch.bfloat16
    model.config.save_pretrained(folder)
    config = EngineConfig(
        model=ModelConfig.from_dir(folder), load_format="dummy", dtype="bfloat16", max_model_len=512
    )
    return model, EngineCore(config)


def random_tiny(folder: Path) -> tuple[Any, EngineCore]:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**TINY)).eval()
    model.save_pretrained(folder)
    config = EngineConfig(model=ModelConfig.from_dir(folder), dtype="float32", max_model_len=512)
    return model, EngineCore(config)


def measure_decode(
    model: Any, core: EngineCore, *, batches: list[int], prompt: int, steps: int, rounds: int
) -> list[dict[str, Any]]:
    rows = []
    for batch in batches:
        vocab = core.config.model.vocab_size
        prompts = [prompt_of(prompt, vocab, i) for i in range(batch)]
        theirs = ours = 0.0
        for _ in range(rounds):
            ours = max(ours, engine_decode(core, prompts, steps))
            theirs = max(theirs, transformers_decode(model, prompts, steps))
        rows.append(
            {"batch": batch, "transformers": theirs, "engine": ours, "ratio": ours / theirs}
        )
        print(
            f"batch {batch}: engine {ours:.1f}, transformers {theirs:.1f} tokens/CPU-s", flush=True
        )
    return rows


def measure_prefix(folder: Path, rounds: int) -> dict[str, float]:
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SMALL)).save_pretrained(folder)
    core = EngineCore(EngineConfig(model=ModelConfig.from_dir(folder), dtype="bfloat16"))
    first_token(core, "warm-up", prompt_of(PREFIX, SMALL["vocab_size"], 999))
    first, second = float("inf"), float("inf")
    for i in range(rounds):
        prefix = prompt_of(PREFIX, SMALL["vocab_size"], i)
        tails = [prompt_of(SUFFIX, SMALL["vocab_size"], 100 + 2 * i + j) for j in range(2)]
        first = min(first, first_token(core, f"{i}a", prefix + tails[0]))
        second = min(second, first_token(core, f"{i}b", prefix + tails[1]))
    return {"first_ms": first * 1e3, "second_ms": second * 1e3, "ratio": second / first}


def decode_table(rows: list[dict[str, Any]]) -> list[str]:
    return [
        "| batch | transformers generate | engine | engine / transformers |",
        "|---|---|---|---|",
        *(
            f"| {row['batch']} | {row['transformers']:.1f} | {row['engine']:.1f} "
            f"| {row['ratio']:.2f}x |"
            for row in rows
        ),
    ]


def table(report: dict[str, Any]) -> str:
    prefix = report["prefix"]
    lines = [
        "# Engine decode speed beside transformers",
        "",
        f"Made by `bench/engine_decode.py`: torch {report['torch']}, transformers "
        f"{report['transformers']}, one thread of {report['cpu']}; tokens per CPU-second, best of "
        f"{report['rounds']} rounds.",
        "",
        "Random Qwen3-0.6B shape (596 M parameters), bfloat16, prompts of 128 tokens, "
        f"{report['steps']} decode steps:",
        "",
        *decode_table(report["decode"]),
        "",
        "Random tiny Llama (1.2 M parameters), float32, prompts of 64 tokens, "
        f"{report['tiny_steps']} decode steps:",
        "",
        *decode_table(report["tiny"]),
        "",
        f"Time to the first token of two requests sharing a {PREFIX}-token prefix (+{SUFFIX} own "
        "tokens; 256-wide 6-layer Llama, bfloat16), CPU-milliseconds:",
        "",
        "| first | second | second / first |",
        "|---|---|---|",
        f"| {prefix['first_ms']:.1f} | {prefix['second_ms']:.1f} | {prefix['ratio']:.1%} |",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        prefix = measure_prefix(Path(folder), max(3, options.rounds))
    with tempfile.TemporaryDirectory() as folder:
        tiny = measure_decode(
            *random_tiny(Path(folder)),
            batches=[1, 8, 32],
            prompt=64,
            steps=TINY_STEPS,
            rounds=2 * options.rounds,
        )
    with tempfile.TemporaryDirectory() as folder:
        decode = measure_decode(
            *random_qwen3(Path(folder)),
            batches=options.batches,
            prompt=128,
            steps=options.steps,
            rounds=options.rounds,
        )
    report = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cpu": processor(),
        "steps": options.steps,
        "tiny_steps": TINY_STEPS,
        "rounds": options.rounds,
        "decode": decode,
        "tiny": tiny,
        "prefix": prefix,
    }
    text = table(report)
    print(text)
    if not options.no_write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "engine_decode.md").write_text(text, encoding="utf-8")
        (RESULTS / "engine_decode.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Checkpoint folders: both spellings of old and new configs, shards, and what is refused."""

import json
import math
import shutil
from collections.abc import Callable
from copy import deepcopy as copy_of
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.config import ConfigError, EngineConfig, ModelConfig, RopeConfig
from engine.core import EngineCore
from engine.layers import linear
from engine.layers.linear import Linear
from engine.pacing import FIRST_CHUNK, SMALLEST_CHUNK, StepPacer
from tests.engine.core.oracle import Oracle, greedy, prompt_of, request, run, tokens_of

PLAIN: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "eos_token_id": 3,
}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 4096,
}


@pytest.fixture
def copy(llama: Oracle, tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    shutil.copytree(llama.folder, folder)
    return folder


def start(folder: Path, **settings: Any) -> EngineCore:
    fields = {"dtype": "float32", "num_blocks": 16, "block_size": 8, **settings}
    return EngineCore(EngineConfig(model=ModelConfig.from_dir(folder), **fields))


def answer(core: EngineCore) -> list[int]:
    core.add(request("r", prompt_of(9), greedy(8)))
    return tokens_of(run(core)["r", 0])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, RopeConfig()),
        ({"rope_theta": 5e5}, RopeConfig(theta=5e5)),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, RopeConfig(theta=5e5)),
        (
            {"rope_theta": 2e4, "rope_scaling": {"type": "linear", "factor": 2.0}},
            RopeConfig(theta=2e4, kind="linear", factor=2.0),
        ),
        (
            {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
            RopeConfig(theta=5e5, kind="llama3", factor=8.0, original_max_position=4096),
        ),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}},
            RopeConfig(theta=5e5, kind="llama3", factor=8.0, original_max_position=4096),
        ),
    ],
)
def test_rope_settings_in_both_spellings(changes: dict[str, Any], expected: RopeConfig) -> None:
    assert ModelConfig.from_dict({**PLAIN, **changes}).rope == expected


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({}, "head_dim", 8),
        ({"head_dim": 20}, "head_dim", 20),
        ({}, "num_kv_heads", 4),
        ({"num_key_value_heads": 2}, "num_kv_heads", 2),
        ({}, "eos_token_ids", (3,)),
        ({"eos_token_id": [3, 5]}, "eos_token_ids", (3, 5)),
        ({"eos_token_id": None}, "eos_token_ids", ()),
        ({"torch_dtype": "bfloat16"}, "dtype", "bfloat16"),
        ({"dtype": "bfloat16"}, "dtype", "bfloat16"),
        ({"attention_bias": True}, "o_bias", True),
        ({"architectures": ["Qwen2ForCausalLM"]}, "qkv_bias", True),
        ({"architectures": ["Qwen2ForCausalLM"]}, "o_bias", False),
        ({"architectures": ["Qwen3ForCausalLM"]}, "qk_norm", True),
    ],
)
def test_config_fields(changes: dict[str, Any], field: str, expected: object) -> None:
    assert getattr(ModelConfig.from_dict({**PLAIN, **changes}), field) == expected


def test_generation_config_names_the_ends() -> None:
    config = ModelConfig.from_dict(PLAIN, {"eos_token_id": [3, 9], "temperature": 0.6})
    assert config.eos_token_ids == (3, 9)
    assert config.generation_config["temperature"] == 0.6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel is not supported"),
        ({"architectures": None}, "none named"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised .*gptq"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"use_sliding_window": True}, "sliding-window"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "'yarn'"),
        ({"partial_rotary_factor": 0.5}, "partial rotary"),
        ({"vocab_size": ...}, "lacks vocab_size"),
        ({"architectures": 5}, "architectures must be a list"),
        ({"architectures": "LlamaForCausalLM"}, "architectures must be a list"),
        ({"hidden_size": None}, "hidden_size must be a whole number of at least 1, got None"),
        ({"hidden_size": "big"}, "hidden_size must be .* got 'big'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be"),
        ({"num_attention_heads": True}, "num_attention_heads must be"),
        ({"num_key_value_heads": 3}, "must be a multiple of num_key_value_heads"),
        ({"rms_norm_eps": math.nan}, "rms_norm_eps must be a number above 0"),
        ({"rope_theta": "wide"}, "rope_theta must be a number"),
        ({"rope_scaling": [1]}, "rotary settings must be an object"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "factor must be a number above 0"),
        ({"eos_token_id": "</s>"}, "eos_token_id must be ids from 0 to 63, got '</s>'"),
        ({"eos_token_id": [3, 64]}, "eos_token_id must be ids from 0 to 63, got 64"),
    ],
)
def test_unsupported_models_are_refused(changes: dict[str, Any], words: str) -> None:
    raw = {k: v for k, v in {**PLAIN, **changes}.items() if v is not ...}
    with pytest.raises(ConfigError, match=words):
        ModelConfig.from_dict(raw)


def test_shards_and_single_file_are_the_same_model(copy: Path, llama: Oracle) -> None:
    wanted = answer(llama.core())
    llama.model.save_pretrained(copy / "shards", max_shard_size="50KB")
    assert len(list((copy / "shards").glob("model-*.safetensors"))) > 1
    assert answer(start(copy / "shards")) == wanted
    assert answer(start(copy)) == wanted


def _drop(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["model.layers.1.mlp.up_proj.weight"]


def _surplus(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(48)


def _retype(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.norm.weight"] = torch.ones(48, dtype=torch.int8)


def _misshape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.norm.weight"] = torch.ones(47)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_drop, r"lacks tensor model\.layers\.1\.mlp\.up_proj\.weight"),
        (_surplus, r"no place for: model\.layers\.0\.self_attn\.q_proj\.bias"),
        (_retype, r"model\.norm\.weight is of type torch\.int8"),
        (_misshape, r"model\.norm\.weight has shape \(47,\)"),
    ],
)
def test_tensors_must_match_the_config(
    copy: Path, spoil: Callable[[dict[str, torch.Tensor]], None], words: str
) -> None:
    tensors = load_file(copy / "model.safetensors")
    spoil(tensors)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=words):
        start(copy)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", None, "no config.json"),
        ("config.json", b"{", "config.json is not valid JSON"),
        ("config.json", b"\xff\xfe", "config.json is not valid JSON"),
        ("config.json", b"[" * 100_000, "config.json is nested too deeply"),
        ("config.json", b"[]", "must hold a JSON object"),
        ("model.safetensors", None, "no model.safetensors"),
        ("model.safetensors", b"nonsense, but long enough", "cannot read"),
        ("model.safetensors.index.json", b"{", "index.json is not valid JSON"),
        ("model.safetensors.index.json", b"{}", "has no weight_map"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": 5}}', "has no weight_map"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "../b"}}', "has no weight_map"),
    ],
)
def test_broken_folders(copy: Path, file: str, content: bytes | None, words: str) -> None:
    (copy / file).unlink(missing_ok=True)
    if content is not None:
        (copy / file).write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        start(copy)


def test_a_folder_in_place_of_a_file(copy: Path) -> None:
    (copy / "config.json").unlink()
    (copy / "config.json").mkdir()
    with pytest.raises(ConfigError, match=r"cannot read .*config\.json: Is a directory"):
        start(copy)


@pytest.mark.parametrize(
    ("settings", "words", "param"),
    [
        ({"max_model_len": 1}, "at least 2 tokens", "max_model_len"),
        ({"num_blocks": 1, "block_size": 1}, "at least 2 tokens", "max_model_len"),
        ({"num_blocks": 10**11}, "no memory for a KV cache of 100000000000 blocks", "num_blocks"),
        (
            {"num_blocks": None, "kv_cache_memory_bytes": 10**24},
            "no memory for a KV cache",
            "kv_cache_memory_bytes",
        ),
    ],
)
def test_sizes_that_cannot_be(copy: Path, settings: dict[str, Any], words: str, param: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        start(copy, **settings)
    assert caught.value.param == param


def test_older_checkpoints_may_carry_rotary_tables(copy: Path, llama: Oracle) -> None:
    tensors = load_file(copy / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert answer(start(copy)) == answer(llama.core())


def test_dummy_weights_need_no_file_and_repeat(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**PLAIN, "max_position_embeddings": 64}))

    def logits(seed: int) -> torch.Tensor:
        core = start(tmp_path, load_format="dummy", seed=seed)
        return core.runner.decoder.logits(torch.ones(1, 32))

    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))


def test_bfloat16_stays_close_to_transformers(oracles: Callable[[str], Oracle]) -> None:
    """Packed weights and bfloat16 caches: as near to float32 as transformers' own bfloat16."""
    oracle = oracles("qwen3")
    prompt = prompt_of(40)
    exact = oracle.logits(prompt)[-1]
    core = oracle.core(dtype="bfloat16")
    core.add(request("r", prompt, greedy(1, logprobs=20)))
    top = run(core)["r", 0][0].logprobs
    assert top is not None
    ours = dict(top[0].top)
    rounded = copy_of(oracle.model).to(torch.bfloat16)
    theirs = rounded(torch.tensor([prompt])).logits[0, -1].float()
    want = exact.log_softmax(-1)
    ids = list(ours)
    our_error = float((torch.tensor([ours[i] for i in ids]) - want[ids]).abs().mean())
    their_error = float((theirs.log_softmax(-1)[ids] - want[ids]).detach().abs().mean())
    assert our_error < 2 * their_error + 0.02


def test_unpacked_products_are_the_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("not in this build")

    weight = torch.randn(24, 16).to(torch.bfloat16)
    x = torch.randn(2, 16).to(torch.bfloat16)
    monkeypatch.setattr(linear, "_pack", fail)
    linear.can_pack.cache_clear()
    try:
        plain = Linear(weight)
        assert not plain.packed
        assert torch.equal(plain(x), torch.nn.functional.linear(x, weight))
    finally:
        linear.can_pack.cache_clear()


def test_pacing_keeps_steps_near_the_limit() -> None:
    """A step costs 10 ms plus 1 ms a prompt token; the limit is 100 ms."""
    pacer = StepPacer(0.1, 2048)
    assert pacer.budget(decoding=False) == FIRST_CHUNK
    for _ in range(20):
        pacer.observe(0.010, prefill_tokens=0)
    for _ in range(20):
        chunk = pacer.budget(decoding=True)
        pacer.observe(0.010 + 0.001 * chunk, prefill_tokens=chunk)
    assert 85 <= pacer.budget(decoding=True) <= 92
    assert 360 <= pacer.budget(decoding=False) <= 402
    for _ in range(20):
        pacer.observe(5.0, prefill_tokens=10)
    assert pacer.budget(decoding=True) == SMALLEST_CHUNK
    assert StepPacer(None, 2048).budget(decoding=True) == 2048

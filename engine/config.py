"""What the engine runs: the model read from a checkpoint folder, and the engine's own limits.

`ModelConfig.from_dir` reads `config.json` and `generation_config.json` itself, so that the engine
needs no model library at run time. It accepts both spellings of rotary settings: one
`rope_parameters` object, or the older `rope_theta` + `rope_scaling` pair. What it does not
understand it refuses by name: an architecture, a quantised checkpoint, a rope type, an activation.
"""

import json
import math
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

Dtype = Literal["auto", "float32", "bfloat16"]
Device = Literal["cpu", "cuda"]
Policy = Literal["fcfs", "priority"]
LoadFormat = Literal["auto", "safetensors", "dummy"]
Attention = Literal["auto", "cpu", "torch_ref"]


class ConfigError(ValueError):
    """A setting or checkpoint the engine cannot run. `param` names the setting."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """What sets one decoder architecture apart from plain Llama."""

    qkv_bias: bool = False
    qk_norm: bool = False


ARCHITECTURES: dict[str, Features] = {
    "LlamaForCausalLM": Features(),
    "Qwen2ForCausalLM": Features(qkv_bias=True),
    "Qwen3ForCausalLM": Features(qk_norm=True),
}


class RopeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Rotary embedding: base frequency and, for `linear` and `llama3`, how it is stretched."""

    theta: float = 10_000.0
    kind: Literal["default", "linear", "llama3"] = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 8192


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One decoder-only model: shapes, features and special ids."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float = 1e-6
    rope: RopeConfig = RopeConfig()
    max_position_embeddings: int = 4096
    tie_word_embeddings: bool = False
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    dtype: str = "float32"
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    generation_config: dict[str, Any] = {}
    path: Path | None = None

    @classmethod
    def from_dir(cls, path: str | Path) -> "ModelConfig":
        """Read a checkpoint folder. Raises `ConfigError` for what is missing or unsupported."""
        folder = Path(path)
        raw = read_json(folder / "config.json")
        generation = read_json(folder / "generation_config.json", required=False)
        config = cls.from_dict(raw, generation)
        return msgspec.structs.replace(config, path=folder)

    @classmethod
    def from_dict(
        cls, raw: dict[str, Any], generation: dict[str, Any] | None = None
    ) -> "ModelConfig":
        """Build from the parsed `config.json` (and `generation_config.json`)."""
        architecture, features = _architecture(raw)
        _refuse_unsupported(raw)
        generation = generation or {}
        vocab = _whole(raw, "vocab_size")
        heads = _whole(raw, "num_attention_heads")
        kv_heads = _whole(raw, "num_key_value_heads", heads)
        if heads % kv_heads:
            raise ConfigError(
                f"config.json: num_attention_heads ({heads}) must be a multiple of "
                f"num_key_value_heads ({kv_heads})",
                param="model",
            )
        hidden = _whole(raw, "hidden_size")
        bias = bool(raw.get("attention_bias", False)) and not features.qkv_bias
        eos = generation.get("eos_token_id", raw.get("eos_token_id"))
        return cls(
            architecture=architecture,
            vocab_size=vocab,
            hidden_size=hidden,
            intermediate_size=_whole(raw, "intermediate_size"),
            num_layers=_whole(raw, "num_hidden_layers"),
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=_whole(raw, "head_dim", max(1, hidden // heads)),
            rms_norm_eps=_number(raw, "rms_norm_eps", 1e-6),
            rope=_rope(raw),
            max_position_embeddings=_whole(raw, "max_position_embeddings", 4096),
            tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
            qkv_bias=features.qkv_bias or bias,
            o_bias=bias,
            mlp_bias=bool(raw.get("mlp_bias", False)),
            qk_norm=features.qk_norm,
            dtype=str(raw.get("dtype") or raw.get("torch_dtype") or "float32"),
            bos_token_id=raw.get("bos_token_id"),
            eos_token_ids=_ids(eos, vocab),
            generation_config=generation,
        )


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's limits. Sizes are in tokens unless the name says otherwise.

    `dtype` auto takes the checkpoint's, or float32 where the CPU has no bfloat16 instructions.
    `num_blocks` wins over `kv_cache_memory_bytes`; with neither, the pool holds `max_num_seqs`
    sequences of `max_model_len` but at most 1 GiB. `max_model_len` None takes the model's, cut to
    what the pool can hold. `long_prefill_token_threshold` (0 = off) caps one prompt's share of a
    step. `max_step_seconds` (None = off) shrinks prefill chunks so that a step stays about that
    long, which bounds the gap between tokens of running streams. `watermark` is the share of the
    pool kept free when a new sequence is admitted.
    """

    model: ModelConfig
    dtype: Dtype = "auto"
    device: Device = "cpu"
    attention_backend: Attention = "auto"
    load_format: LoadFormat = "auto"
    block_size: int = 32
    num_blocks: int | None = None
    kv_cache_memory_bytes: int | None = None
    max_model_len: int | None = None
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 2048
    long_prefill_token_threshold: int = 0
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    scheduling_policy: Policy = "fcfs"
    max_step_seconds: float | None = 0.1
    watermark: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("block_size", "max_num_seqs", "max_num_batched_tokens"):
            _positive(name, getattr(self, name))
        for name in ("num_blocks", "kv_cache_memory_bytes", "max_model_len", "max_step_seconds"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name))
        if self.block_size & (self.block_size - 1):
            raise ConfigError(
                f"block_size must be a power of two, got {self.block_size}", param="block_size"
            )
        if self.long_prefill_token_threshold < 0:
            raise ConfigError(
                "long_prefill_token_threshold must not be negative",
                param="long_prefill_token_threshold",
            )
        if not 0.0 <= self.watermark < 1.0:
            raise ConfigError(
                f"watermark must be in [0, 1), got {self.watermark}", param="watermark"
            )
        limit = self.model.max_position_embeddings
        if self.max_model_len is not None and self.max_model_len > limit:
            raise ConfigError(
                f"max_model_len {self.max_model_len} is above the {limit} positions the model "
                "was made for",
                param="max_model_len",
            )


def _positive(name: str, value: float) -> None:
    if value <= 0:
        raise ConfigError(f"{name} must be positive, got {value}", param=name)


def read_json(path: Path, *, required: bool = True) -> dict[str, Any]:
    """The JSON object in a checkpoint's file; {} for an absent one that need not be there.

    Raises `ConfigError`.
    """
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise ConfigError(f"no {path.name} in {path.parent}", param="model") from None
        return {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", param="model") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply", param="model") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}", param="model") from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} must hold a JSON object", param="model")
    return loaded


def _whole(raw: dict[str, Any], name: str, default: int | None = None) -> int:
    """A count of config.json; null is the same as absent."""
    value = raw.get(name)
    if value is None:
        value = default
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(
            f"config.json: {name} must be a whole number of at least 1, got {value!r}",
            param="model",
        )
    return value


def _number(settings: dict[str, Any], name: str, default: float) -> float:
    """A factor of config.json; null is the same as absent."""
    value = settings.get(name)
    if value is None:
        return default
    usable = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    if not usable or not math.isfinite(value):
        raise ConfigError(
            f"config.json: {name} must be a number above 0, got {value!r}", param="model"
        )
    return float(value)


def _architecture(raw: dict[str, Any]) -> tuple[str, Features]:
    names = raw.get("architectures") or []
    if not isinstance(names, list):
        raise ConfigError(
            f"config.json: architectures must be a list of names, got {names!r}", param="model"
        )
    for name in names:
        if name in ARCHITECTURES:
            return name, ARCHITECTURES[name]
    known = ", ".join(sorted(ARCHITECTURES))
    raise ConfigError(
        f"architecture {', '.join(map(str, names)) or '(none named)'} is not supported; "
        f"supported: {known}",
        param="model",
    )


def _refuse_unsupported(raw: dict[str, Any]) -> None:
    if quantised := raw.get("quantization_config"):
        method = quantised.get("quant_method", "unknown") if isinstance(quantised, dict) else "?"
        raise ConfigError(f"quantised checkpoints are not supported ({method})", param="model")
    if (activation := raw.get("hidden_act", "silu")) != "silu":
        raise ConfigError(f"activation {activation!r} is not supported, only silu", param="model")
    if raw.get("use_sliding_window"):
        raise ConfigError("sliding-window attention is not supported", param="model")
    needed = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
    )
    if missing := [name for name in needed if name not in raw]:
        raise ConfigError(f"config.json lacks {', '.join(missing)}", param="model")


def _rope(raw: dict[str, Any]) -> RopeConfig:
    settings = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    if not isinstance(settings, dict):
        raise ConfigError(
            f"config.json: rotary settings must be an object, got {settings!r}", param="model"
        )
    theta = _number(settings, "rope_theta", _number(raw, "rope_theta", 10_000.0))
    kind = settings.get("rope_type", settings.get("type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise ConfigError(f"rope type {kind!r} is not supported", param="model")
    if settings.get("partial_rotary_factor", raw.get("partial_rotary_factor", 1.0)) != 1.0:
        raise ConfigError("partial rotary embeddings are not supported", param="model")
    return RopeConfig(
        theta=theta,
        kind=cast('Literal["default", "linear", "llama3"]', kind),
        factor=_number(settings, "factor", 1.0),
        low_freq_factor=_number(settings, "low_freq_factor", 1.0),
        high_freq_factor=_number(settings, "high_freq_factor", 4.0),
        original_max_position=_whole(settings, "original_max_position_embeddings", 8192),
    )


def _ids(value: Any, vocab: int) -> tuple[int, ...]:
    """Ends of a sequence: none, one id or a list of them."""
    ids = [] if value is None else value if isinstance(value, list) else [value]
    for token in ids:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocab:
            raise ConfigError(
                f"eos_token_id must be ids from 0 to {vocab - 1}, got {token!r}", param="model"
            )
    return tuple(ids)

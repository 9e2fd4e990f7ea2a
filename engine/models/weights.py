"""Checkpoint tensors by name.

Reads one `model.safetensors` or the shards named by its index. Every tensor the decoder asks for
must be there with the expected shape, and none may be left over: a silently ignored bias would
give plausible nonsense. `DummyWeights` makes random ones of the same shapes for speed runs.
"""

from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.config import ConfigError, read_json

IGNORED_SUFFIXES = ("rotary_emb.inv_freq",)


class Weights(Protocol):
    """A source of named tensors."""

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor `name` in the engine's dtype. Raises `ConfigError` if absent or misshapen."""

    def skip(self, name: str) -> None:
        """Declare `name` as known but not needed."""

    def finish(self) -> None:
        """Raise `ConfigError` if tensors remain that nothing asked for."""


class SafetensorWeights:
    """Tensors of a checkpoint folder, read when taken."""

    def __init__(self, folder: Path, dtype: torch.dtype, device: str) -> None:
        self._folder = folder
        self._dtype = dtype
        self._device = device
        self._files: dict[str, Any] = {}
        self._where = self._index()
        self._left = {name for name in self._where if not name.endswith(IGNORED_SUFFIXES)}

    def take(self, name: str, *shape: int) -> Tensor:
        if name not in self._where:
            raise ConfigError(f"checkpoint {self._folder} lacks tensor {name}", param="model")
        self._left.discard(name)
        tensor: Tensor = self._open(self._where[name]).get_tensor(name)
        if not tensor.is_floating_point():
            raise ConfigError(f"tensor {name} is of type {tensor.dtype}", param="model")
        if tuple(tensor.shape) != shape:
            raise ConfigError(
                f"tensor {name} has shape {tuple(tensor.shape)}, config.json implies {shape}",
                param="model",
            )
        return tensor.to(self._device, self._dtype)

    def skip(self, name: str) -> None:
        self._left.discard(name)

    def finish(self) -> None:
        if self._left:
            some = ", ".join(sorted(self._left)[:4])
            raise ConfigError(
                f"checkpoint holds {len(self._left)} tensors this model has no place for: {some}",
                param="model",
            )

    def _index(self) -> dict[str, str]:
        index = self._folder / "model.safetensors.index.json"
        if index.exists():
            mapping = read_json(index).get("weight_map")
            if not isinstance(mapping, dict) or not all(map(_is_file_name, mapping.values())):
                raise ConfigError(
                    f"{index} has no weight_map of tensors to files beside it", param="model"
                )
            return mapping
        single = "model.safetensors"
        if not (self._folder / single).exists():
            raise ConfigError(
                f"no model.safetensors and no index of shards in {self._folder}", param="model"
            )
        return dict.fromkeys(self._open(single).keys(), single)

    def _open(self, file: str) -> Any:
        if file not in self._files:
            path = self._folder / file
            try:
                self._files[file] = safe_open(path, framework="pt")
            except (OSError, SafetensorError) as error:
                raise ConfigError(f"cannot read {path}: {error}", param="model") from None
        return self._files[file]


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and Path(value).name == value


class DummyWeights:
    """Random tensors, normal with deviation 0.02; norms are ones. Same seed, same tensors."""

    def __init__(self, dtype: torch.dtype, device: str, seed: int) -> None:
        self._dtype = dtype
        self._device = device
        self._generator = torch.Generator().manual_seed(seed)

    def take(self, name: str, *shape: int) -> Tensor:
        if name.endswith("norm.weight"):
            return torch.ones(shape, dtype=self._dtype, device=self._device)
        tensor = torch.empty(shape, dtype=self._dtype)
        return tensor.normal_(0.0, 0.02, generator=self._generator).to(self._device)

    def skip(self, name: str) -> None:
        """Nothing is stored, so there is nothing to leave out."""

    def finish(self) -> None:
        """Nothing is stored, so nothing can be left over."""

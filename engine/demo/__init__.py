"""The bundled demo model: a tiny chat model of the Llama architecture, trained by `train.py`."""

from __future__ import annotations

from pathlib import Path

CHECKPOINT: Path = Path(__file__).parent / "checkpoint"
"""Folder in Hugging Face layout: config, bf16 safetensors, tokenizer, chat template."""

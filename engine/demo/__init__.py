"""The bundled demo model: a tiny Llama-architecture chat model, trained by the script in this folder."""

from __future__ import annotations

from pathlib import Path

CHECKPOINT: Path = Path(__file__).parent / "checkpoint"
"""Folder in Hugging Face layout: config, bf16 safetensors, tokenizer, chat template."""

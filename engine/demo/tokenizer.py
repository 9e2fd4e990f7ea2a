"""Trains the bundled model's tokenizer on the generated corpus and writes it in Hugging Face
layout.

Byte-level BPE: every text can be encoded and decoded without loss. Digits are always single
tokens, so that arithmetic sees places and not arbitrary groups. Three control tokens carry the
ChatML conversation format.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from engine.demo import CHECKPOINT
from engine.demo.corpus import conversation
from engine.demo.corpus_draw import Draw
from engine.demo.corpus_outside import outside_message

VOCABULARY = 1024
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL = (END_OF_TEXT, TURN_START, TURN_END)
MAX_LENGTH = 2048
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def _texts(conversations: int) -> Iterator[str]:
    draw = Draw(seed=7)
    for _ in range(conversations):
        yield from (message.content for message in conversation(draw).messages)
        yield outside_message(draw)
        yield "user\nassistant\nsystem\n"


def train_tokenizer(conversations: int = 30_000) -> Tokenizer:
    """Byte-level BPE of `VOCABULARY` tokens; ids 0..2 are the control tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(conversations), trainer)
    return tokenizer


def write_tokenizer(folder: Path = CHECKPOINT) -> Tokenizer:
    """Train and write tokenizer.json and tokenizer_config.json into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_LENGTH,
        "bos_token": None,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "additional_special_tokens": list(CONTROL),
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    return tokenizer


if __name__ == "__main__":
    write_tokenizer()

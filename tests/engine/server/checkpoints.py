"""A tiny checkpoint folder made on the spot: config, tokenizer and chat template, no weights."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

_TEXT = [
    "the router sends each request to the endpoint that already holds its prefix",
    "a lease is the obligation of one attempt and is released exactly once",
    "tokens are counted, blocks are freed, streams are finished one by one",
    "user system assistant hello world naïve café 世界 привет 🙂",
]

MAX_LEN = 512


def byte_level_tokenizer(vocab_size: int = 400) -> Tokenizer:
    """Byte-level BPE with every byte in its alphabet and ChatML's special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    # Added tokens whose characters are not (all) stand-ins for bytes are decoded as they are.
    tokenizer.add_tokens(["<tool call>", "é中"])
    return tokenizer


def byte_fallback_tokenizer() -> Tokenizer:
    """Metaspace words with byte fallback and a decoder that strips the first space (Llama 2)."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    vocab |= {f"<0x{value:02X}>": 3 + value for value in range(256)}
    for word in ["▁", "▁hello", "▁world", "hel", "lo", "a", "b", "é", "."]:
        vocab[word] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def write_checkpoint(folder: Path) -> Path:
    """Fill `folder` with a two-layer Llama's files; weights come from `load_format: dummy`."""
    tokenizer = byte_level_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    eos = tokenizer.token_to_id("<|im_end|>")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": MAX_LEN,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "eos_token_id": eos,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder

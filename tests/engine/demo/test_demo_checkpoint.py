"""The bundled checkpoint: small, in Hugging Face layout, its tokenizer lossless, ChatML."""

import itertools
import json
import subprocess
import sys

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from tokenizers import Tokenizer

from engine.demo import CHECKPOINT
from engine.demo.corpus import Message, conversations
from engine.demo.network import Shape
from engine.demo.tokenizer import CONTROL, END_OF_TEXT, TURN_END, VOCABULARY
from engine.demo.train import Encoder

TOKENIZER = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
CONFIG = json.loads((CHECKPOINT / "config.json").read_text())
SETTINGS = json.loads((CHECKPOINT / "tokenizer_config.json").read_text())


def test_the_folder_is_complete_and_at_most_six_megabytes() -> None:
    sizes = {path.name: path.stat().st_size for path in CHECKPOINT.iterdir()}
    assert set(sizes) == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(sizes.values()) <= 6_000_000


def test_finding_the_checkpoint_loads_no_torch() -> None:
    code = "import sys, engine.demo as d; print(d.CHECKPOINT.is_dir(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True False"


def test_config_describes_the_tensors() -> None:
    shape = Shape()
    assert CONFIG["architectures"] == ["LlamaForCausalLM"]
    assert CONFIG["max_position_embeddings"] >= 2048
    assert (CONFIG["hidden_size"], CONFIG["vocab_size"]) == (shape.hidden_size, VOCABULARY)
    assert CONFIG["hidden_size"] == CONFIG["num_attention_heads"] * CONFIG["head_dim"]
    with safe_open(str(CHECKPOINT / "model.safetensors"), framework="pt") as file:
        names = set(file.keys())
        assert file.get_slice("model.embed_tokens.weight").get_shape() == [1024, 192]
        assert {file.get_slice(name).get_dtype() for name in names} == {"BF16"}
    assert len(names) == 2 + 9 * CONFIG["num_hidden_layers"]
    assert CONFIG["tie_word_embeddings"]
    assert "lm_head.weight" not in names


def test_ids_of_the_control_tokens_agree_everywhere() -> None:
    assert TOKENIZER.get_vocab_size() == VOCABULARY
    ends = [TOKENIZER.token_to_id(TURN_END), TOKENIZER.token_to_id(END_OF_TEXT)]
    generation = json.loads((CHECKPOINT / "generation_config.json").read_text())
    assert CONFIG["eos_token_id"] == generation["eos_token_id"] == ends
    assert SETTINGS["eos_token"] == TURN_END
    assert [TOKENIZER.token_to_id(control) for control in CONTROL] == [0, 1, 2]


@given(st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_survives_the_tokenizer(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("text", ["1234 + 56", "in 2049", "7x8", "0.25%"])
def test_digits_are_single_tokens(text: str) -> None:
    pieces = [TOKENIZER.decode([token]) for token in TOKENIZER.encode(text).ids]
    assert all(len(piece.strip()) == 1 for piece in pieces if any(c.isdigit() for c in piece))


def test_the_chat_template_writes_what_was_trained_on() -> None:
    template = jinja2.Environment(keep_trailing_newline=True).from_string(SETTINGS["chat_template"])
    encoder = Encoder(TOKENIZER)
    for made in itertools.islice(conversations(17), 60):
        text = template.render(messages=[message._asdict() for message in made.messages])
        ids, marks = encoder.chat(made)
        assert TOKENIZER.encode(text).ids == ids
        answers = "".join(
            f"{message.content}{TURN_END}"
            for message in made.messages
            if message.role == "assistant"
        )
        marked = [token for token, mark in zip(ids, marks, strict=True) if mark]
        assert TOKENIZER.decode(marked, skip_special_tokens=False) == answers


def test_the_generation_prompt_opens_an_assistant_turn() -> None:
    template = jinja2.Environment(keep_trailing_newline=True).from_string(SETTINGS["chat_template"])
    messages = [Message("system", "Be brief.")._asdict(), Message("user", "Hi")._asdict()]
    assert template.render(messages=messages, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )

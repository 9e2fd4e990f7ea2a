"""Chat templates render as transformers renders them."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.detok import TextStream, Vocabulary, make_decoder
from engine.server.chat import ChatTemplate, TemplateError, load_chat_template
from engine.server.model import load_tokenizer
from tests.engine.server.checkpoints import TEMPLATE

HISTORY: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " What is 2 < 3? "},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": 'naïve "世界"'},
]

# Made up here, after the constructions found in the families' own templates.
TEMPLATES = {
    "chatml": TEMPLATE,
    "headers": (
        "{{- bos_token }}\n"
        "{%- if messages[0]['role'] == 'system' %}\n"
        "    {%- set system = messages[0]['content'] | trim %}\n"
        "    {%- set messages = messages[1:] %}\n"
        "{%- else %}\n    {%- set system = '' %}\n{%- endif %}\n"
        "{{- '<|head|>system<|/head|>\\n\\n' + system + '<|eot|>' }}\n"
        "{%- for message in messages %}\n"
        "    {{- '<|head|>' + message.role + '<|/head|>' + message.content | trim + '<|eot|>' }}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|head|>assistant<|/head|>' }}\n{%- endif %}\n"
    ),
    "thinking": (
        "{%- set ns = namespace(last=0) %}"
        "{%- for message in messages[::-1] %}"
        "{%- if message.role == 'user' %}"
        "{%- set ns.last = messages|length - 1 - loop.index0 %}{%- break %}{%- endif %}"
        "{%- endfor %}"
        "{%- for message in messages %}"
        "{{- loop.index0 ~ '/' ~ ns.last ~ message.role + ':' + message.content + eos_token }}"
        "{%- if loop.index0 == 1 %}{%- continue %}{%- endif %}{{- '|' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- 'a:' }}"
        "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<no>' }}{%- endif %}"
        "{%- endif %}"
    ),
    "json": (
        "{% for message in messages %}\n"
        "  {{ message | tojson }}\n"
        "  {{ message.content | tojson(indent=2) }}\n"
        "{% endfor %}\n"
    ),
    "training": (
        "{%- for message in messages -%}{%- if message.role == 'assistant' -%}"
        "{% generation %}{{ message.content }}{% endgeneration %}"
        "{%- else -%}{{ message.role ~ message.content }}{%- endif -%}{%- endfor -%}"
    ),
}


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("kwargs", [{}, {"enable_thinking": False}])
def test_a_template_renders_as_in_transformers(
    name: str, prompt: bool, kwargs: dict[str, Any]
) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    special = {"bos_token": "<s>", "eos_token": "</s>"}
    expected, _ = render_jinja_template(
        [HISTORY],
        chat_template=TEMPLATES[name],
        add_generation_prompt=prompt,
        **special,
        **kwargs,
    )
    template = ChatTemplate(TEMPLATES[name], special_tokens=special)
    assert template.render(HISTORY, add_generation_prompt=prompt, kwargs=kwargs) == expected[0]


@pytest.mark.parametrize("final", ["The rou", " The rou ", "Yes. ", "Be brief."])
def test_an_open_last_message_ends_the_prompt(final: str) -> None:
    template = ChatTemplate(TEMPLATE, special_tokens={})
    messages = [*HISTORY, {"role": "assistant", "content": final}]
    text = template.render(messages, add_generation_prompt=False, continue_final_message=True)
    assert text.endswith("<|im_start|>assistant\n" + final)


@pytest.mark.parametrize("final", ["m", "im_end", "assistant", "", "a\n"])
@pytest.mark.parametrize("strips", [False, True])
def test_an_open_last_message_ends_the_prompt_as_transformers_has_it(
    final: str, strips: bool
) -> None:
    """Also where the words around it hold the message's text, or where there is none."""
    from transformers.utils.chat_template_utils import render_jinja_template

    source = TEMPLATE.replace("['content']", "['content'] | trim") if strips else TEMPLATE
    template = ChatTemplate(source, special_tokens={})
    messages = [*HISTORY, {"role": "assistant", "content": final}]
    text = template.render(messages, add_generation_prompt=False, continue_final_message=True)
    (expected,), _ = render_jinja_template(
        [messages], chat_template=source, continue_final_message=True
    )
    assert text == expected
    parts = [*HISTORY, {"role": "assistant", "content": [{"type": "text", "text": final}]}]
    assert text == template.render(parts, add_generation_prompt=False, continue_final_message=True)


def test_a_template_that_hides_the_last_message_cannot_leave_it_open() -> None:
    template = ChatTemplate("{{ messages[0].content }}", special_tokens={})
    messages = [*HISTORY, {"role": "assistant", "content": "so"}]
    with pytest.raises(TemplateError, match="does not show the last message"):
        template.render(messages, add_generation_prompt=False, continue_final_message=True)


PARTS = [{"role": "user", "content": [{"type": "text", "text": t} for t in ("one", "two")]}]


@pytest.mark.parametrize(
    ("source", "kind", "text"),
    [
        ("{{ messages[0].content }}", "string", "one\ntwo"),
        ("{% for p in messages[0]['content'] %}<{{ p.text }}>{% endfor %}", "openai", "<one><two>"),
        (
            "{% set c = messages[0].content %}{% for p in c %}{{ p['text'] }}{% endfor %}",
            "openai",
            "onetwo",
        ),
    ],
)
def test_content_comes_in_the_form_the_template_wants(source: str, kind: str, text: str) -> None:
    template = ChatTemplate(source, special_tokens={})
    assert template.content_format == kind
    assert template.render(PARTS) == text
    if kind == "openai":
        plain = [{"role": "user", "content": "x"}]
        assert "x" in template.render(plain)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages.append(1) }}", "not allowed"),
        ("{{ ''.__class__.__mro__ }}", "not allowed"),
        ("{{ messages[0].content + 1 }}", "refused the messages"),
    ],
)
def test_what_a_template_refuses_is_said(source: str, message: str) -> None:
    template = ChatTemplate(source, special_tokens={})
    with pytest.raises(TemplateError, match=message):
        template.render(HISTORY)


def test_a_template_that_does_not_compile_names_the_line() -> None:
    with pytest.raises(TemplateError, match="line 2"):
        ChatTemplate("fine\n{% for %}", special_tokens={})


def test_defaults_give_way_to_the_request() -> None:
    template = ChatTemplate(
        "{{ mood }}", special_tokens={}, default_kwargs={"mood": "calm", "messages": []}
    )
    assert template.render(HISTORY) == "calm"
    assert template.render(HISTORY, kwargs={"mood": "glad"}) == "glad"


def test_where_a_template_comes_from(tmp_path: Path) -> None:
    assert load_chat_template(tmp_path, None) is None
    settings: dict[str, Any] = {"bos_token": {"content": "<s>"}, "chat_template": "{{ bos_token }}"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))

    def text(override: str | None = None) -> str:
        template = load_chat_template(tmp_path, override)
        assert template is not None
        return template.render(HISTORY)

    assert text() == "<s>"
    settings["chat_template"] = [
        {"name": "tool_use", "template": "tools"},
        {"name": "default", "template": "plain"},
    ]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert text() == "plain"
    (tmp_path / "chat_template.jinja").write_text("from the file")
    assert text() == "from the file"
    assert text("{{ 'inline' }}") == "inline"
    assert text(str(tmp_path / "chat_template.jinja")) == "from the file"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (5, "is not text"),
        ([{"name": "default", "template": 5}], "is not text"),
        ([{"name": "default", "template": "{% if %}"}], "line 1"),
    ],
)
def test_a_template_that_is_none_is_refused(tmp_path: Path, template: Any, words: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    with pytest.raises(TemplateError, match=words):
        load_chat_template(tmp_path, None)


def test_named_templates_without_a_default_are_no_template(tmp_path: Path) -> None:
    settings = {"chat_template": [{"x": 1}, "y", {"name": "rag", "template": "z"}]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert load_chat_template(tmp_path, None) is None


def test_a_template_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    for name, words in (("nowhere", "No such file"), (".", "directory"), ("latin", "not UTF-8")):
        with pytest.raises(TemplateError, match=words):
            load_chat_template(tmp_path, str(tmp_path / name))


def test_the_bundled_models_prompt_is_the_one_transformers_makes() -> None:
    from transformers import AutoTokenizer

    from engine.demo import CHECKPOINT

    oracle = AutoTokenizer.from_pretrained(CHECKPOINT)
    template = load_chat_template(CHECKPOINT, None)
    assert template is not None
    tokenizer = load_tokenizer(CHECKPOINT)
    text = template.render(HISTORY)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    expected = oracle.apply_chat_template(HISTORY, add_generation_prompt=True, return_dict=False)
    assert ids == expected
    vocabulary = Vocabulary(tokenizer)
    for skip in (True, False):
        stream = TextStream(make_decoder(vocabulary, skip_special_tokens=skip))
        shown = "".join(stream.push([token]) for token in ids) + stream.finish()
        assert shown == oracle.decode(ids, skip_special_tokens=skip)

"""Chat messages to prompt text, by the checkpoint's own Jinja template.

Templates are programs from a checkpoint, so they run in Jinja's immutable sandbox with the few
extras that templates on model hubs rely on: `raise_exception`, `strftime_now`, a `tojson` that
leaves non-ASCII text alone, loop controls and the (here inert) `generation` block. A template sees
message content either as one string or as OpenAI's list of parts; which of the two it wants is read
off its syntax tree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

ContentFormat = Literal["string", "openai"]

# Ends in a space to tell whether the template strips.
_END_MARK = "\ue000the last message ends here\ue000 "

_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")


class TemplateError(ValueError):
    """The template is broken, or refused these messages."""


class _GenerationBlock(Extension):
    """`{% generation %}` marks assistant text for training; for inference its body is all."""

    tags = {"generation"}  # noqa: RUF012 - the attribute Jinja reads

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
    return environment


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: the Jinja text.
        special_tokens: values for `bos_token` and the like.
        content_format: `auto` decides by the template's syntax.
        default_kwargs: template variables a request can override.

    Raises `TemplateError` when the source does not compile.
    """

    def __init__(
        self,
        source: str,
        *,
        special_tokens: Mapping[str, str],
        content_format: str = "auto",
        default_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        environment = _environment()
        try:
            self._template = environment.from_string(source)
            tree = environment.parse(source)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(f"chat template, line {error.lineno}: {error.message}") from error
        self.source = source
        self._special = dict(special_tokens)
        self._defaults = dict(default_kwargs or {})
        self.content_format: ContentFormat = (
            _detect_format(tree) if content_format == "auto" else content_format  # type: ignore[assignment]
        )

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt text. Raises `TemplateError` with the template's own complaint.

        `continue_final_message` leaves the last message open, so that the model goes on with it.
        """
        shaped = [self._shape(message) for message in messages]
        if continue_final_message:
            shaped[-1] = _marked(shaped[-1])
        variables = {**self._special, **self._defaults, **(kwargs or {})}
        variables.update(
            messages=shaped,
            add_generation_prompt=add_generation_prompt,
            tools=None,
            documents=None,
        )
        try:
            text = self._template.render(variables)
        except jinja2.exceptions.SecurityError as error:
            raise TemplateError(f"the chat template is not allowed to do this: {error}") from error
        except Exception as error:
            # A template is somebody else's program; whatever it raises is its complaint.
            raise TemplateError(f"the chat template refused the messages: {error}") from error
        return _cut_at_mark(text) if continue_final_message else text

    def _shape(self, message: Mapping[str, Any]) -> dict[str, Any]:
        content = message.get("content")
        shaped = dict(message)
        if isinstance(content, list) and self.content_format == "string":
            shaped["content"] = "\n".join(part["text"] for part in content)
        elif isinstance(content, str) and self.content_format == "openai":
            shaped["content"] = [{"type": "text", "text": content}]
        return shaped


def _marked(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with `_END_MARK` behind its text.

    To look for the text itself would find the end of the template's own words behind it, where
    the text is as short as "m".
    """
    content = message.get("content") or ""
    if isinstance(content, str):
        return {**message, "content": content + _END_MARK}
    last = {**content[-1], "text": content[-1]["text"] + _END_MARK}
    return {**message, "content": [*content[:-1], last]}


def _cut_at_mark(text: str) -> str:
    before, mark, after = text.rpartition(_END_MARK.rstrip())
    if not mark:
        raise TemplateError("continue_final_message: the template does not show the last message")
    # Templates commonly strip message text. Such a one has taken the mark's space off, and would
    # have taken the text's.
    return before if after.startswith(" ") else before.rstrip()


def _detect_format(tree: nodes.Template) -> ContentFormat:
    """`openai` when the template loops over a message's content, else `string`."""
    aliases: set[str] = set()
    for assign in tree.find_all(nodes.Assign):
        if isinstance(assign.target, nodes.Name) and _reads_content(assign.node, aliases):
            aliases.add(assign.target.name)
    loops = tree.find_all(nodes.For)
    return "openai" if any(_reads_content(loop.iter, aliases) for loop in loops) else "string"


def _reads_content(node: nodes.Node, aliases: set[str]) -> bool:
    if isinstance(node, nodes.Getattr):
        return node.attr == "content"
    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Const) and node.arg.value == "content"
    if isinstance(node, nodes.Filter) and node.node is not None:
        return _reads_content(node.node, aliases)
    return isinstance(node, nodes.Name) and node.name in aliases


def load_chat_template(
    folder: Path,
    override: str | None,
    *,
    content_format: str = "auto",
    default_kwargs: Mapping[str, Any] | None = None,
) -> ChatTemplate | None:
    """The template of a checkpoint folder, or `override` (a file, or the template itself).

    None when there is none. Raises `TemplateError`.
    """
    settings = _tokenizer_config(folder)
    source = _override(override) if override is not None else _source(folder, settings)
    if source is None:
        return None
    special = {name: text for name in _SPECIAL_TOKENS if (text := _token(settings.get(name)))}
    return ChatTemplate(
        source,
        special_tokens=special,
        content_format=content_format,
        default_kwargs=default_kwargs,
    )


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return {}
    try:
        loaded = json.loads(_read(path))
    except ValueError as error:
        raise TemplateError(f"{path} is not valid JSON: {error}") from error
    return loaded if isinstance(loaded, dict) else {}


def _override(given: str) -> str:
    return given if "{" in given or "\n" in given else _read(Path(given))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise TemplateError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise TemplateError(f"{path} is not UTF-8: {error}") from None


def _source(folder: Path, settings: Mapping[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return _read(path)
    template = settings.get("chat_template")
    if isinstance(template, list):
        entries = [entry for entry in template if isinstance(entry, dict)]
        named = {entry.get("name"): entry.get("template") for entry in entries}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise TemplateError("chat_template in tokenizer_config.json is not text")
    return template


def _token(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None

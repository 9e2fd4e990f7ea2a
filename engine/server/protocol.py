"""Request bodies of the generation routes, read into one shape.

`Asked` is what chat and completions have in common once validated. Defaults come from the
checkpoint's generation config unless the operator said otherwise. A field that asks for something
this engine cannot do is refused by name (`_UNSUPPORTED`); fields nobody knows are let through, as
vLLM does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from engine.generation import TextOptions
from engine.request import (
    MAX_CHOICES,
    MAX_LOGPROBS,
    MAX_STOP_TOKENS,
    RequestError,
    SamplingParams,
    check_sampling,
)
from engine.server.errors import bad_field, too_long, unsupported
from engine.server.fields import Body, wrong_type

MAX_PROMPTS: Final = 1024
MAX_SEQUENCES: Final = 4096
_INT64: Final = 2**63

_Test = Callable[[Any], bool]


def _given(value: Any) -> bool:
    return value not in (None, False, [], {}, "")


_GUIDED = "Structured output is not supported; validate the answer in the client."
_UNSUPPORTED: Final[tuple[tuple[str, _Test, str], ...]] = (
    ("functions", _given, "Function calls are not supported."),
    ("function_call", lambda v: v not in (None, "none"), "Function calls are not supported."),
    (
        "tool_choice",
        lambda v: v not in (None, "none", "auto"),
        "Tool calls are not supported, so none can be demanded.",
    ),
    (
        "response_format",
        lambda v: v is not None and not (isinstance(v, dict) and v.get("type") == "text"),
        "Only response_format {'type': 'text'} is supported.",
    ),
    *(
        (name, _given, _GUIDED)
        for name in (
            *("guided_json", "guided_regex", "guided_choice", "guided_grammar"),
            *("structural_tag", "structured_outputs"),
        )
    ),
    ("use_beam_search", _given, "Beam search is not supported; use n with a temperature."),
    ("suffix", _given, "Text insertion (suffix) is not supported."),
    ("modalities", lambda v: v not in (None, ["text"]), "Only text output is supported."),
    ("audio", _given, "Only text is supported."),
    ("web_search_options", _given, "Web search is not supported."),
    ("logits_processors", _given, "Logits processors are not supported."),
    ("allowed_token_ids", _given, "allowed_token_ids is not supported; use logit_bias."),
    ("bad_words", _given, "bad_words is not supported; use logit_bias."),
    ("truncate_prompt_tokens", _given, "Prompts are not truncated; shorten it in the client."),
    ("return_token_ids", _given, "Token ids are not returned; POST /tokenize gives them."),
    ("return_tokens_as_token_ids", _given, "Tokens are returned as text only."),
    ("prompt_embeds", _given, "Prompt embeddings are not supported."),
    ("repetition_detection", _given, "Repetition is not detected; limit it by penalties."),
    ("vllm_xargs", _given, "There are no extensions to take vllm_xargs."),
    ("documents", _given, "Documents are not passed to the chat template."),
    ("chat_template", _given, "The chat template is set by the server (--chat-template)."),
    ("mm_processor_kwargs", _given, "Only text is supported."),
    ("kv_transfer_params", _given, "KV transfer is not supported."),
    ("lora_request", _given, "LoRA adapters are not supported."),
)


# Fields of a generation config and what they are called here.
_GENERATION_FIELDS: Final = {
    **{name: name for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")},
    "max_new_tokens": "max_tokens",
}


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """Sampling defaults of the server; `max_tokens` is also a ceiling for what is not asked."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int | None = None

    def updated(
        self, config: Mapping[str, Any], *, vocab_size: int, strict: bool = False
    ) -> Defaults:
        """With the fields of a `generation_config.json` that concern sampling.

        Such a file has other fields too; `strict` is for a mapping that should have none. Raises
        `RequestError` for a value that a request could not have either.
        """
        if strict and (unknown := sorted(set(config) - {*_GENERATION_FIELDS, "do_sample"})):
            known = ", ".join((*_GENERATION_FIELDS, "do_sample"))
            raise RequestError(f"{unknown[0]} is not known, only {known}", param=unknown[0])
        given = {
            field: config[name]
            for name, field in _GENERATION_FIELDS.items()
            if config.get(name) is not None
        }
        sample = config.get("do_sample")
        if sample is not None and not isinstance(sample, bool):
            raise RequestError(
                f"do_sample must be true or false, got {sample!r}", param="do_sample"
            )
        if sample is False:
            given["temperature"] = 0.0
        try:
            merged = msgspec.convert({**msgspec.structs.asdict(self), **given}, Defaults)
        except msgspec.ValidationError as error:
            raise RequestError(f"{error}") from None
        sampling = SamplingParams(**msgspec.structs.asdict(merged))
        check_sampling(sampling, vocab_size=vocab_size)
        return merged


class Asked(msgspec.Struct, kw_only=True):
    """One validated generation request, before its prompt is tokenised.

    `max_tokens` is what the client asked for (None: nothing). `echo_only` is an echo of the prompt
    with nothing after it: one token is generated all the same, and not shown.
    """

    model: str | None
    sampling: SamplingParams
    text: TextOptions
    max_tokens: int | None
    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    priority: int = 0
    cache_salt: str | None = None
    echo: bool = False
    echo_only: bool = False
    request_id: str | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What requests are checked against."""

    vocab_size: int
    max_model_len: int
    priorities: bool = False
    force_usage: bool = False


def read_chat(body: Body, defaults: Defaults, limits: Limits) -> Asked:
    """The common part of `/v1/chat/completions`. Raises `ApiError` 400."""
    _refuse(body)
    if _given(body.get("tools")) and body.get("tool_choice") != "none":
        raise unsupported(
            "tools", "Tool calls are not supported; leave out `tools` or set tool_choice to none."
        )
    top = body.integer("top_logprobs", None, low=0, high=MAX_LOGPROBS)
    wanted = body.boolean("logprobs")
    if top and not wanted:
        raise bad_field("top_logprobs", "`top_logprobs` needs `logprobs` to be true.")
    limit = body.integer("max_completion_tokens", None, low=1)
    if limit is None:
        limit = body.integer("max_tokens", None, low=1)
    if body.boolean("echo"):
        raise unsupported("echo", "echo is supported by /v1/completions only.")
    return _asked(body, defaults, limits, max_tokens=limit, logprobs=(top or 0) if wanted else None)


def read_completion(body: Body, defaults: Defaults, limits: Limits) -> Asked:
    """The common part of `/v1/completions`. Raises `ApiError` 400."""
    _refuse(body)
    n = body.integer("n", 1, low=1, high=MAX_CHOICES)
    if body.get("best_of") not in (None, n):
        raise unsupported("best_of", "best_of other than n is not supported.")
    logprobs = body.integer("logprobs", None, low=0, high=MAX_LOGPROBS)
    echo = body.boolean("echo")
    # None of output and the prompt repeated: how evaluations score a text by its logprobs.
    limit = body.integer("max_tokens", None, low=0 if echo else 1)
    asked = _asked(body, defaults, limits, max_tokens=1 if limit == 0 else limit, logprobs=logprobs)
    if echo:
        asked.echo, asked.echo_only = True, limit == 0
        if logprobs is not None and asked.sampling.prompt_logprobs is None:
            asked.sampling = msgspec.structs.replace(asked.sampling, prompt_logprobs=logprobs)
    return asked


def read_prompts(body: Body) -> list[str] | list[list[int]]:
    """`prompt` in its four forms: a string, strings, token ids, or lists of token ids."""
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, list) or not prompt:
        raise bad_field(
            "prompt",
            "`prompt` must be a string, an array of strings, an array of token ids or an array "
            "of those, and not empty.",
        )
    if all(type(item) is int for item in prompt):
        return [prompt]
    if len(prompt) > MAX_PROMPTS:
        raise bad_field(
            "prompt", f"`prompt` holds {len(prompt)} prompts, the limit is {MAX_PROMPTS}."
        )
    if all(isinstance(item, str) for item in prompt):
        return prompt
    for at, item in enumerate(prompt):
        if not isinstance(item, list) or not item or not all(type(i) is int for i in item):
            raise bad_field(
                "prompt",
                f"`prompt[{at}]` must be a non-empty array of token ids like its neighbours; "
                "strings, ids and arrays of ids cannot be mixed.",
            )
    return prompt


def read_messages(body: Body) -> list[dict[str, Any]]:
    """`messages`, each with a role and text content (a string or text parts)."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_field("messages", "`messages` must be a non-empty array of messages.")
    return [_message(f"messages[{at}]", item) for at, item in enumerate(messages)]


def _message(where: str, message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise wrong_type(where, "an object", message)
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise bad_field(f"{where}.role", f"`{where}.role` must be a non-empty string.")
    content = message.get("content")
    shaped = dict(message)
    if content is None:
        if role in ("user", "system", "developer"):
            raise bad_field(f"{where}.content", f"`{where}.content` is missing.")
        shaped["content"] = ""
    elif isinstance(content, list):
        shaped["content"] = [
            _part(f"{where}.content[{at}]", part) for at, part in enumerate(content)
        ]
    elif not isinstance(content, str):
        raise wrong_type(f"{where}.content", "a string or an array of parts", content)
    if isinstance(message.get("tool_calls"), list):
        shaped["tool_calls"] = [_tool_call(call) for call in message["tool_calls"]]
    return shaped


def _part(where: str, part: Any) -> dict[str, str]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, dict):
        raise wrong_type(where, "an object", part)
    kind = part.get("type")
    if kind not in ("text", "input_text", "output_text"):
        raise unsupported(
            f"{where}.type", f"`{where}` is of type {kind!r}; only text is supported."
        )
    text = part.get("text")
    if not isinstance(text, str):
        raise wrong_type(f"{where}.text", "a string", text)
    return {"type": "text", "text": text}


def _tool_call(call: Any) -> Any:
    """Templates want the arguments of past tool calls as an object, clients send JSON text."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = msgspec.json.decode(function["arguments"])
    except (msgspec.DecodeError, RecursionError):
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def _refuse(body: Body) -> None:
    for name, test, message in _UNSUPPORTED:
        if name in body.raw and test(body.raw[name]):
            raise unsupported(name, message)


def _asked(
    body: Body,
    defaults: Defaults,
    limits: Limits,
    *,
    max_tokens: int | None,
    logprobs: int | None,
) -> Asked:
    stream = body.boolean("stream")
    usage = body.mapping("stream_options")
    if usage and not stream:
        raise bad_field("stream_options", "`stream_options` needs `stream` to be true.")
    prompt_logprobs = body.integer("prompt_logprobs", None, low=0, high=MAX_LOGPROBS)
    if stream and prompt_logprobs is not None:
        raise bad_field("prompt_logprobs", "`prompt_logprobs` cannot be streamed.")
    sampling = SamplingParams(
        n=body.integer("n", 1, low=1, high=MAX_CHOICES) or 1,
        max_tokens=max_tokens,
        min_tokens=body.integer("min_tokens", 0, low=0) or 0,
        temperature=body.number("temperature", defaults.temperature, low=0.0),
        top_p=body.number("top_p", defaults.top_p),
        top_k=body.integer("top_k", defaults.top_k) or 0,
        min_p=body.number("min_p", defaults.min_p),
        presence_penalty=body.number("presence_penalty", 0.0),
        frequency_penalty=body.number("frequency_penalty", 0.0),
        repetition_penalty=body.number("repetition_penalty", defaults.repetition_penalty),
        seed=_seed(body),
        stop_token_ids=body.token_ids("stop_token_ids", most=MAX_STOP_TOKENS),
        ignore_eos=body.boolean("ignore_eos"),
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        logit_bias=body.logit_bias(),
    )
    try:
        check_sampling(sampling, vocab_size=limits.vocab_size)
    except RequestError as error:
        raise bad_field(error.param or "", f"{error.message}.") from error
    options = Body(usage)
    include_usage = options.boolean("include_usage") or limits.force_usage
    return Asked(
        model=body.string("model"),
        sampling=sampling,
        text=TextOptions(
            stop=body.stop(),
            include_stop_str_in_output=body.boolean("include_stop_str_in_output"),
            skip_special_tokens=body.boolean("skip_special_tokens", True),
        ),
        max_tokens=max_tokens,
        stream=stream,
        include_usage=include_usage,
        continuous_usage=options.boolean("continuous_usage_stats") and include_usage,
        priority=_priority(body, limits),
        cache_salt=_salt(body),
        request_id=body.string("request_id"),
    )


def _seed(body: Body) -> int | None:
    """`seed`; -1 asks for another one each time, as in vLLM."""
    seed = body.integer("seed", None, low=-_INT64, high=_INT64 - 1)
    return None if seed == -1 else seed


def _priority(body: Body, limits: Limits) -> int:
    priority = body.integer("priority", 0, low=-_INT64, high=_INT64 - 1) or 0
    if priority and not limits.priorities:
        raise unsupported("priority", "`priority` needs --scheduling-policy priority.")
    return priority


def _salt(body: Body) -> str | None:
    salt = body.string("cache_salt")
    if salt == "":
        raise bad_field("cache_salt", "`cache_salt` must not be empty.")
    return salt


def with_room(
    asked: Asked,
    prompt_tokens: int,
    limits: Limits,
    *,
    param: str,
    default: int | None,
    ceiling: int | None,
) -> SamplingParams:
    """Sampling with `max_tokens` settled for a prompt. Raises `ApiError` when it cannot fit.

    `default` is used when the client named no limit (None: all the room), cut to `ceiling`.
    `param` is the field that holds the prompt.
    """
    room = limits.max_model_len - prompt_tokens
    if room < 1 or (asked.max_tokens or 0) > room:
        at_fault = "max_tokens" if room >= 1 else param
        raise too_long(prompt_tokens, asked.max_tokens or 0, limits.max_model_len, param=at_fault)
    wanted = asked.max_tokens
    if wanted is None:
        wanted = min(bound for bound in (room, default, ceiling) if bound is not None)
    if asked.sampling.min_tokens > wanted:
        raise bad_field(
            "min_tokens",
            f"`min_tokens` is {asked.sampling.min_tokens}, above the limit of {wanted} tokens.",
        )
    return msgspec.structs.replace(asked.sampling, max_tokens=wanted)

"""From request bodies to what the emulator has to produce, or a clear error about the field.

Fields that would only change which words come out (temperature, penalties, ...) are accepted and
make no difference, because the emulator's words are fixed.  Fields that would change the shape of
the answer are honoured or refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from xxhash import xxh3_64_intdigest

from engine.emulator.config import EmulatorConfig
from engine.emulator.text import decode, render_chat, token_count

MAX_CHOICES: Final = 128

NOT_EMULATED: Final = (
    *("logprobs", "top_logprobs", "prompt_logprobs", "stop", "stop_sequences", "stop_token_ids"),
    *("response_format", "structured_outputs", "guided_json", "guided_regex", "guided_choice"),
)
"""These would change the answer's form or its end."""
_WITHOUT_EFFECT: Final[tuple[object, ...]] = (
    [],
    "",
    {"type": "text"},
    {"format": {"type": "text"}},
)


class ApiError(Exception):
    """An error answer in OpenAI's form."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.retry_after = retry_after

    def body(self) -> bytes:
        """The JSON document."""
        kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )
        return msgspec.json.encode(
            {
                "error": {
                    "message": str(self),
                    "type": kind,
                    "param": self.param,
                    "code": self.code,
                }
            }
        )


@dataclass(slots=True)
class Work:
    """What a generation request asks for.

    `target` is tokens per choice, `finish` is "length" or "stop"; `include_usage` and `stream`
    concern the answer's form.
    """

    model: str
    prompt: bytes
    prompt_tokens: int
    target: int
    finish: str
    width: int = 1
    prompts: int = 1
    max_tokens: int | None = None
    stream: bool = False
    include_usage: bool = False


def read_object(body: bytes) -> dict[str, Any]:
    """The request body as a JSON object."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ApiError(400, f"request body is not valid JSON: {reason}") from None
    if not isinstance(document, dict):
        raise ApiError(400, "request body must be a JSON object")
    return document


def model_of(document: dict[str, Any], config: EmulatorConfig) -> str:
    """The model asked for; vLLM takes its first one when none is named, and so do we."""
    model = document.get("model") or config.models[0]
    if model not in config.models:
        raise ApiError(
            404, f"The model `{model}` does not exist.", param="model", code="model_not_found"
        )
    return str(model)


def integer(document: dict[str, Any], name: str, low: int, high: int) -> int | None:
    """An optional whole number within limits."""
    value = document.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ApiError(
            400, f"{name} must be an integer between {low} and {high}, got {value!r}", param=name
        )
    return value


def flag(document: dict[str, Any], name: str) -> bool:
    """An optional truth value."""
    value = document.get(name)
    if value is not None and not isinstance(value, bool):
        raise ApiError(400, f"{name} must be true or false, got {value!r}", param=name)
    return bool(value)


def require(document: dict[str, Any], name: str) -> Any:
    """A field that must be there."""
    value = document.get(name)
    if value is None:
        raise ApiError(400, f"{name} is required", param=name)
    return value


def text_of(value: object, param: str) -> bytes:
    """One text, given as a string or as token ids."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list) and value and all(type(n) is int for n in value):
        try:
            return decode(value)
        except OverflowError:
            raise ApiError(400, f"{param}: token ids must fit in 32 bits", param=param) from None
    raise ApiError(400, f"{param} must be text or a non-empty list of token ids", param=param)


def texts_of(value: object, param: str) -> list[bytes]:
    """One or more texts: a string, token ids, or a list of either."""
    if isinstance(value, list) and value and not isinstance(value[0], int):
        return [text_of(item, param) for item in value]
    return [text_of(value, param)]


def conversation(messages: object, tools: object = None, param: str = "messages") -> bytes:
    """The prompt of a list of messages."""
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, f"{param} must be a non-empty list", param=param)
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ApiError(400, f"{param}[{index}].role is required", param=param)
    try:
        return render_chat(messages, tools)
    except TypeError as error:
        raise ApiError(400, f"{param}: content: {error}", param=param) from None


def refuse_not_emulated(document: dict[str, Any]) -> None:
    """An error that names the first field that is given and would have to change the answer."""
    for name in NOT_EMULATED:
        value = document.get(name)
        # Identity, because 0 is a number of logprobs: those of the chosen tokens.
        if value is not None and value is not False and value not in _WITHOUT_EFFECT:
            raise ApiError(400, f"{name} is not emulated", param=name)
    if document.get("tools") and document.get("tool_choice") != "none":
        raise ApiError(
            400,
            "Tool calls are not supported; leave out `tools` or set tool_choice to none.",
            param="tools",
        )


class InputReader:
    """Reads generation requests of every API for one configuration."""

    def __init__(self, config: EmulatorConfig) -> None:
        self._config = config
        self.readers: dict[str, Callable[[dict[str, Any]], Work]] = {
            "/v1/chat/completions": self.chat,
            "/v1/completions": self.completion,
            "/v1/responses": self.response,
            "/v1/messages": self.message,
        }

    def read(self, path: str, document: dict[str, Any]) -> Work:
        """What a request to `path` asks for; an unknown model comes before all other complaints."""
        model_of(document, self._config)
        refuse_not_emulated(document)
        return self.readers[path](document)

    def chat(self, document: dict[str, Any]) -> Work:
        """OpenAI chat completions."""
        limit_name = "max_completion_tokens"
        if document.get(limit_name) is None:
            limit_name = "max_tokens"
        prompt = conversation(document.get("messages"), document.get("tools"))
        return self._work(document, prompt, limit_name)

    def completion(self, document: dict[str, Any]) -> Work:
        """OpenAI completions: a list of prompts gives `n` choices for each."""
        prompts = texts_of(require(document, "prompt"), "prompt")
        if flag(document, "echo"):
            raise ApiError(400, "echo is not emulated", param="echo")
        if document.get("max_tokens") is None:
            document["max_tokens"] = 16  # OpenAI's and vLLM's default for this API
        work = self._work(document, b"".join(prompts), "max_tokens", prompts=len(prompts))
        work.prompt_tokens = sum(token_count(p) for p in prompts)
        return work

    def response(self, document: dict[str, Any]) -> Work:
        """OpenAI responses."""
        given = require(document, "input")
        messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
        if isinstance(messages, list):
            messages = [
                {"role": "tool", **m} if isinstance(m, dict) and "role" not in m else m
                for m in messages
            ]
        instructions = document.get("instructions")
        if instructions is not None and isinstance(messages, list):
            messages = [{"role": "system", "content": instructions}, *messages]
        prompt = conversation(messages, document.get("tools"), "input")
        return self._work(document, prompt, "max_output_tokens")

    def message(self, document: dict[str, Any]) -> Work:
        """Anthropic messages."""
        require(document, "max_tokens")
        messages = document.get("messages")
        system = document.get("system")
        if system is not None and isinstance(messages, list):
            messages = [{"role": "system", "content": system}, *messages]
        prompt = conversation(messages, document.get("tools"))
        return self._work(document, prompt, "max_tokens")

    def _work(
        self, document: dict[str, Any], prompt: bytes, limit_name: str, prompts: int = 1
    ) -> Work:
        model = model_of(document, self._config)
        context = self._config.context_length
        prompt_tokens = token_count(prompt)
        limit = integer(document, limit_name, 1, 1 << 31)
        room = context - prompt_tokens
        if room < (limit or 1):
            raise ApiError(
                400,
                f"This model's maximum context length is {context} tokens, but the request has "
                f"{prompt_tokens} prompt tokens and asks for {limit or 'at least 1'} more.",
                param=limit_name if room > 0 else "messages",
                code="context_length_exceeded",
            )
        width = (integer(document, "n", 1, MAX_CHOICES) or 1) * prompts
        if width > self._config.timing.max_num_seqs:
            raise ApiError(
                400,
                f"n times prompts must be at most {self._config.timing.max_num_seqs}",
                param="n",
            )
        target, finish = (limit, "length") if limit else (self._draw(prompt, room), "stop")
        options = document.get("stream_options")
        if options is not None and not isinstance(options, dict):
            raise ApiError(400, "stream_options must be an object", param="stream_options")
        return Work(
            model=model,
            prompt=prompt,
            prompt_tokens=prompt_tokens,
            target=target,
            finish=finish,
            width=width,
            prompts=prompts,
            max_tokens=limit,
            stream=flag(document, "stream"),
            include_usage=bool(options and flag(options, "include_usage")),
        )

    def _draw(self, prompt: bytes, room: int) -> int:
        """Output length when the client set no limit: the same for the same prompt and seed.

        Triangular between 1 and three times the mean: most answers are short, few are long.
        """
        mean = self._config.mean_output_tokens
        dice = xxh3_64_intdigest(prompt, seed=self._config.seed)
        first, second = (dice & 0xFFFFFFFF) / 2**32, (dice >> 32) / 2**32
        return min(room, 1 + int(min(first, second) * 3 * mean))

"""How many tokens a response says it took.

Anthropic's API does not count what was read from a cache, or written to it for later, among
``input_tokens``; here a prompt's tokens are all of them, as with the other APIs.
"""

import re
from collections.abc import Collection
from typing import Final

import msgspec

from router.proxy.usage_fields import UsageFields, read_body, read_usage

_PROMPT: Final = re.compile(rb'"(?:prompt|input)_tokens"\s*:\s*(\d{1,12})')
_COMPLETION: Final = re.compile(rb'"(?:completion|output)_tokens"\s*:\s*(\d{1,12})')
_APART: Final = re.compile(rb'"cache_(?:read|creation)_input_tokens"\s*:\s*(\d{1,12})')
_CACHED: Final = re.compile(rb'"(?:cached_tokens|cache_read_input_tokens)"\s*:\s*(\d{1,12})')

_NAME: Final = b'"usage":'
_read_usage: Final = read_usage

USAGE_SPAN: Final = 1024
"""Bytes after ``"usage"`` that are looked at."""

Usage = tuple[int | None, int | None, int | None]


def usage(tail: Collection[bytes]) -> Usage:
    """(prompt, completion, cached) tokens from the end of a response; None where not said.

    A body that is there as a whole is read as JSON. Of others the last ``"usage"`` is looked at: a
    quote inside a JSON string is escaped, so generated text cannot pass for the field.
    """
    data = b"".join(tail)
    if data[:1] == b"{":
        if (last := _last_field(data)) is not None:
            return _from_body(last)
        try:
            found = read_body(data).usage
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = None  # only the beginning, or not as expected
        if found is not None:
            return _from_body(found)
    position = data.rfind(b'"usage"')
    if position < 0:
        return None, None, None
    span = data[position : position + USAGE_SPAN]
    prompt = _number(_PROMPT, span)
    if prompt is not None and b'"cache_' in span:
        prompt += sum(map(int, _APART.findall(span)))
    return prompt, _number(_COMPLETION, span), _number(_CACHED, span)


def _last_field(data: bytes) -> UsageFields | None:
    """The usage of a body whose last field it is, as with most engines, without reading all of it.

    What lies between the name and the body's last brace is an object only if they are its own.
    """
    position = data.rfind(_NAME)
    if position < 0 or not data.endswith(b"}"):
        return None
    try:
        return _read_usage(data[position + len(_NAME) : -1])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _from_body(found: UsageFields) -> Usage:
    prompt, completion = found.prompt_tokens, found.completion_tokens
    if prompt is None:
        prompt = found.input_tokens
        if prompt is not None:
            apart = (found.cache_read_input_tokens, found.cache_creation_input_tokens)
            prompt += sum(tokens or 0 for tokens in apart)
    if completion is None:
        completion = found.output_tokens
    details = found.prompt_tokens_details or found.input_tokens_details
    cached = found.cache_read_input_tokens if details is None else details.cached_tokens
    return prompt, completion, cached


def _number(pattern: re.Pattern[bytes], span: bytes) -> int | None:
    matched = pattern.search(span)
    return int(matched[1]) if matched else None

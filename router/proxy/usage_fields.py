"""The ``usage`` object of a response as types for msgspec, by the names of all APIs."""

from typing import Annotated, Final

import msgspec

_Tokens = Annotated[int, msgspec.Meta(ge=0, lt=10**12)] | None


class Details(msgspec.Struct, gc=False):
    cached_tokens: _Tokens = None


class UsageFields(msgspec.Struct, gc=False):
    prompt_tokens: _Tokens = None
    input_tokens: _Tokens = None
    completion_tokens: _Tokens = None
    output_tokens: _Tokens = None
    cache_read_input_tokens: _Tokens = None
    cache_creation_input_tokens: _Tokens = None
    prompt_tokens_details: Details | None = None
    input_tokens_details: Details | None = None


class _Body(msgspec.Struct, gc=False):
    usage: UsageFields | None = None


read_usage: Final = msgspec.json.Decoder(UsageFields).decode
read_body: Final = msgspec.json.Decoder(_Body).decode

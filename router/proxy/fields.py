"""The fields of request bodies that decisions are based on, as types for msgspec."""

from typing import Final

import msgspec


class Peek(msgspec.Struct, frozen=True, gc=False):
    """The fields of a request that decisions are based on; None where the body has none."""

    model: str | None = None
    stream: bool = False
    max_tokens: int | None = None
    user: str | None = None
    prefix_hash: int | None = None


NOTHING: Final = Peek()


class RequestFields(msgspec.Struct, gc=False):
    """The fields of a request body that are decoded, by the names of all APIs."""

    model: str | None = None
    stream: bool | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    max_output_tokens: int | None = None
    user: str | None = None
    messages: list[msgspec.Raw] | None = None
    system: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    instructions: msgspec.Raw = msgspec.Raw(b"")
    input: msgspec.Raw = msgspec.Raw(b"")


decode: Final = msgspec.json.Decoder(RequestFields).decode
decode_items: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode

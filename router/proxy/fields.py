"""The fields of request bodies that decisions are based on, as types for msgspec."""

from typing import Final

import msgspec


class PlainFields(msgspec.Struct, gc=False):
    """The fields of a request body that are always decoded, by the names of all APIs."""

    model: str | None = None
    stream: bool | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    max_output_tokens: int | None = None
    user: str | None = None


class RequestFields(PlainFields, gc=False):
    """With those that tell conversations apart."""

    messages: list[msgspec.Raw] | None = None
    system: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    instructions: msgspec.Raw = msgspec.Raw(b"")
    input: msgspec.Raw = msgspec.Raw(b"")


class PromptFields(PlainFields, gc=False):
    """With those that the prompt is made of.

    ``lora_path`` (SGLang), ``lora_request`` (TensorRT-LLM) and ``adapter_id`` (TGI) name an
    adapter where the model does not.
    """

    messages: msgspec.Raw = msgspec.Raw(b"")
    system: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    instructions: msgspec.Raw = msgspec.Raw(b"")
    input: msgspec.Raw = msgspec.Raw(b"")
    tools: msgspec.Raw = msgspec.Raw(b"")
    cache_salt: msgspec.Raw = msgspec.Raw(b"")
    lora_path: msgspec.Raw = msgspec.Raw(b"")
    lora_request: msgspec.Raw = msgspec.Raw(b"")
    adapter_id: msgspec.Raw = msgspec.Raw(b"")


decode_plain: Final = msgspec.json.Decoder(PlainFields).decode
decode: Final = msgspec.json.Decoder(RequestFields).decode
decode_prompt: Final = msgspec.json.Decoder(PromptFields).decode
decode_items: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode

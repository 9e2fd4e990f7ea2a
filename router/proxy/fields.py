"""The fields of request bodies that decisions are based on, as types for msgspec."""

from typing import Final

import msgspec


class Peek(msgspec.Struct, frozen=True, gc=False):
    """The fields of a request that decisions are based on; None where the body has none.

    ``checkpoints`` and ``prompt_bytes`` are as ``router.proxy.prompt`` has it, empty
    unless asked for.
    """

    model: str | None = None
    stream: bool = False
    max_tokens: int | None = None
    user: str | None = None
    prefix_hash: int | None = None
    checkpoints: tuple[int, ...] = ()
    prompt_bytes: int = 0


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


class PromptFields(msgspec.Struct, gc=False):
    """As ``RequestFields``, where the prompt is asked for too.

    ``lora_path`` (SGLang), ``lora_request`` (TensorRT-LLM) and ``adapter_id`` (TGI) name an
    adapter where the model does not.
    """

    model: str | None = None
    stream: bool | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    max_output_tokens: int | None = None
    user: str | None = None
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


decode: Final = msgspec.json.Decoder(RequestFields).decode
decode_prompt: Final = msgspec.json.Decoder(PromptFields).decode
decode_items: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode

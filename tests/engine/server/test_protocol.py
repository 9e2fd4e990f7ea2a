"""Any JSON at all is either understood or refused as the client's mistake; never a crash."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.request import RequestError, SamplingParams
from engine.server.chat import ChatTemplate
from engine.server.errors import ApiError
from engine.server.fields import Body, decode_object
from engine.server.model import ServedModel
from engine.server.protocol import (
    Asked,
    Defaults,
    Limits,
    read_chat,
    read_completion,
    read_messages,
    read_prompts,
    with_room,
)
from tests.engine.server.checkpoints import TEMPLATE, byte_level_tokenizer

LIMITS = Limits(vocab_size=300, max_model_len=100)
MODEL = ServedModel(
    names=["m"],
    root="m",
    tokenizer=byte_level_tokenizer(),
    template=ChatTemplate(TEMPLATE, special_tokens={}),
    limits=LIMITS,
    defaults=Defaults(),
)

NAMES = [
    *SamplingParams.__struct_fields__,
    *("model", "messages", "prompt", "stream", "stream_options", "stop", "echo", "best_of"),
    *("top_logprobs", "max_completion_tokens", "include_stop_str_in_output", "priority"),
    *("skip_special_tokens", "cache_salt", "tools", "tool_choice", "response_format"),
    *("guided_json", "suffix", "modalities", "request_id", "functions", "function_call"),
]

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(["user", "text", "auto", 1, 2, 0.5])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "tool_calls", "function", "1"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
BODIES = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6)


def outcome(call: Callable[[], Any]) -> Any:
    """What the call returns, or the error it refuses with; anything else fails the test."""
    try:
        return call()
    except ApiError as error:
        return error


@settings(max_examples=300, deadline=None)
@given(raw=BODIES)
def test_any_fields_are_understood_or_refused(raw: dict[str, Any]) -> None:
    for read in (read_chat, read_completion):

        def call(read: Callable[..., Asked] = read) -> SamplingParams:
            asked = read(Body(raw), Defaults(), LIMITS)
            return with_room(asked, 10, LIMITS, param="prompt", default=16, ceiling=None)

        got = outcome(call)
        if isinstance(got, ApiError):
            assert got.status == 400
            assert got.param
            assert got.body()
        else:
            assert 1 <= (got.max_tokens or 0) <= 90
            assert got.min_tokens <= (got.max_tokens or 0)


@settings(max_examples=300, deadline=None)
@given(value=VALUES)
def test_any_messages_are_rendered_or_refused(value: Any) -> None:
    def call() -> str:
        messages = read_messages(Body({"messages": value}))
        return MODEL.render(
            messages, add_generation_prompt=True, continue_final_message=False, kwargs={}
        )

    got = outcome(call)
    if isinstance(got, ApiError):
        assert (got.status, (got.param or "").partition("[")[0]) == (400, "messages")
    else:
        assert got.endswith("<|im_start|>assistant\n")


@settings(max_examples=300, deadline=None)
@given(value=VALUES)
def test_any_prompt_is_one_of_four_forms(value: Any) -> None:
    got = outcome(lambda: read_prompts(Body({"prompt": value})))
    if isinstance(got, ApiError):
        assert (got.status, (got.param or "").partition("[")[0]) == (400, "prompt")
    else:
        assert {type(prompt) for prompt in got} in ({str}, {list})


@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=40))
def test_any_bytes_are_an_object_or_refused(raw: bytes) -> None:
    got = outcome(lambda: decode_object(raw))
    if isinstance(got, ApiError):
        assert (got.status, got.code) == (400, "invalid_json")
    else:
        assert isinstance(got, dict)


@pytest.mark.parametrize(
    ("asked", "default", "ceiling", "expected"),
    [
        (None, None, None, 90),
        (None, 16, None, 16),
        (None, None, 20, 20),
        (None, 16, 8, 8),
        (50, 16, 8, 50),
    ],
)
def test_how_many_tokens_a_request_gets(
    asked: int | None, default: int | None, ceiling: int | None, expected: int
) -> None:
    body: dict[str, Any] = {"messages": [], "max_tokens": asked}
    request: Asked = read_chat(Body(body), Defaults(), LIMITS)
    sampling = with_room(request, 10, LIMITS, param="m", default=default, ceiling=ceiling)
    assert sampling.max_tokens == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {}),
        ({"temperature": 0.6, "top_k": 20, "eos_token_id": 5}, {"temperature": 0.6, "top_k": 20}),
        ({"do_sample": False, "temperature": 0.6}, {"temperature": 0.0}),
        ({"max_new_tokens": 5, "top_p": None}, {"max_tokens": 5}),
    ],
)
def test_defaults_from_a_generation_config(
    config: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert Defaults().updated(config, vocab_size=400) == msgspec.structs.replace(
        Defaults(), **expected
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"temperature": "hot"}, r"Expected `float`, got `str` - at `\$.temperature`"),
        ({"temperature": math.nan}, "temperature must be between 0 and 100"),
        ({"top_p": 7}, "top_p must be above 0 and at most 1"),
        ({"top_k": 0.5}, "top_k"),
        ({"max_new_tokens": 0}, "max_tokens must be at least 1"),
        ({"max_new_tokens": "5"}, "max_tokens"),
        ({"do_sample": "no"}, "do_sample must be true or false"),
    ],
)
def test_defaults_that_no_request_could_have(config: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        Defaults().updated(config, vocab_size=400)


def test_an_override_has_the_last_word() -> None:
    greedy = Defaults().updated({"do_sample": False, "top_k": 5}, vocab_size=400)
    warmer = greedy.updated({"temperature": 0.7}, vocab_size=400, strict=True)
    assert (warmer.temperature, warmer.top_k) == (0.7, 5)
    with pytest.raises(RequestError, match="eos_token_id is not known, only temperature"):
        greedy.updated({"eos_token_id": 5}, vocab_size=400, strict=True)

"""What the emulator cannot emulate is refused by name, as the real engine does or would."""

from typing import Any

import aiohttp
import pytest

from engine.emulator.config import EmulatorConfig
from engine.emulator.inputs import ApiError, InputReader, read_object
from engine.emulator.server import Emulator

CHAT = {"messages": [{"role": "user", "content": "hello"}]}
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/chat/completions", CHAT | {"logprobs": True}, "logprobs"),
        ("/v1/chat/completions", CHAT | {"stop": "\n"}, "stop"),
        ("/v1/chat/completions", CHAT | {"stop": ["a", "b"]}, "stop"),
        ("/v1/chat/completions", CHAT | {"tools": [TOOL]}, "tools"),
        (
            "/v1/chat/completions",
            CHAT | {"response_format": {"type": "json_object"}},
            "response_format",
        ),
        ("/v1/completions", {"prompt": "hello", "logprobs": 2}, "logprobs"),
        ("/v1/completions", {"prompt": "hello", "logprobs": 0}, "logprobs"),
        ("/v1/completions", {"prompt": "hello", "prompt_logprobs": 1}, "prompt_logprobs"),
        ("/v1/messages", CHAT | {"max_tokens": 3, "stop_sequences": ["x"]}, "stop_sequences"),
    ],
)
def test_refused_by_name(path: str, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        InputReader(EmulatorConfig()).read(path, fields)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    "fields",
    [
        {"logprobs": False},
        {"stop": None},
        {"stop": []},
        {"tools": []},
        {"tools": [TOOL], "tool_choice": "none"},
        {"response_format": {"type": "text"}},
        {"temperature": 0.3, "top_p": 0.9, "seed": 1},
    ],
)
def test_what_changes_nothing_is_taken(fields: dict[str, Any]) -> None:
    assert InputReader(EmulatorConfig()).read("/v1/chat/completions", CHAT | fields).target > 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", b'{"prompt": "x", "n": %b}'),
        ("/v1/completions", b'{"prompt": "x", "max_tokens": 1, "model": %b}'),
        ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": %b}]}'),
        (
            "/v1/chat/completions",
            b'{"messages": [{"role": "user", "content": "x"}], "tools": %b, "tool_choice": "none"}',
        ),
        ("/tokenize", b'{"prompt": "x", "model": %b}'),
        ("/emulator/faults", b'{"kind": "slow", "factor": %b}'),
    ],
)
async def test_no_depth_leaves_a_request_without_an_answer(path: str, body: bytes) -> None:
    async with Emulator() as emulator, aiohttp.ClientSession(emulator.url) as http:
        # The limit is Python's stack: what lies on it already decides where it is met.
        for depth in range(800, 1000):
            deep = body % (b"[" * depth + b"]" * depth)
            async with http.post(path, data=deep) as response:
                assert response.status in (200, 400, 404), depth
                await response.read()
        assert emulator.requests.active == 0


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"a": NaN}', b'{"a": ' + b"[" * 100_000, b"[]"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        read_object(body)
    assert caught.value.status == 400

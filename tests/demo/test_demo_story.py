"""The demo's claims are measured, not printed: with another balancer they fail. And its client
takes no broken answer for a whole one."""

import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console

from router.cli import demo
from router.cli.demo_chat import Conversation, Turn


async def test_without_affinity_the_claims_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    original = demo._configuration

    def random_choice(url: str, admin: str, engines: list[str]) -> str:
        config = json.loads(original(url, admin, engines))
        config["clusters"][0]["balancer"] = {"type": "round_robin"}
        return json.dumps(config)

    monkeypatch.setattr(demo, "_configuration", random_choice)
    # An odd number of replicas, or four conversations in turn would keep their places.
    options = demo.DemoOptions(once=True, engines=3, emulated=True, port=0, admin_port=0)
    output = io.StringIO()
    failed = await demo._demo(options, Console(file=output, width=120))
    assert failed >= 1
    assert "✗ every later turn went to its first turn's replica" in output.getvalue()


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def ask(handler: Handler, *, streamed: bool) -> Turn:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    chat = Conversation("ada", ("Hello?", "Again?"), streamed=streamed)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        return await chat.next_turn(session, str(server.make_url("")).rstrip("/"), "m")


def events(*pieces: object, done: bool) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"x-warmpath-endpoint": "a:1"})
        response.content_type = "text/event-stream"
        await response.prepare(request)
        for piece in pieces:
            await response.write(b"data: " + json.dumps(piece).encode() + b"\n\n")
        if done:
            await response.write(b"data: [DONE]\n\n")
        return response

    return handler


def piece(text: str) -> dict[str, object]:
    return {"choices": [{"delta": {"content": text}}]}


USAGE = {
    "choices": [],
    "usage": {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 8}},
}


async def test_a_whole_stream() -> None:
    turn = await ask(events(piece("Hel"), piece("lo"), USAGE, done=True), streamed=True)
    assert (turn.text, turn.cached_tokens, turn.prompt_tokens) == ("Hello", 8, 9)
    assert (turn.endpoint, turn.error) == ("a:1", None)
    assert turn.first_token is not None


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (events(piece("Hel"), done=False), "the stream ended before its end"),
        (events(piece("Hel"), {"error": {"message": "lost it"}}, done=True), "lost it"),
    ],
    ids=["no DONE", "error event"],
)
async def test_a_broken_stream_is_an_error(handler: Handler, message: str) -> None:
    assert (await ask(handler, streamed=True)).error == message


async def test_a_refusal_is_an_error() -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "nothing is up"}}, status=503)

    assert (await ask(refuse, streamed=False)).error == "503: nothing is up"


@pytest.fixture
async def echo() -> AsyncIterator[str]:
    """Answers with the number of messages it was sent, after one failure."""
    calls = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        if calls == 1:
            return web.json_response({}, status=500)
        count = len((await request.json())["messages"])
        answer = {"choices": [{"message": {"content": str(count)}}], "usage": {"prompt_tokens": 1}}
        return web.json_response(answer)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def test_a_failed_turn_leaves_no_history(echo: str) -> None:
    chat = Conversation("ada", ("one", "two", "three"), streamed=False)
    async with aiohttp.ClientSession() as session:
        turns = [await chat.next_turn(session, echo, "m") for _ in range(3)]
    assert [turn.text for turn in turns] == ["", "1", "3"]
    assert [turn.cached_tokens for turn in turns] == [None, 0, 0]

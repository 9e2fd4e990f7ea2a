"""The page's way to the API port: what it passes on, and what it refuses to hide."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from router.admin import chat
from router.admin.access import guard
from router.config.schema import Admin
from router.config.units import Secret
from router.control.plane import ControlPlane

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Client = TestClient[web.Request, web.Application]


@asynccontextmanager
async def page(handler: Handler | None, token: str | None = None) -> AsyncIterator[Client]:
    """The admin's chat paths in front of an API port that answers with ``handler``."""
    api = web.Application()
    if handler is not None:
        api.router.add_route("*", "/v1/{path:.*}", handler)
    async with TestServer(api) as server:
        assert server.port is not None
        address = SimpleNamespace(host="0.0.0.0", port=server.port)
        listener = SimpleNamespace(tls=None)
        store = SimpleNamespace(config=SimpleNamespace(listeners=[listener]))
        views = chat.ChatViews(
            cast(ControlPlane, SimpleNamespace(addresses=[address], store=store))
        )
        admin = Admin(token=None if token is None else Secret(token))
        app = web.Application(middlewares=[guard(lambda: admin)])
        app.add_routes(views.routes())
        app.cleanup_ctx.append(views.session)
        if handler is None:
            await server.close()
        async with TestClient(TestServer(app)) as client:
            yield client


async def say(client: Client, **headers: str) -> aiohttp.ClientResponse:
    return await client.post("/chat/completions", json={"model": "m"}, headers=headers)


async def test_body_status_and_decision_pass_through() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.path == "/v1/chat/completions"
        assert await request.read() == b'{"model": "m"}'
        headers = {"x-warmpath-endpoint": "a:1", "x-warmpath-reason": "prefix hit", "x-other": "1"}
        return web.json_response({"ok": 1}, status=418, headers=headers)

    async with page(answer) as client:
        response = await say(client)
        assert (response.status, await response.json()) == (418, {"ok": 1})
        assert response.headers["x-warmpath-endpoint"] == "a:1"
        assert response.headers["x-warmpath-reason"] == "prefix hit"
        assert "x-other" not in response.headers
        assert "default-src 'self'" in response.headers["content-security-policy"]


async def test_a_stream_is_not_held_back() -> None:
    read = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        await read.wait()  # until the page has the first piece
        await response.write(b"two")
        return response

    async with page(answer) as client:
        response = await say(client)
        assert await response.content.readany() == b"one"
        read.set()
        assert await response.read() == b"two"


async def test_a_cut_answer_stays_cut() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with page(answer) as client:
        response = await say(client)
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_a_page_that_leaves_is_passed_on() -> None:
    left = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"piece")
                await asyncio.sleep(0.01)
        finally:
            left.set()

    async with page(answer) as client:
        response = await say(client)
        await response.content.readany()
        response.close()
        await asyncio.wait_for(left.wait(), 10)


async def test_an_api_port_that_does_not_answer() -> None:
    async with page(None) as client:
        response = await say(client)
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (502, "api_unreachable")


async def test_chats_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "MAX_CHATS", 1)
    go = asyncio.Event()
    begun = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        begun.set()
        await go.wait()
        return web.Response()

    async with page(answer) as client:
        first = asyncio.create_task(say(client))
        await begun.wait()
        second = await say(client)
        assert (second.status, (await second.json())["error"]["code"]) == (429, "too_many_chats")
        go.set()
        assert (await first).status == 200
        assert (await say(client)).status == 200


async def test_the_token_guards_the_chat_too() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"data": []})

    async with page(answer, token="secret") as client:
        assert (await say(client)).status == 401
        assert (await client.get("/chat/models")).status == 401
        assert (await say(client, authorization="Bearer secret")).status == 200


async def test_another_sites_form_cannot_chat() -> None:
    async def answer(request: web.Request) -> web.Response:
        raise AssertionError("must not come here")

    async with page(answer) as client:
        response = await client.post("/chat/completions", data={"model": "m"})
        assert (response.status, (await response.json())["error"]["code"]) == (403, "cross_site")


async def test_a_clients_key_is_passed_on() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"key": request.headers.get("x-api-key")})

    async with page(answer) as client:
        assert await (await say(client, **{"x-api-key": "sk-1"})).json() == {"key": "sk-1"}
        assert await (await say(client)).json() == {"key": None}

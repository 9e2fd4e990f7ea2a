"""Emulators in the test's own event loop, and a client that sees bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import aiohttp
import pytest
import uvloop

from engine.emulator import Emulator, EmulatorConfig

BOTH_LOOPS = ("test_emulator_faults.py", "test_emulator_http.py")


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What is about bytes is tested on both loops: tests use asyncio's, the command line uvloop."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.SelectorEventLoop
    }
    if item.path.name in BOTH_LOOPS:
        factories["uvloop"] = uvloop.new_event_loop
    return factories


Launch = Callable[..., Awaitable[Emulator]]


@pytest.fixture
async def launch() -> AsyncIterator[Launch]:
    """`await launch(**config)` gives a running emulator, stopped after the test."""
    started: list[Emulator] = []

    async def start(**settings: Any) -> Emulator:
        emulator = await Emulator(EmulatorConfig(**settings)).start()
        started.append(emulator)
        return emulator

    yield start
    for emulator in started:
        await emulator.stop()


class WebAnswer(NamedTuple):
    """A whole response."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)


class WebClient:
    """Requests to one emulator, whole responses back."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def request(self, method: str, path: str, **options: Any) -> WebAnswer:
        async with self.session.request(method, path, **options) as response:
            return WebAnswer(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> WebAnswer:
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> WebAnswer:
        return await self.request("POST", path, **options)


@pytest.fixture
async def web() -> AsyncIterator[Callable[[Emulator], WebClient]]:
    """`web(emulator)` gives a WebClient, closed after the test."""
    sessions: list[aiohttp.ClientSession] = []

    def make(emulator: Emulator) -> WebClient:
        sessions.append(aiohttp.ClientSession(emulator.url))
        return WebClient(sessions[-1])

    yield make
    for session in sessions:
        await session.close()


class RawClient:
    """One TCP connection and the bytes that pass over it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def post(self, path: str, body: dict[str, Any], **headers: str) -> None:
        payload = json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(payload)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + payload)

    def chat(self, *, max_tokens: int = 4, stream: bool = False, **headers: str) -> None:
        message = {"role": "user", "content": "count, please"}
        body = {"messages": [message], "max_tokens": max_tokens, "stream": stream}
        self.post("/v1/chat/completions", body, **headers)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next response."""
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
        first, *rest = raw.decode().split("\r\n")[:-2]
        pairs = (line.split(": ", 1) for line in rest)
        return int(first.split(" ")[1]), dict(pairs)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """A whole response with a content-length."""
        status, headers = await self.head()
        size = int(headers["content-length"])
        return status, headers, await asyncio.wait_for(self.reader.readexactly(size), 10)

    async def until_closed(self) -> bytes:
        """What arrives until the other side closes; raises ConnectionResetError for a reset."""
        return await asyncio.wait_for(self.reader.read(), 10)

    def close(self) -> None:
        self.writer.close()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[Emulator], Awaitable[RawClient]]]:
    """`await connect(emulator)` gives a RawClient, closed after the test."""
    clients: list[RawClient] = []

    async def open_client(emulator: Emulator) -> RawClient:
        client = RawClient(*await asyncio.open_connection("127.0.0.1", emulator.port))
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        client.close()
        try:
            await client.writer.wait_closed()
        except OSError:
            pass

"""The edge configuration, loaded by a real nginx in front of an upstream that we play by hand.

The upstream is a raw socket server, so that each test decides which bytes exist at which moment:
"not buffered" means that the first chunk arrives while the second has not been written yet.
"""

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.tool

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Upstream:
    """A router played by the test: each request received waits in ``requests``."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[tuple[bytes, asyncio.StreamWriter]] = asyncio.Queue()
        self.connections = 0
        self.edge_left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            for line in head.split(b"\r\n"):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    await reader.readexactly(int(value))
            await self.requests.put((head, writer))
        self.edge_left.set()
        writer.close()


@asynccontextmanager
async def edge(nginx: str, source: Path, prefix: Path, upstream_port: int) -> AsyncIterator[int]:
    """The repository's own nginx files, with only the two addresses replaced."""
    port = free_port()
    for name in ("nginx.conf", "upstream.conf", "listen.conf"):
        shutil.copy(source / name, prefix / name)
    for name, old, new in (
        ("upstream.conf", "127.0.0.1:8080", f"127.0.0.1:{upstream_port}"),
        ("listen.conf", "127.0.0.1:8088", f"127.0.0.1:{port}"),
    ):
        text = (prefix / name).read_text()
        assert old in text
        (prefix / name).write_text(text.replace(old, new))
    (prefix / "run").mkdir()
    process = await asyncio.create_subprocess_exec(
        *(nginx, "-p", str(prefix), "-c", "nginx.conf", "-g", "daemon off;"),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                break
        yield port
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def world(
    tool: Callable[..., str], root: Path, tmp_path: Path
) -> AsyncIterator[tuple[int, Upstream]]:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream_port = server.sockets[0].getsockname()[1]
    async with edge(tool("nginx"), root / "nginx", tmp_path, upstream_port) as port:
        yield port, upstream
    server.close()


def post(body: bytes, *headers: str) -> bytes:
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: api.example", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def test_nginx_accepts_the_files(tool: Callable[..., str], root: Path, tmp_path: Path) -> None:
    for path in (root / "nginx").iterdir():
        shutil.copy(path, tmp_path / path.name)
    (tmp_path / "run").mkdir()
    result = subprocess.run(
        [tool("nginx"), "-t", "-p", str(tmp_path), "-c", "nginx.conf"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


async def test_stream_is_not_buffered(world: tuple[int, Upstream]) -> None:
    port, upstream = world
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(b'{"stream":true}'))
    _, router = await upstream.requests.get()

    router.write(HEAD + chunk(b"data: one\n\n"))
    assert b"data: one" in await asyncio.wait_for(reader.readuntil(b"one\n\n"), 10)

    # Only now does the second event exist.
    router.write(chunk(b"data: two\n\n") + b"0\r\n\r\n")
    assert b"data: two" in await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 10)
    writer.close()


async def test_client_that_leaves_is_passed_on(world: tuple[int, Upstream]) -> None:
    port, upstream = world
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(b'{"stream":true}'))
    _, router = await upstream.requests.get()
    router.write(HEAD + chunk(b"data: one\n\n"))
    await asyncio.wait_for(reader.readuntil(b"one\n\n"), 10)

    writer.close()
    await asyncio.wait_for(upstream.edge_left.wait(), 10)


async def test_connections_to_the_router_are_kept(world: tuple[int, Upstream]) -> None:
    port, upstream = world
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(3):
        writer.write(post(b"{}"))
        _, router = await upstream.requests.get()
        router.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await asyncio.wait_for(reader.readuntil(b"{}"), 10)
    assert upstream.connections == 1
    writer.close()


@pytest.mark.parametrize("sent", ["", "abc-123"])
async def test_request_id_and_origin(world: tuple[int, Upstream], sent: str) -> None:
    port, upstream = world
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    headers = [f"X-Request-Id: {sent}"] if sent else []
    writer.write(post(b"{}", "X-Forwarded-For: 6.6.6.6", *headers))
    head, _ = await upstream.requests.get()
    fields = dict(
        line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line
    )
    assert fields["host"] == "api.example"
    assert fields["x-request-id"] == sent or (not sent and len(fields["x-request-id"]) == 32)
    assert fields["x-forwarded-for"] == "127.0.0.1"
    assert "connection" not in fields
    writer.close()


async def exchange(port: int, request: bytes) -> tuple[int, dict[str, object]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    )
    body = json.loads(await reader.readexactly(length))
    writer.close()
    return int(head.split()[1]), body


async def test_refusals_of_the_edge_are_openai_shaped(
    tool: Callable[..., str], root: Path, tmp_path: Path
) -> None:
    async with edge(tool("nginx"), root / "nginx", tmp_path, free_port()) as port:
        status, body = await exchange(port, post(b"{}"))
        assert (status, body["error"]["code"]) == (503, "router_unavailable")  # type: ignore[index]
        oversized = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {65 * 2**20}\r\n\r\n".encode()
        status, body = await exchange(port, oversized)
        assert (status, body["error"]["code"]) == (413, "request_too_large")  # type: ignore[index]

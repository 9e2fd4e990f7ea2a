"""The real thing: our engines, our router, as processes, on free ports of the loopback."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp

START_LIMIT = 60.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def process(*command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``python -m ...`` until the block ends; then SIGTERM, and SIGKILL if it lingers."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=output, stderr=output, env=environment
        )
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


async def until_ok(url: str, log: Path, limit: float = START_LIMIT) -> None:
    """Poll ``url`` until it answers 200."""
    deadline = time.monotonic() + limit
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < deadline:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)
    raise AssertionError(f"{url} did not answer 200 in {limit:g}s:\n{log.read_text()[-4000:]}")


class Stack:
    """Addresses of a running router and its engines, and questions to the admin API."""

    def __init__(self, port: int, admin_port: int, engines: list[str]) -> None:
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        self.admin = f"http://127.0.0.1:{admin_port}"
        self.engines = engines
        self.children: list[subprocess.Popen[bytes]] = []

    async def get(self, url: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.json()

    async def text(self, url: str) -> str:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.text()

    async def endpoints(self) -> list[dict[str, Any]]:
        clusters = await self.get(f"{self.admin}/clusters")
        return [e for cluster in clusters["clusters"] for e in cluster["endpoints"]]

    async def in_flight(self) -> list[int]:
        return [endpoint["in_flight"] for endpoint in await self.endpoints()]

    async def quiet(self, limit: float = 5.0) -> None:
        """Wait until nothing is in flight."""
        deadline = time.monotonic() + limit
        while any(await self.in_flight()):
            assert time.monotonic() < deadline, await self.in_flight()
            await asyncio.sleep(0.02)


def configuration(stack: Stack, engines: list[str], extra: str = "") -> str:
    lines = "\n".join(f"      - {address}" for address in engines)
    return f"""
version: 1
workers: 1
listeners: [{{name: api, address: {stack.address}}}]
admin: {{address: {stack.admin.removeprefix("http://")}}}
drain: {{min_drain: 0s, timeout: 5s}}
limits: {{expose_decision: true, max_body: 1MiB}}
access_log: {{path: "off"}}
clusters:
  - name: demo
    endpoints:
{lines}
    balancer: {{type: prefix_hash}}
    health: {{active: {{interval: 200ms, timeout: 2s, jitter: 0%}}}}
    scrape: {{interval: 200ms}}
routes:
  - {{name: demo, match: {{model: warmpath-demo}}, to: demo}}
{extra}"""


@contextlib.asynccontextmanager
async def running(
    folder: Path, engine_command: tuple[str, ...], count: int = 2
) -> AsyncIterator[Stack]:
    """Engines from ``engine_command`` (``--port`` is added) behind a router of one worker."""
    ports = [free_port() for _ in range(count)]
    stack = Stack(free_port(), free_port(), [f"127.0.0.1:{port}" for port in ports])
    config = folder / "warmpath.yaml"
    config.write_text(configuration(stack, stack.engines))
    with contextlib.ExitStack() as processes:
        logs = []
        for index, port in enumerate(ports):
            logs.append(folder / f"engine{index}.log")
            command = (*engine_command, "--host", "127.0.0.1", "--port", str(port))
            stack.children.append(processes.enter_context(process(*command, log=logs[-1])))
        for address, log in zip(stack.engines, logs, strict=True):
            await until_ok(f"http://{address}/health", log)
        log = folder / "router.log"
        serve = ("router.cli.main", "serve", "-c", str(config))
        stack.children.append(processes.enter_context(process(*serve, log=log)))
        await until_ok(f"{stack.admin}/readyz", log)
        yield stack

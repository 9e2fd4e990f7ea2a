"""A router as an operator runs it: a process, its signals, its ports, its admin API."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from engine.emulator.config import EmulatorConfig
from engine.emulator.profiles import Timing
from engine.emulator.server import Emulator

PATIENCE = 60.0

# A stream of 50 tokens takes about a second.
SLOW = Timing(decode_step=0.02)


def emulator(name: str, timing: Timing | None = None, **settings: Any) -> Emulator:
    if timing is not None:
        settings["timing"] = timing
    return Emulator(EmulatorConfig(name=name, **settings))


def configuration(*engines: str, workers: int = 1, extra: str = "", cluster: str = "") -> str:
    """One cluster of these engines behind one route; short intervals, free ports."""
    endpoints = "\n".join(f"      - {engine}" for engine in engines)
    return f"""
version: 1
workers: {workers}
listeners: [{{name: api, address: "127.0.0.1:0"}}]
admin: {{address: "127.0.0.1:0"}}
drain: {{min_drain: 0s, timeout: 10s}}
clusters:
  - name: demo
    balancer: {{type: round_robin}}
    health: {{active: {{interval: 100ms, timeout: 2s, rise: 1, fall: 2}}}}
    scrape: {{interval: 100ms, timeout: 2s}}
    {cluster}
    endpoints:
{endpoints}
routes:
  - {{name: all, to: demo, timeouts: {{connect: 2s}}}}
{extra}"""


class RouterProcess:
    """A running ``warmpath serve``. ``log`` is standard error, ``lines`` standard output."""

    def __init__(self, process: asyncio.subprocess.Process, session: aiohttp.ClientSession) -> None:
        self.process = process
        self.session = session
        self.api = ""
        self.admin = ""
        self.log: list[str] = []
        self.lines: list[str] = []
        self._said = asyncio.Event()
        assert process.stderr is not None
        assert process.stdout is not None
        self._readers = [
            asyncio.create_task(self._read(process.stderr, self.log)),
            asyncio.create_task(self._read(process.stdout, self.lines)),
        ]

    async def _read(self, stream: asyncio.StreamReader, into: list[str]) -> None:
        async for line in stream:
            into.append(line.decode().rstrip())
            self._said.set()
        self._said.set()

    async def started(self) -> None:
        """Wait until it has said where it listens, or ended."""
        while not self.admin:
            if self.process.returncode is not None:
                raise AssertionError("\n".join(self.log))
            await asyncio.wait_for(self._said.wait(), PATIENCE)
            self._said.clear()
            for line in self.log:
                name, _, url = line.partition(": ")
                if name in ("api", "admin") and url.startswith("http"):
                    setattr(self, name, url)

    def signal(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    async def ended(self, limit: float = PATIENCE) -> int:
        """Wait for its end; returns the exit status."""
        async with asyncio.timeout(limit):
            status = await self.process.wait()
            await asyncio.gather(*self._readers)
        return status

    # --- the admin API ----------------------------------------------------------------------

    async def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        async with self.session.request(
            method,
            self.admin + path,
            data=None if body is None else json.dumps(body),
            headers={"content-type": "application/json"} | headers,
        ) as answer:
            return answer.status, json.loads(await answer.read())

    async def get(self, path: str) -> Any:
        status, value = await self.ask("GET", path)
        assert status == 200, (status, value)
        return value

    async def text(self, path: str) -> tuple[int, str]:
        async with self.session.get(self.admin + path) as answer:
            return answer.status, await answer.text()

    async def metric(self, sample: str) -> float:
        """Value of a sample, given as it stands on the page; 0 while there is none."""
        _, page = await self.text("/metrics")
        for line in page.splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        family = sample.partition("{")[0]
        assert f"# TYPE {family} " in page, f"no family of {sample} on the page"
        return 0.0

    async def endpoints(self) -> dict[str, dict[str, Any]]:
        clusters = (await self.get("/clusters"))["clusters"]
        return {e["address"]: e for cluster in clusters for e in cluster["endpoints"]}

    async def in_flight(self) -> int:
        return sum(e["in_flight"] for e in (await self.endpoints()).values())

    # --- requests -----------------------------------------------------------------------------

    def chat(self, max_tokens: int = 3, stream: bool = False) -> Any:
        """A request to make with ``async with``."""
        body = {
            "model": "emulated",
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": max_tokens,
            "stream": stream,
        }
        return self.session.post(f"{self.api}/v1/chat/completions", json=body)

    async def served_by(self) -> str:
        async with self.chat() as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()
            return answer.headers["x-emulator-name"]


@asynccontextmanager
async def serving(folder: Path, text: str, *arguments: str) -> AsyncIterator[RouterProcess]:
    """Run ``warmpath serve`` with this configuration until the block ends."""
    config = folder / "warmpath.yaml"
    config.write_text(text)
    async with launched("-c", str(config), *arguments) as router:
        await router.started()
        yield router


@asynccontextmanager
async def launched(*arguments: str) -> AsyncIterator[RouterProcess]:
    """Run ``warmpath serve ARGUMENTS``; nothing is waited for."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "router.cli.main", "serve", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    # A connection per request: each may reach another worker.
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        router = RouterProcess(process, session)
        try:
            yield router
        finally:
            if process.returncode is None:
                process.kill()
            await router.ended()


async def until(condition: Callable[[], Any], limit: float = PATIENCE) -> None:
    """Wait until the (maybe asynchronous) condition holds."""
    deadline = time.monotonic() + limit
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.02)

"""A real server on a free port in the test's own event loop, over a tiny random model."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import torch
from openai import AsyncOpenAI

from engine.args import OPTIONS, ServeArgs, ServeCommand, serve_args
from engine.core import EngineCore
from engine.kv_events import Publisher
from engine.server.command import _Prepared, _service
from engine.server.lifecycle import Lifecycle, bind


class GatedCore:
    """A core that makes a step only when it may, so that a test decides where in time it is."""

    def __init__(self, core: EngineCore) -> None:
        self.core = core
        self.gate = threading.Semaphore(0)
        self.open = False

    def release(self, steps: int = 1) -> None:
        self.gate.release(steps)

    def release_all(self) -> None:
        self.open = True
        self.gate.release()

    def step(self, now: float) -> list[Any]:
        if not self.open:
            self.gate.acquire()
        return self.core.step(now)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.core, name)


class Running:
    """A started server: `url`, an SDK `client`, and its inside."""

    def __init__(self, lifecycle: Lifecycle, url: str) -> None:
        self.lifecycle = lifecycle
        self.service = lifecycle.service
        self.engine = lifecycle.service.engine
        self.url = url
        self.client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)

    @property
    def core(self) -> Any:
        return self.engine._core

    async def until(self, true: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait for something that happens on another thread or task."""
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.002)

    def settled(self) -> bool:
        """Nothing runs, waits or holds a block, as the engine last told it."""
        stats = self.engine.stats
        return (
            self.engine.live == 0
            and stats.num_running == 0
            and stats.num_waiting == 0
            and stats.kv_cache_usage == 0.0
        )


def parse(argv: list[str], environ: dict[str, str] | None = None) -> ServeArgs:
    """`ServeArgs` as the command line would give them."""
    seen: list[ServeArgs] = []

    def keep(**values: Any) -> None:
        seen.append(serve_args(values, environ=environ or {}))

    command: click.Command = ServeCommand("serve", callback=keep)
    for option in OPTIONS:
        command = option(command)
    command.main(argv, standalone_mode=False)
    return seen[0]


@asynccontextmanager
async def serving(
    checkpoint: Path, *flags: str, gated: bool = False, shutdown_timeout: float = 5.0
) -> AsyncIterator[Running]:
    """Serve `checkpoint` with random weights and `flags`; everything ends with the block."""
    torch.set_num_threads(1)
    args = parse([str(checkpoint), "--load-format", "dummy", "--served-model-name=tiny", *flags])
    prepared = _Prepared(args)
    publisher = Publisher(prepared.kv_events) if prepared.kv_events.enabled else None
    service = _service(prepared, publisher)
    if gated:
        service.engine._core = GatedCore(service.engine._core)
    lifecycle = Lifecycle(
        service, shutdown_timeout=shutdown_timeout, log_stats=False, access_log=False
    )
    with bind("127.0.0.1", 0, None) as listener:
        await lifecycle.start(listener)
        running = Running(lifecycle, f"http://127.0.0.1:{listener.getsockname()[1]}")
        try:
            yield running
        finally:
            if gated:
                running.core.release_all()
            await running.client.close()
            await lifecycle.close()
            if publisher is not None:
                publisher.close()

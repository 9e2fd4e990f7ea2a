"""The life of a serving process: listen, log a line of statistics, drain on a signal, leave.

The first SIGTERM or SIGINT starts the drain: /health answers 503, new work is refused with 503 and
`Connection: close`, running requests get `shutdown_timeout` seconds and are then aborted. The
listener stays open meanwhile, so that a balancer sees the 503 rather than a refused connection. A
second signal ends the wait. A failed core ends the process with code 70, for a supervisor to
restart it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from pathlib import Path
from typing import Any

from aiohttp import web

from engine.loop import AsyncEngine
from engine.server.app import make_app
from engine.server.faults import without_tracebacks
from engine.server.routes import Service

log = logging.getLogger("engine.server")

EXIT_ENGINE_FAILED = 70
STATS_INTERVAL = 10.0
_CLOSING = 2.0

# What a request line or one header may measure: no less than what the router lets through.
_LONGEST_LINE = 64 * 1024


class Lifecycle:
    """One server from listening to exit.

    Args:
        service: the handlers, over an engine that is not started yet.
        shutdown_timeout: seconds that running requests get after the first signal.
        log_stats: write a line of statistics every ten seconds while there is work.
        access_log: write a line per request.
    """

    def __init__(
        self,
        service: Service,
        *,
        shutdown_timeout: float = 30.0,
        log_stats: bool = True,
        access_log: bool = True,
    ) -> None:
        self.service = service
        self._engine: AsyncEngine = service.engine
        self._shutdown_timeout = shutdown_timeout
        self._log_stats = log_stats
        self._access_log = access_log
        self._leave = asyncio.Event()
        self._force = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def start(self, listener: socket.socket) -> None:
        """Start the engine and listen on a bound socket."""
        self._engine.on_death = self._leave.set
        self._engine.start()
        logging.getLogger("aiohttp.server").addFilter(without_tracebacks)
        access = logging.getLogger("engine.access") if self._access_log else None
        self._runner = web.AppRunner(
            make_app(self.service),
            handler_cancellation=True,
            access_log=access,
            access_log_format='%a "%r" %s %b %Tf',
            keepalive_timeout=75.0,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
            shutdown_timeout=_CLOSING,
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listener, backlog=2048).start()

    def signalled(self) -> None:
        """A signal arrived: drain; the second one stops waiting."""
        if self._leave.is_set():
            self._force.set()
        self._leave.set()

    async def run(self) -> int:
        """Wait for a signal or a failure, drain and clean up; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.signalled)
        stats = asyncio.create_task(self._report()) if self._log_stats else None
        try:
            await self._leave.wait()
            await self.drain()
        finally:
            if stats is not None:
                stats.cancel()
            await self.close()
        return EXIT_ENGINE_FAILED if self._engine.dead else 0

    async def drain(self) -> None:
        """Refuse new work and let what runs finish, within the timeout."""
        self.service.draining = True
        if self._engine.live:
            log.info(
                "draining: %d requests running, at most %g s",
                self._engine.live,
                self._shutdown_timeout,
            )
        over = [asyncio.ensure_future(event.wait()) for event in (self._engine.idle, self._force)]
        await asyncio.wait(
            over, timeout=self._shutdown_timeout, return_when=asyncio.FIRST_COMPLETED
        )
        for waiter in over:
            waiter.cancel()
        if self._engine.live:
            log.warning("aborting %d requests", self._engine.live)

    async def close(self) -> None:
        """Abort what is left, close every connection, end the engine thread."""
        self._engine.abort_all()
        if self._runner is not None:
            await self._runner.cleanup()
        await self._engine.stop()

    async def _report(self) -> None:
        before = self._engine.stats
        while True:
            await asyncio.sleep(STATS_INTERVAL)
            now = self._engine.stats
            prompt = (now.prompt_tokens - before.prompt_tokens) / STATS_INTERVAL
            generation = (now.generation_tokens - before.generation_tokens) / STATS_INTERVAL
            if prompt or generation or self._engine.live:
                hits = now.prefix_cache_hits / max(1, now.prefix_cache_queries)
                log.info(
                    "prompt %.1f tok/s, generation %.1f tok/s, running %d, waiting %d, "
                    "KV cache %.1f %%, prefix hits %.1f %%",
                    prompt,
                    generation,
                    now.num_running,
                    now.num_waiting,
                    100 * now.kv_cache_usage,
                    100 * hits,
                )
            before = now


def bind(host: str, port: int, uds: str | None) -> socket.socket:
    """A bound, not yet listening socket. Raises `OSError`."""
    if uds is not None:
        address: Any = uds
        _remove_left_over(uds)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        flags = socket.AI_PASSIVE
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _remove_left_over(path: str) -> None:
    """A process that was killed leaves its socket behind, where nobody listens any more."""
    if not Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)


def address_of(listener: socket.socket) -> str:
    """Where a bound socket can be reached, for the log."""
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"

"""The processes of the demo: engines and a router, none of which may outlive it.

Children get a session of their own, so that Ctrl-C reaches the demo alone, which then ends them in
order; on Linux the kernel ends them should the demo itself be killed. Their output goes to files
that are shown when a start fails.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp

START_LIMIT = 120.0
"""Seconds: a cold machine may read torch from a slow disk."""
END_LIMIT = 8.0
LOG_TAIL = 2000
PR_SET_PDEATHSIG = 1


class StartFailed(Exception):
    """A child ended or did not become ready; the message holds the end of its log."""


def free_port() -> int:
    """A port of the loopback that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Child:
    """One process, started, ended and perhaps started again.

    Args:
        name: for people.
        module: what ``python -m`` runs.
        arguments: its command line.
        ready_url: answers 200 once it is ready.
        log: where its output goes.
    """

    def __init__(
        self, name: str, module: str, arguments: tuple[str, ...], ready_url: str, log: Path
    ) -> None:
        self.name = name
        self._command = (sys.executable, "-m", module, *arguments)
        self._ready_url = ready_url
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        environment = {"OMP_NUM_THREADS": "1"} | os.environ
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                preexec_fn=_dies_with_its_parent(),
            )

    async def ready(self, session: aiohttp.ClientSession) -> None:
        """Wait until it answers.

        Raises:
            StartFailed: it ended, or took longer than ``START_LIMIT``.
        """
        try:
            async with asyncio.timeout(START_LIMIT):
                while not await _answers(session, self._ready_url):
                    if self._process is None or self._process.returncode is not None:
                        raise StartFailed(f"{self.name} ended while it started\n{self._tail()}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise StartFailed(
                f"{self.name} was not ready after {START_LIMIT:g}s\n{self._tail()}"
            ) from None

    async def kill(self) -> None:
        """SIGKILL: no goodbye to anybody."""
        await self._end(signal.SIGKILL)

    async def stop(self, signum: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end; SIGKILL if it takes longer than ``END_LIMIT``. Idempotent."""
        try:
            async with asyncio.timeout(END_LIMIT):
                await self._end(signum)
        except TimeoutError:
            await self.kill()

    async def _end(self, signum: signal.Signals) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signum)
        await process.wait()

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-LOG_TAIL:]


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def _dies_with_its_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

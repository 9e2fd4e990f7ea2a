"""``warmpath demo`` as people run it: what it says, its exit code, and that nothing outlives it."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

PATIENCE = 60.0

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class Run:
    """A demo under way."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.text = ""

    async def read_until(self, words: str) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while words not in self.text:
                piece = await self.process.stdout.read(4096)
                assert piece, f"ended without saying {words!r}:\n{self.text}"
                self.text += piece.decode()

    async def end(self) -> int:
        """Its exit code; afterwards ``text`` is all it said."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            self.text += (await self.process.stdout.read()).decode()
            return await self.process.wait()

    def url(self, label: str) -> str:
        found = re.search(rf"^{label} .*?(http://127\.0\.0\.1:\d+)", self.text, re.MULTILINE)
        assert found
        return found[1]

    def family(self) -> dict[int, int]:
        """Its children and theirs: process id -> start time, which tells a reused id apart."""
        found: dict[int, int] = {}
        processes = list(_processes())
        parents = {self.process.pid}
        while parents:
            children = {pid: start for pid, parent, start in processes if parent in parents}
            parents = children.keys() - found.keys()
            found |= children
        return found


def _processes() -> Iterator[tuple[int, int, int]]:
    """(process id, parent's, start time) of all that run and are not merely unburied."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "stat").read_text()
            except OSError:
                continue  # it ended while we looked
            fields = text.rpartition(")")[2].split()
            if fields[0] != "Z":
                yield int(folder.name), int(fields[1]), int(fields[19])


async def gone(family: dict[int, int]) -> None:
    """Waits until none of them runs."""
    async with asyncio.timeout(PATIENCE):
        while any(family.get(pid) == start for pid, _, start in _processes()):
            await asyncio.sleep(0.05)


@asynccontextmanager
async def demo(*arguments: str) -> AsyncIterator[Run]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "router.cli.main", "demo", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        start_new_session=True,
        # A shell starts its background jobs with SIGINT ignored, and who runs us may be one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield Run(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def claims(text: str) -> tuple[list[str], list[str]]:
    """Those that held and those that did not."""
    return re.findall(r"✓ (.+)", text), re.findall(r"✗ (.+)", text)


@linux
async def test_the_story_holds_with_emulated_engines() -> None:
    async with demo("--once", "--emulated") as run:
        await run.read_until("Conversations")
        family = run.family()
        code = await run.end()
        held, broken = claims(run.text)
        assert broken == []
        assert code == 0
        for words in (
            "were cached",
            "no request failed",
            "go on elsewhere",
            "healthy again",
            "nothing new went there",
            "new conversations",
            "nothing is in flight",
        ):
            assert any(words in claim for claim in held), words
        await gone(family)


@pytest.mark.slow
async def test_the_story_holds_with_real_engines() -> None:
    async with demo("--once", "--engines", "2") as run:
        code = await run.end()
        assert claims(run.text)[1] == []
        assert code == 0, run.text


@linux
async def test_it_stays_up_until_interrupted() -> None:
    async with demo("--emulated") as run:
        await run.read_until("Ctrl-C ends everything")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{run.url('page')}/ui/") as answer:
                assert answer.status == 200
            async with session.get(f"{run.url('router')}/v1/models") as answer:
                models = [model["id"] for model in (await answer.json())["data"]]
        assert models == ["warmpath-demo"]
        family = run.family()
        assert len(family) == 4  # two engines, control and a worker
        run.process.send_signal(signal.SIGINT)
        assert await run.end() == 0
        await gone(family)


@linux
async def test_nothing_outlives_a_demo_that_is_killed() -> None:
    async with demo("--emulated") as run:
        await run.read_until("Conversations")
        family = run.family()
        assert len(family) == 4
        run.process.kill()
        await gone(family)


@linux
async def test_a_router_that_cannot_start_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with demo("--once", "--emulated", "--port", port) as run:
            assert await run.end() == 1
            assert "router ended while it started" in run.text
            assert f"cannot listen on 127.0.0.1:{port}" in run.text


async def test_one_engine_is_too_few() -> None:
    async with demo("--engines", "1") as run:
        assert await run.end() == 2
        assert "--engines" in run.text

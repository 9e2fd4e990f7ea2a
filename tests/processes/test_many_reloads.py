"""Reloads by the thousand while streams flow: nothing fails, nothing grows.

WARMPATH_TEST_RELOADS sets how many.
"""

import asyncio
import os
from collections import Counter
from pathlib import Path

import pytest

from engine.emulator.profiles import Timing
from tests.processes.router_process import RouterProcess, configuration, emulator, serving

RELOADS = int(os.environ.get("WARMPATH_TEST_RELOADS", "2000"))
SETTLED = 200  # by then caches are full and buffers have their size
GROWTH = 8.0
"""Megabytes of a process, for what no allocator gives back."""


def resident(pid: int) -> float:
    """Megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def tasks(router: RouterProcess) -> int:
    """Of control; workers have none for what they serve."""
    return int((await router.get("/server_info"))["tasks"])


@pytest.mark.slow
@pytest.mark.timeout(120 + RELOADS // 4)
async def test_reloads_under_load(tmp_path: Path) -> None:
    timing = Timing(decode_step=0.01)
    async with emulator("a", timing) as a, emulator("b", timing) as b:
        one = configuration(a.address, b.address, workers=2)
        other = one.replace("{type: round_robin}", "{type: least_request}")
        async with serving(tmp_path, one) as router:
            ended: Counter[tuple[int, bool]] = Counter()
            over = asyncio.Event()

            async def client() -> None:
                while not over.is_set():
                    async with router.chat(5, stream=True) as answer:
                        whole = (await answer.read()).rstrip().endswith(b"[DONE]")
                        ended[answer.status, whole] += 1

            clients = [asyncio.create_task(client()) for _ in range(4)]
            processes = [router.process.pid, *children(router.process.pid)]
            before: list[tuple[float, int]] = []
            for number in range(RELOADS):
                (tmp_path / "warmpath.yaml").write_text(other if number % 2 else one)
                status, answer = await router.ask("POST", "/reload", {})
                assert status == 200, answer
                if number == SETTLED:
                    before = [(resident(pid), descriptors(pid)) for pid in processes]
                    tasks_before = await tasks(router)
            over.set()
            await asyncio.gather(*clients)
            assert set(ended) == {(200, True)}
            assert ended.total() > 100
            for pid, (megabytes, files) in zip(processes, before, strict=True):
                print(f"{pid}: {megabytes:.1f} -> {resident(pid):.1f} MB, {descriptors(pid)} files")
                assert resident(pid) < megabytes + GROWTH
                assert descriptors(pid) < files + 12
            assert await tasks(router) <= tasks_before + 4
            assert (await router.get("/config_dump"))["generation"] == RELOADS + 1
            assert await router.in_flight() == 0

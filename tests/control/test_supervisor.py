"""Workers that crash, hang or refuse, as the supervisor sees them."""

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager

import pytest

from router.config.build import from_backends
from router.config.schema import encode
from router.control import supervisor as supervisor_module
from router.control.board import Board, WorkerColumn, create_file
from router.control.mesh import Mesh
from router.control.messages import SnapshotUpdate
from router.control.sockets import ReservedAddress
from router.control.supervisor import WORKER_MODULE, StartFailed, Supervisor
from router.control.worker_process import WorkerProcess

ROWS, WORDS = 16, 64
GOOD = SnapshotUpdate(
    generation=1,
    config=encode(from_backends(["http://127.0.0.1:9"])),
    slots={"default": 0, "default!pending": 2, "default/127.0.0.1:9": 1},
)


@asynccontextmanager
async def supervised(count: int = 1, module: str = WORKER_MODULE):
    fd = create_file(ROWS, count, WORDS)
    board = Board(fd, ROWS, count, WORDS)
    mesh = Mesh(count)
    address = ReservedAddress("127.0.0.1", 0)
    supervisor = Supervisor(
        count,
        board,
        fd,
        mesh,
        [address],
        access_lines=lambda lines: None,
        host_states=lambda: (),
        suspected=lambda id_, detector: None,
        pushed_back=lambda id_, until: None,
        tips_seen=lambda tips: None,
        greet=lambda worker: None,
        report_interval=0.05,
        module=module,
    )
    try:
        yield supervisor, board
    finally:
        await supervisor.abort("the test is over")
        board.close()
        mesh.close()
        os.close(fd)
        address.close()


async def until(condition, limit=20.0):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


async def test_workers_that_keep_dying_fail_the_start(monkeypatch, root):
    monkeypatch.setattr(supervisor_module, "PAUSES", (0.0,))
    monkeypatch.setenv("PYTHONPATH", str(root))
    async with supervised(module="tests.control.quitter") as (supervisor, _):
        with pytest.raises(StartFailed, match="keep dying"):
            await supervisor.start(GOOD)
        assert supervisor.restarts == supervisor_module.GIVE_UP
        assert supervisor.ready == 0


async def test_a_snapshot_that_no_worker_takes_fails_the_start():
    async with supervised() as (supervisor, _):
        bad = SnapshotUpdate(generation=1, config=b"\xc1", slots={})
        with pytest.raises(StartFailed, match="DecodeError"):
            await supervisor.start(bad)


async def test_a_refused_generation_leaves_the_last_good_one_serving():
    async with supervised(2) as (supervisor, _):
        await supervisor.start(GOOD)
        assert (supervisor.serving, supervisor.ready) == (2, 2)
        supervisor.set_snapshot(SnapshotUpdate(generation=2, config=b"\xc1", slots={}))
        refused = await supervisor.settled(10)
        assert len(refused) == 2
        assert (supervisor.serving, supervisor.ready) == (0, 2)
        supervisor.set_snapshot(SnapshotUpdate(generation=3, config=GOOD.config, slots=GOOD.slots))
        assert await supervisor.settled(10) == []
        assert supervisor.serving == 2


async def test_a_stuck_worker_is_killed_and_replaced(monkeypatch):
    async with supervised() as (supervisor, _):
        await supervisor.start(GOOD)
        pid = supervisor.workers[0].pid
        os.kill(pid, signal.SIGSTOP)
        # A worker that starts may be silent for longer, on a busy machine.
        with monkeypatch.context() as patch:
            patch.setattr(supervisor_module, "SILENCE", 1.0)
            await until(lambda: supervisor.restarts == 1)
        await until(lambda: supervisor.serving == 1)
        assert supervisor.workers[0].pid != pid


async def test_the_column_of_the_dead_is_cleared_and_only_that():
    async with supervised(2) as (supervisor, board):
        await supervisor.start(GOOD)
        # As if both had requests under way.
        WorkerColumn(board, 0).publish(1, 5)
        WorkerColumn(board, 1).publish(1, 3)
        os.kill(supervisor.workers[0].pid, signal.SIGKILL)
        await until(lambda: supervisor.restarts == 1)
        assert board.by_worker(1) == [0, 3]


async def test_a_machine_out_of_processes_is_tried_again(monkeypatch):
    monkeypatch.setattr(supervisor_module, "SPAWN_RETRY", 0.05)
    spawn, failures = WorkerProcess.spawn, [0]

    async def failing(self, *arguments):
        failures[0] += 1
        if failures[0] <= 2:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        await spawn(self, *arguments)

    monkeypatch.setattr(WorkerProcess, "spawn", failing)
    async with supervised() as (supervisor, _):
        await supervisor.start(GOOD)
        assert failures[0] == 3
        assert supervisor.restarts == 0

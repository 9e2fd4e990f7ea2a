"""Keeps the worker processes running, tells them what changed, adds up what they counted.

A worker that dies is replaced at once, after its column on the board was cleared; only one that
dies again within seconds is given a growing pause. Its counts are kept, so that metrics do not go
back. A worker that was silent for long although it lives is stuck, and is killed.

Host states are coalesced: changes within a few milliseconds travel as one message.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from router.control.board import Board
from router.control.journal import Tell, nobody
from router.control.mesh import Mesh
from router.control.messages import (
    AbortAll,
    Announce,
    Cancel,
    CancelReply,
    Drain,
    ForecastQuery,
    ForecastReply,
    HostStates,
    HostUpdate,
    KeySets,
    Message,
    Models,
    RequestsQuery,
    RequestsReply,
    SnapshotUpdate,
)
from router.control.sockets import ReservedAddress, WorkerSockets
from router.control.worker_process import WorkerProcess
from router.core.engine_cache.news import TipSeen
from router.core.forecast.seen import ForecastSeen
from router.core.model import LlmRequest
from router.telemetry.logs import logger
from router.telemetry.totals import Totals

WORKER_MODULE = "router.proxy.worker"
FAST_CRASH = 2.0
"""Seconds; a worker that lived longer is restarted without a pause."""
PAUSES = (0.0, 0.0, 0.0, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before the next start, by the number of fast crashes in a row."""
SILENCE = 30.0
"""Seconds without a word from a living worker before it is taken for stuck."""
SPAWN_RETRY = 1.0
COALESCE = 0.01
GIVE_UP = 5
"""Fast crashes in a row, before any worker ever served, that end the start."""


class StartFailed(RuntimeError):
    """The workers die before they serve."""


class Supervisor:
    """Starts, feeds and replaces workers.

    Args:
        count: how many, at least 1.
        board, board_fd: the shared board and its file.
        mesh: on which workers tell each other of prompts.
        addresses: what the workers listen on.
        access_lines: takes access log lines of all workers.
        host_states: everything known of the endpoints, for a worker that starts.
        suspected: told the endpoint and the detector whose threshold its failures in a row met.
        pushed_back: told the endpoint and until when it wants no new request, monotonic seconds.
        tips_seen: told which blocks prompts have, as answers say.
        greet: told of each worker that starts, when it has been told all else.
        tell: told of workers that start and end.
        report_interval: seconds between two reports of a worker.
        module: what ``python -m`` runs as a worker.
    """

    def __init__(
        self,
        count: int,
        board: Board,
        board_fd: int,
        mesh: Mesh,
        addresses: Sequence[ReservedAddress],
        *,
        access_lines: Callable[[bytes], None],
        host_states: Callable[[], tuple[HostUpdate, ...]],
        suspected: Callable[[str, str], None],
        pushed_back: Callable[[str, float], None],
        tips_seen: Callable[[tuple[TipSeen, ...]], None],
        greet: Callable[[WorkerProcess], None],
        tell: Tell = nobody,
        report_interval: float = 0.5,
        module: str = WORKER_MODULE,
    ) -> None:
        self.count = count
        self.workers: dict[int, WorkerProcess] = {}
        self.restarts = 0
        self.departed = Totals()
        self._board = board
        self._board_fd = board_fd
        self._mesh = mesh
        self._sockets = WorkerSockets(addresses, count)
        self._access_lines = access_lines
        self._host_states = host_states
        self._suspected = suspected
        self._pushed_back = pushed_back
        self._tips_seen = tips_seen
        self._greet = greet
        self._tell = tell
        self._report_interval = report_interval
        self._module = module
        self._snapshot: SnapshotUpdate | None = None
        self._models: Models | None = None
        self._key_sets: KeySets | None = None
        self._pending: dict[str, HostUpdate] = {}
        self._flush: asyncio.TimerHandle | None = None
        self._crashes = [0] * count
        self.restarts_of = [0] * count
        self._keepers: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._announced = False
        self._progress = asyncio.Event()
        self._ever_served = False
        self.settled_version = (0, 0)
        self._log = logger("supervisor")

    # --- life -----------------------------------------------------------------------------

    async def start(self, snapshot: SnapshotUpdate, timeout: float = 60.0) -> None:
        """Start all workers and wait until each serves the snapshot.

        Raises:
            StartFailed: if they keep dying or refuse the snapshot.
        """
        self._snapshot = snapshot
        self._keepers = [asyncio.create_task(self._keep(n)) for n in range(self.count)]
        for keeper in self._keepers:
            keeper.add_done_callback(self._keeper_ended)
        try:
            refused = await self.settled(timeout)
        except TimeoutError:
            raise StartFailed("the workers did not start in time") from None
        if refused or self.serving < self.count:
            raise StartFailed(
                refused[0] if refused else f"the workers keep dying, see above: {self._crashes}"
            )
        self._ever_served = True

    async def _keep(self, column: int) -> None:
        """Run one worker after the other in a column, until told to stop."""
        loop = asyncio.get_running_loop()
        while True:
            worker = WorkerProcess(
                column,
                loop.time(),
                self._access_lines,
                self._acked,
                self._suspected,
                self._pushed_back,
                self._tips_seen,
            )
            try:
                await self._spawn(worker)
            except OSError as error:  # no processes, descriptors or memory left; it may pass
                self._log.error("cannot start a worker", worker=column, error=str(error))
                if await self._told_to_stop(SPAWN_RETRY):
                    return
                continue
            if self._stop.is_set():  # while it was being started
                worker.kill()
            self.workers[column] = worker
            self._introduce(worker)
            self._tell("worker", worker=column, pid=worker.pid, state="started")
            status = await self._watch(worker)
            worker.channel.close()
            self._bury(worker, status)
            if self._stop.is_set():
                return
            self.restarts += 1
            self.restarts_of[column] += 1
            fast = loop.time() - worker.started_at < FAST_CRASH
            self._crashes[column] = self._crashes[column] + 1 if fast else 0
            if not self._ever_served and self._crashes[column] >= GIVE_UP:
                return
            pause = PAUSES[min(self._crashes[column], len(PAUSES) - 1)]
            if pause:
                self._sockets.let_go()
            if await self._told_to_stop(pause):
                return

    async def _told_to_stop(self, pause: float) -> bool:
        """Wait for so many seconds, or until told to stop."""
        try:
            await asyncio.wait_for(self._stop.wait(), pause)
        except TimeoutError:
            return False
        return True

    def _keeper_ended(self, keeper: "asyncio.Task[None]") -> None:
        self._progress.set()
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            self._log.error("a worker is given up", error=repr(error))

    async def _spawn(self, worker: WorkerProcess) -> None:
        seat = self._mesh.seat(worker.column)
        with self._sockets.lent() as sockets:
            await worker.spawn(
                self._module, self._board, self._board_fd, sockets, seat, self._report_interval
            )

    async def _watch(self, worker: WorkerProcess) -> int:
        loop = asyncio.get_running_loop()
        exit_ = asyncio.ensure_future(worker.wait())
        while True:
            done, _ = await asyncio.wait([exit_], timeout=SILENCE / 4)
            if done:
                await worker.heard_out()
                return exit_.result()
            if loop.time() - worker.heard_at > SILENCE or not worker.channel.open:
                self._log.error("worker is stuck, killing it", worker=worker.column, pid=worker.pid)
                self._tell("worker", worker=worker.column, pid=worker.pid, state="stuck")
                worker.kill()

    def _bury(self, worker: WorkerProcess, status: int) -> None:
        """Keep what the worker counted, and free what it held."""
        del self.workers[worker.column]
        self._board.clear_column(worker.column)
        self._mesh.leave(worker.column)
        self.departed.add(worker.totals, gauges=False)
        if not self._stop.is_set():
            self._tell("worker", worker=worker.column, pid=worker.pid, state="died", status=status)
            self._log.warning(
                "worker died, starting another", worker=worker.column, pid=worker.pid, status=status
            )
        self._progress.set()

    def _introduce(self, worker: WorkerProcess) -> None:
        assert self._snapshot is not None
        worker.send(self._snapshot)
        worker.send(HostStates(hosts=self._host_states()))
        if self._models is not None:
            worker.send(self._models)
        if self._key_sets is not None:
            worker.send(self._key_sets)
        if self._announced:
            worker.send(Announce())
        self._greet(worker)

    async def stop(self, timeout: float) -> None:
        """Drain all workers and wait for their end; kills those that overstay.

        Args:
            timeout: seconds that exchanges under way may take.
        """
        self._stop.set()
        self._sockets.let_go()
        self.broadcast(Drain(timeout=timeout))
        await self._gone(timeout + 5.0)

    async def abort(self, reason: str) -> None:
        """End all exchanges with an error, and the workers."""
        self._stop.set()
        self._sockets.let_go()
        self.broadcast(AbortAll(reason=reason))
        await self._gone(3.0)

    async def _gone(self, timeout: float) -> None:
        try:
            await asyncio.wait_for(
                asyncio.shield(asyncio.gather(*self._keepers, return_exceptions=True)), timeout
            )
        except TimeoutError:
            for worker in list(self.workers.values()):
                self._log.error("worker does not end, killing it", pid=worker.pid)
                worker.kill()
            await asyncio.gather(*self._keepers, return_exceptions=True)

    # --- telling -------------------------------------------------------------------------

    def broadcast(self, message: Message) -> None:
        for worker in self.workers.values():
            worker.send(message)

    def set_snapshot(self, snapshot: SnapshotUpdate) -> None:
        """Hand out a new generation or revision; see :meth:`settled`."""
        self.flush()  # who may serve now has to be known before the others are gone
        self._snapshot = snapshot
        for worker in self.workers.values():
            worker.refused = None
        self.broadcast(snapshot)
        self.broadcast(HostStates(hosts=self._host_states()))

    def set_models(self, models: Models) -> None:
        if self._models != models:
            self._models = models
            self.broadcast(models)

    def set_key_sets(self, key_sets: KeySets) -> None:
        if self._key_sets != key_sets:
            self._key_sets = key_sets
            self.broadcast(key_sets)

    def announce(self, on: bool) -> None:
        """Tell the workers whether the router is about to go."""
        self._announced = on
        self.broadcast(Announce(on=on))

    def hosts_changed(self, updates: tuple[HostUpdate, ...]) -> None:
        """Queue changes of endpoints' states; they leave within 10 ms."""
        self._pending.update((update.id, update) for update in updates)
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(COALESCE, self.flush)

    def flush(self) -> None:
        """Send queued host states now."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        if self._pending:
            self.broadcast(HostStates(hosts=tuple(self._pending.values())))
            self._pending = {}

    def _acked(self, worker: WorkerProcess) -> None:
        if worker.refused is not None:
            self._log.error("worker refused a snapshot", pid=worker.pid, error=worker.refused)
        self._progress.set()

    # --- asking --------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether no worker runs or will run."""
        return all(keeper.done() for keeper in self._keepers)

    @property
    def version(self) -> tuple[int, int]:
        """Generation and revision of the newest snapshot."""
        snapshot = self._snapshot
        return (0, 0) if snapshot is None else (snapshot.generation, snapshot.revision)

    @property
    def serving(self) -> int:
        """Workers that serve the newest snapshot."""
        version = self.version
        return sum(1 for w in self.workers.values() if w.alive and w.acked == version)

    @property
    def ready(self) -> int:
        """Workers that serve the last snapshot that all of them had taken, or a newer one.

        A reload under way makes none of them unready.
        """
        least = max(self.settled_version, (1, 0))
        return sum(1 for w in self.workers.values() if w.alive and w.acked >= least)

    async def settled(self, timeout: float) -> list[str]:
        """Wait until every worker serves the newest snapshot or refused it.

        Returns:
            the reasons of those that refused.

        Raises:
            TimeoutError: some worker did neither.
        """
        async with asyncio.timeout(timeout):
            while True:
                self._progress.clear()
                refused = [w.refused for w in self.workers.values() if w.refused is not None]
                if self.serving + len(refused) >= self.count:
                    if not refused:
                        self.settled_version = self.version
                    return refused
                if any(keeper.done() for keeper in self._keepers):
                    return refused  # a worker was given up, see GIVE_UP
                await self._progress.wait()

    def reports(self) -> list[Totals]:
        """What each living worker reported last."""
        return [worker.totals for worker in self.workers.values()]

    def totals(self) -> Totals:
        """Counts of all workers, also of those that are gone; gauges of the living."""
        totals = Totals()
        totals.add(self.departed)
        for worker in self.workers.values():
            totals.add(worker.totals)
        return totals

    async def requests(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """The exchanges under way in all workers, each with its ``worker``; silent ones skipped.

        Args:
            endpoint: only those whose attempt is under way there.
        """
        workers = list(self.workers.values())
        replies = await asyncio.gather(
            *(
                worker.ask(lambda number: RequestsQuery(query=number, endpoint=endpoint))
                for worker in workers
            ),
            return_exceptions=True,
        )
        found: list[dict[str, Any]] = []
        for worker, reply in zip(workers, replies, strict=True):
            if isinstance(reply, RequestsReply):
                found += [{"worker": worker.column, **request} for request in reply.requests]
        return found

    async def forecasts(
        self, clusters: tuple[str, ...], asked: LlmRequest
    ) -> dict[str, ForecastSeen] | None:
        """What a worker's forecasts say of a request, by cluster; None if no worker answers."""
        for worker in list(self.workers.values()):
            try:
                reply = await worker.ask(
                    lambda number: ForecastQuery(
                        query=number,
                        clusters=clusters,
                        checkpoints=asked.checkpoints,
                        prompt_bytes=asked.prompt_bytes,
                        conversation=asked.prefix_hash or 0,
                    )
                )
            except TimeoutError:
                continue
            if isinstance(reply, ForecastReply):
                return reply.clusters
        return None

    async def cancel(self, column: int, serial: int) -> bool:
        """End one exchange with an error; False if it is not there (any more)."""
        worker = self.workers.get(column)
        if worker is None:
            return False
        try:
            reply = await worker.ask(lambda number: Cancel(serial=serial, query=number))
        except TimeoutError:
            return False
        return isinstance(reply, CancelReply) and reply.found

    def __repr__(self) -> str:
        return f"<Supervisor {self.serving}/{self.count} serving, restarts={self.restarts}>"

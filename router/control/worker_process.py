"""One worker process as control sees it: its channel, what it acknowledged, what it counted."""

import asyncio
import itertools
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from router.control.board import Board
from router.control.channel import Channel
from router.control.mesh import Seat
from router.control.messages import (
    AccessLines,
    Ack,
    CancelReply,
    ForecastReply,
    Message,
    PushedBack,
    RequestsReply,
    StatsReport,
    Suspected,
    TipsSeen,
    decode_to_control,
)
from router.core.engine_cache.news import TipSeen
from router.telemetry.totals import Totals
from router.telemetry.version import VERSION

QUERY_TIMEOUT = 2.0


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process is told on its command line.

    ``board``, ``channel``, ``listen`` and what ``seat`` has are inherited file descriptors;
    ``report_interval`` is in seconds. ``version``: control's; what the two tell each other and
    share on the board changes with it.
    """

    version: str
    column: int
    columns: int
    rows: int
    words: int
    board: int
    channel: int
    listen: tuple[int, ...]
    seat: Seat
    report_interval: float = 0.5


class WorkerProcess:
    """A running worker.

    Attributes:
        acked: the generation and revision it serves, (0, 0) before the first.
        refused: why it did not take a generation, None if it did.
        heard_at: loop time of its last message.
    """

    def __init__(
        self,
        column: int,
        started_at: float,
        access_lines: Callable[[bytes], None],
        acked: Callable[["WorkerProcess"], None],
        suspected: Callable[[str, str], None],
        pushed_back: Callable[[str, float], None],
        tips_seen: Callable[[tuple[TipSeen, ...]], None],
    ) -> None:
        self.column = column
        self.started_at = started_at
        self.heard_at = started_at
        self.acked = (0, 0)
        self.refused: str | None = None
        self.totals = Totals()
        self._access_lines = access_lines
        self._on_ack = acked
        self._suspected = suspected
        self._pushed_back = pushed_back
        self._tips_seen = tips_seen
        self._queries: dict[int, asyncio.Future[Any]] = {}
        self._serials = itertools.count(1)
        self._gone = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.process: asyncio.subprocess.Process | None = None
        self.channel = Channel(decode_to_control, self._received, self._lost)

    async def spawn(
        self,
        module: str,
        board: Board,
        board_fd: int,
        listeners: Sequence[socket.socket],
        seat: Seat,
        report_interval: float,
    ) -> None:
        """Start ``python -m module`` with its descriptors.

        Raises:
            OSError: if there are no processes or descriptors left.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        options = WorkerOptions(
            version=VERSION,
            column=self.column,
            columns=board.columns,
            rows=board.rows,
            words=board.words,
            board=board_fd,
            channel=theirs.fileno(),
            listen=tuple(sock.fileno() for sock in listeners),
            seat=seat,
            report_interval=report_interval,
        )
        try:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # whatever lies in the working directory is not ours to import
                "-m",
                module,
                msgspec.json.encode(options).decode(),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(board_fd, theirs.fileno(), *options.listen, *seat.descriptors),
                start_new_session=True,
                env=worker_environment(),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        await self._loop.create_connection(lambda: self.channel, sock=ours)

    @property
    def pid(self) -> int:
        return 0 if self.process is None else self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def send(self, message: Message) -> None:
        self.channel.send(message)

    def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            try:
                self.process.kill()
            except ProcessLookupError:
                return

    async def wait(self) -> int:
        """Wait for the process to end; returns its exit status, negative for a signal."""
        assert self.process is not None
        return await self.process.wait()

    async def heard_out(self, timeout: float = 1.0) -> None:
        """Wait until all that a worker which has ended had sent is read."""
        try:
            await asyncio.wait_for(self._gone.wait(), timeout)
        except TimeoutError:
            self.channel.abort()

    async def ask(self, question: Callable[[int], Message]) -> Any:
        """Send a query and wait for its reply.

        Args:
            question: makes the message from the number that its reply must carry.

        Raises:
            TimeoutError: no reply within two seconds, or the worker died.
        """
        number = next(self._serials)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queries[number] = future
        try:
            self.send(question(number))
            return await asyncio.wait_for(future, QUERY_TIMEOUT)
        finally:
            self._queries.pop(number, None)

    def _received(self, message: Any) -> None:
        self.heard_at = self._loop.time()
        match message:
            case StatsReport():
                self.totals = message.totals
            case AccessLines():
                self._access_lines(message.data)
            case Suspected(id=id_, detector=detector):
                self._suspected(id_, detector)
            case PushedBack(id=id_, until=until):
                self._pushed_back(id_, until)
            case TipsSeen(tips=tips):
                self._tips_seen(tips)
            case Ack(generation=generation, revision=revision, error=error):
                if error is None:
                    # The first comes late, when the listeners are open; a newer may have passed it.
                    self.acked = max(self.acked, (generation, revision))
                self.refused = error
                self._on_ack(self)
            case RequestsReply(query=query) | CancelReply(query=query) | ForecastReply(query=query):
                future = self._queries.get(query)
                if future is not None and not future.done():
                    future.set_result(message)

    def _lost(self) -> None:
        self._gone.set()
        for future in self._queries.values():
            if not future.done():
                future.set_exception(TimeoutError("the worker is gone"))

    def __repr__(self) -> str:
        state = "alive" if self.alive else "dead"
        return f"<WorkerProcess {self.column} pid={self.pid} {state} acked={self.acked}>"


def worker_environment() -> dict[str, str]:
    """The environment of a worker: ours, less what only control may know.

    Secrets reach workers inside the snapshot where a worker needs them, so that a crash dump or
    ``/proc`` of a worker shows no other.
    """
    return {k: v for k, v in os.environ.items() if not k.startswith("WARMPATH_")}

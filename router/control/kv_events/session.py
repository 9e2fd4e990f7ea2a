"""One connection to an engine that publishes KV events, from the handshake to its end.

ZeroMQ would connect again by itself, and hide that the engine at the other end is another one. So
each connection is made once, and whoever called connects again and finds out where it is.

What comes is read a few batches at a time, so that control's other work has its turn.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import zmq
from xxhash import xxh3_64_intdigest
from zmq.utils.monitor import parse_monitor_message

from router.control.kv_events.source import NoSource, Source
from router.control.kv_events.wire import Batch, Unreadable, read
from router.core.engine_cache.view import Ask, EngineView

HANDSHAKE: Final = 5.0
"""Seconds in which an engine must be reached."""
PATIENCE: Final = 10.0
"""Seconds in which the next batch must come of those that were asked for."""
HEARTBEAT_MS: Final = 5000
DEAD_MS: Final = 15_000
"""Without a sign of life for so long an engine is gone, whatever the network says."""
WAITING: Final = 512
"""Batches that may wait to be read; the engine leaves out more, which shows as a gap."""
LARGEST: Final = 16 << 20
"""Bytes of a batch. One of 64k tokens in blocks of 16 has 400 kB."""
TURN: Final = 0.005
"""Seconds for which batches are read before everything else has its turn. One takes 2 ms where 8k
tokens were computed and as many evicted, and 0.05 ms while answers are generated."""

_OVER: Final = b"\xff" * 8
_EVENTS: Final = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_CLOSED
)


class Session:
    """Use once: ``run`` does not return, and raises when the connection is over.

    Args:
        context: plain, shared by all sessions.
        view: fed with what comes.
        changed: called when there may be news of the view.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        source: Source,
        view: EngineView,
        changed: Callable[[], None],
    ) -> None:
        self._context = context
        self._source = source
        self._view = view
        self._changed = changed
        self._rank: int | None = None

    async def run(self) -> None:
        """Raises NoSource when it cannot begin or go on."""
        with contextlib.ExitStack() as stack:
            self._open(stack)
            await self._meet()
            self._view.connected(replays=self._replay is not None)
            if self._replay is not None:
                await self._catch_up(self._replay)
            self._view.caught_up()
            self._changed()
            while True:
                await self._wait_for(self._sub)
                for number, batch, mark in self._burst():
                    await self._take(number, batch, mark)
                self._changed()
                await asyncio.sleep(0)

    # --- sockets --------------------------------------------------------------------------------

    def _open(self, stack: contextlib.ExitStack) -> None:
        source = self._source
        self._sub = self._socket(stack, zmq.SUB)
        self._sub.subscribe(source.topic)
        self._signs = self._sub.get_monitor_socket(_EVENTS)
        stack.callback(self._signs.close, 0)
        stack.callback(self._sub.disable_monitor)
        self._replay: zmq.Socket[bytes] | None = None
        try:
            self._sub.connect(source.subscribe)
            if source.replay is not None:
                self._replay = self._socket(stack, zmq.DEALER)
                self._replay.connect(source.replay)
        except zmq.ZMQError as error:
            raise NoSource(f"{source.subscribe}: {error.strerror}") from None

    def _socket(self, stack: contextlib.ExitStack, kind: int) -> "zmq.Socket[bytes]":
        sock = self._context.socket(kind)
        stack.callback(sock.close, 0)
        sock.setsockopt(zmq.RECONNECT_IVL, -1)
        sock.setsockopt(zmq.CONNECT_TIMEOUT, int(HANDSHAKE * 1000))
        sock.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, DEAD_MS)
        sock.setsockopt(zmq.MAXMSGSIZE, LARGEST)
        sock.setsockopt(zmq.RCVHWM, WAITING)
        sock.setsockopt(zmq.IPV6, 1)
        return sock

    async def _meet(self) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE):
                while True:
                    await _readable(self._signs)
                    for event in self._heard():
                        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                            return
                        raise NoSource(f"{self._source.subscribe} cannot be reached")
        except TimeoutError:
            raise NoSource(f"{self._source.subscribe}: no answer within {HANDSHAKE:g}s") from None

    def _heard(self) -> Iterator[int]:
        """What the connection says of itself."""
        with contextlib.suppress(zmq.Again):
            while True:
                message = self._signs.recv_multipart(zmq.NOBLOCK)
                yield int(parse_monitor_message(message)["event"])

    async def _wait_for(self, sock: "zmq.Socket[bytes]", patience: float | None = None) -> None:
        """Until there is something to read. Raises NoSource when the connection is over."""
        try:
            async with asyncio.timeout(patience):
                await _readable(sock, self._signs)
        except TimeoutError:
            raise NoSource(f"{self._source.replay}: no answer within {patience:g}s") from None
        if not int(sock.get(zmq.EVENTS)) & zmq.POLLIN and any(True for _ in self._heard()):
            raise NoSource(f"{self._source.subscribe}: the connection was lost")

    # --- batches --------------------------------------------------------------------------------

    def _burst(self) -> Iterator[tuple[int, Batch, int]]:
        """Some of what has come: number, content and mark of each batch."""
        loop = asyncio.get_running_loop()
        until = loop.time() + TURN
        with contextlib.suppress(zmq.Again):
            while loop.time() < until:
                frames = self._sub.recv_multipart(zmq.NOBLOCK)
                yield self._read(frames)

    def _read(self, frames: list[bytes]) -> tuple[int, Batch, int]:
        if len(frames) < 2 or len(frames[-2]) != 8:
            raise NoSource("what it publishes are no KV events: no number of 8 bytes")
        payload = frames[-1]
        try:
            batch = read(payload)
        except Unreadable as error:
            raise NoSource(f"what it publishes are no KV events: {error}") from None
        if self._rank not in (None, batch.rank):
            raise NoSource(
                f"it publishes for the data-parallel ranks {self._rank} and {batch.rank} at once: "
                "make each rank an endpoint of its own"
            )
        self._rank = batch.rank
        return int.from_bytes(frames[-2], "big"), batch, xxh3_64_intdigest(payload) | 1

    async def _take(self, number: int, batch: Batch, mark: int) -> None:
        view = self._view
        if view.live(number, mark, batch.apply) is Ask.FOR_MISSED:
            assert self._replay is not None
            self._changed()
            await self._catch_up(self._replay)
            view.settle(number, mark, batch.apply)

    async def _catch_up(self, replay: "zmq.Socket[bytes]") -> None:
        """Ask for what was missed, and heed it; again from the start if the engine is new."""
        while not await self._asked(replay):
            pass

    async def _asked(self, replay: "zmq.Socket[bytes]") -> bool:
        view, same, loop = self._view, True, asyncio.get_running_loop()
        try:
            replay.send_multipart((b"", view.ask().to_bytes(8, "big")), zmq.NOBLOCK)
        except zmq.Again:
            raise NoSource(f"{self._source.replay}: it takes no request") from None
        while True:
            await self._wait_for(replay, PATIENCE)
            until = loop.time() + TURN
            with contextlib.suppress(zmq.Again):
                while loop.time() < until:
                    frames: list[Any] = replay.recv_multipart(zmq.NOBLOCK)
                    if len(frames) >= 2 and frames[-2] == _OVER:
                        return view.replay_over() and same
                    if same:
                        number, batch, mark = self._read(frames)
                        same = view.replayed(number, mark, batch.apply)
            self._changed()
            await asyncio.sleep(0)


async def _readable(*socks: "zmq.Socket[bytes]") -> None:
    """Until one of them has something to read, or might have."""
    loop = asyncio.get_running_loop()
    while not any(int(sock.get(zmq.EVENTS)) & zmq.POLLIN for sock in socks):
        # ZeroMQ's descriptor tells that something has happened, and EVENTS what that was.
        woken = asyncio.Event()
        descriptors = [int(sock.get(zmq.FD)) for sock in socks]
        for descriptor in descriptors:
            loop.add_reader(descriptor, woken.set)
        try:
            await woken.wait()
        finally:
            for descriptor in descriptors:
                loop.remove_reader(descriptor)

"""Publishes batches of KV events over ZeroMQ, in a thread of its own.

`publish` numbers a batch, queues it and returns; it never waits.  The thread encodes it, sends it
to the subscribers and keeps it for replay.  A batch that is lost leaves a gap in the numbers, so
that a subscriber knows that its picture is wrong: it asks the replay socket for what it missed, or
begins anew where that is gone too.

PUB drops silently what a subscriber is too slow for.  So each batch is first sent with the socket
set not to drop; only if that fails, it is sent again to those who still have room, and the loss is
counted: once for each time that a subscriber falls behind, as ZeroMQ leaves it out until it has
caught up and does not tell how much it missed.

A replay goes out in portions as the peer takes it, never more than fits its pipe, with live
batches in between.  A peer that takes nothing for a while is given up.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from engine.kv_events.config import KvEventsConfig, KvEventsError
from engine.kv_events.events import Event
from engine.kv_events.wire import RANK, as_maps
from engine.metrics_catalogue import LOSS_REASONS

if TYPE_CHECKING:
    import zmq

log = logging.getLogger("engine.kv_events")

MAX_REPLAY_BYTES: Final = 64 * 1024 * 1024
"""Bound of the replay buffer in bytes besides that in batches: a batch of 8,192 prompt tokens has
about 40 kB, so `buffer_steps` alone would allow 400 MB."""
MAX_REPLAYS: Final = 8
"""Replays under way at the same time; further requests wait in their socket."""
REPLAY_PATIENCE: Final = 10.0
"""Seconds after which a replay whose peer takes nothing is given up: it keeps batches in memory and
one of the `MAX_REPLAYS` places."""
END_OF_REPLAY: Final = (-1).to_bytes(8, "big", signed=True)
_REPLAY_PAUSE_MS: Final = 5
_LINGER_MS: Final = 100

Encode: TypeAlias = Callable[[float, Sequence[Event]], bytes]
Frames: TypeAlias = tuple[bytes, bytes, bytes]


class Batch(NamedTuple):
    """The events of one step, numbered; `time` in seconds since 1970."""

    number: int
    time: float
    events: Sequence[Event]


class Replay:
    """What one peer has still to get, and since when it has taken nothing (monotonic seconds)."""

    __slots__ = ("frames", "since")

    def __init__(self, frames: deque[Frames], now: float) -> None:
        self.frames = frames
        self.since = now


class Publisher:
    """Bound sockets and a running thread; raises KvEventsError when it cannot have them.

    `publish` is for one thread, `close` and the counters for any.  `published` counts batches,
    `lost` losses by reason, `replays` requests for replay; `endpoint` and `replay_endpoint` are
    what the sockets are bound to.
    """

    def __init__(self, config: KvEventsConfig, encode: Encode = as_maps) -> None:
        self.topic = config.topic
        self._topic = config.topic.encode()
        self.published = 0
        self.lost = dict.fromkeys(LOSS_REASONS, 0)
        self.replays = 0
        self.replay_bytes = 0
        self._encode = encode
        self._most_queued = config.max_queue_size
        self._next = 0
        self._queue: deque[Batch] = deque()
        self._kept: deque[tuple[int, Frames]] = deque()
        self._most_kept = config.buffer_steps
        self._asked: dict[bytes, Replay] = {}
        self._stopping = False
        self._open_sockets(config)
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="kv-events", daemon=True)
        self._thread.start()

    def _open_sockets(self, config: KvEventsConfig) -> None:
        try:
            import zmq
        except ModuleNotFoundError:
            raise KvEventsError(
                "KV events need the package pyzmq, which is not installed: "
                "pip install 'warmpath[kv-events]'"
            ) from None
        self._zmq = zmq
        self._context: zmq.Context[Any] = zmq.Context()
        self._replay: zmq.Socket[Any] | None = None
        try:
            self._pub = self._context.socket(zmq.PUB)
            self._pub.sndhwm = config.hwm
            self._pub.setsockopt(zmq.XPUB_NODROP, 1)
            self.endpoint = self._bind(self._pub, "endpoint", config.endpoint)
            self.replay_endpoint: str | None = None
            if config.replay_endpoint is not None:
                self._replay = self._context.socket(zmq.ROUTER)
                self._replay.setsockopt(zmq.ROUTER_MANDATORY, 1)
                self.replay_endpoint = self._bind(
                    self._replay, "replay_endpoint", config.replay_endpoint
                )
        except KvEventsError:
            self._context.destroy(linger=0)
            raise

    def _bind(self, sock: zmq.Socket[Any], name: str, endpoint: str) -> str:
        sock.linger = _LINGER_MS
        sock.setsockopt(self._zmq.TCP_KEEPALIVE, 1)
        sock.setsockopt(self._zmq.IPV6, "[" in endpoint)
        try:
            sock.bind(endpoint)
        except self._zmq.ZMQError as error:
            reason = self._zmq.strerror(error.errno or 0)
            raise KvEventsError(f"{name}: cannot bind {endpoint}: {reason}") from None
        return sock.getsockopt_string(self._zmq.LAST_ENDPOINT)

    @property
    def queued(self) -> int:
        """Batches not yet sent."""
        return len(self._queue)

    def readings(self) -> dict[str, list[float]]:
        """For the metrics page: values by key of the catalogue's rows."""
        return {
            "kv_event_batches": [float(self.published)],
            "kv_event_batches_lost": [float(count) for count in self.lost.values()],
            "kv_event_replays": [float(self.replays)],
            "kv_event_queue": [float(self.queued)],
            "kv_event_replay_bytes": [float(self.replay_bytes)],
        }

    def sources(self, host: str) -> list[dict[str, Any]]:
        """What `GET /kv_event_sources` answers to a client that reached this machine as `host`."""
        replay = self.replay_endpoint
        return [
            {
                "data_parallel_rank": RANK,
                "endpoint": reachable(self.endpoint, host),
                "replay_endpoint": None if replay is None else reachable(replay, host),
                "topic": self.topic,
            }
        ]

    def publish(self, events: Sequence[Event]) -> None:
        """Queue the events of one step; when the queue is full they are lost and counted.

        Once closed it does nothing.
        """
        if self._stopping:
            return
        number = self._next
        self._next += 1
        if len(self._queue) >= self._most_queued:
            self.lost["queue_full"] += 1
            return
        self._queue.append(Batch(number, time.time(), events))
        self._signal()

    def close(self) -> None:
        """Send what is queued and release the sockets."""
        if self._stopping:
            return
        self._stopping = True
        self._signal()
        self._thread.join(timeout=2.0)
        self._wake.close()

    def _signal(self) -> None:
        # A full pipe has woken the thread long since.
        with contextlib.suppress(BlockingIOError):
            self._wake.send(b"\0")

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        poller = self._zmq.Poller()
        poller.register(self._woken.fileno(), self._zmq.POLLIN)
        while not (self._stopping and not self._queue):
            replaying = len(self._asked)
            if self._replay is not None:
                # Who asks while too many replays are under way waits in the socket.
                wanted = self._zmq.POLLIN if replaying < MAX_REPLAYS else 0
                poller.register(self._replay, wanted)
            ready = dict(poller.poll(_REPLAY_PAUSE_MS if replaying else None))
            if self._woken.fileno() in ready:
                self._woken.recv(4096)
            while self._queue:
                self._send(self._queue.popleft())
            if self._replay is not None:
                if self._replay in ready:
                    self._take_request(self._replay)
                self._continue_replays(self._replay)
        self._woken.close()
        self._context.destroy()

    def _send(self, batch: Batch) -> None:
        try:
            payload = self._encode(batch.time, batch.events)
            frames = (self._topic, batch.number.to_bytes(8, "big"), payload)
            try:
                self._pub.send_multipart(frames, flags=self._zmq.NOBLOCK)
            except self._zmq.Again:
                self.lost["slow_subscriber"] += 1
                self._pub.setsockopt(self._zmq.XPUB_NODROP, 0)
                self._pub.send_multipart(frames)
                self._pub.setsockopt(self._zmq.XPUB_NODROP, 1)
        except Exception:
            self.lost["error"] += 1
            log.exception("the KV events of step %d were not published", batch.number)
            return
        self.published += 1
        if self._replay is not None:
            self._keep(batch.number, frames)

    def _keep(self, number: int, frames: Frames) -> None:
        self._kept.append((number, frames))
        self.replay_bytes += len(frames[2])
        while len(self._kept) > self._most_kept or self.replay_bytes > MAX_REPLAY_BYTES:
            self.replay_bytes -= len(self._kept.popleft()[1][2])

    def _take_request(self, replay: zmq.Socket[Any]) -> None:
        request = replay.recv_multipart()
        if len(request) != 3 or len(request[2]) != 8:
            log.debug("a replay request of %d frames was ignored", len(request))
            return
        client, first = request[0], int.from_bytes(request[2], "big")
        self.replays += 1
        # Asking again replaces what was asked before.
        frames = deque(frames for number, frames in self._kept if number >= first)
        frames.append((b"", END_OF_REPLAY, b""))
        self._asked[client] = Replay(frames, time.monotonic())

    def _continue_replays(self, replay: zmq.Socket[Any]) -> None:
        now = time.monotonic()
        for client, asked in list(self._asked.items()):
            try:
                while asked.frames:
                    frames = asked.frames[0]
                    replay.send_multipart((client, b"", *frames), flags=self._zmq.NOBLOCK)
                    asked.frames.popleft()
                    asked.since = now
            except self._zmq.Again:
                if now - asked.since < REPLAY_PATIENCE:
                    continue
                log.warning("a replay was given up: its peer took nothing for %gs", REPLAY_PATIENCE)
            except self._zmq.ZMQError as error:
                log.debug("a subscriber left during a replay: %s", error.strerror)
            del self._asked[client]

    def __repr__(self) -> str:
        return (
            f"Publisher({self.endpoint}, published={self.published}, queued={self.queued}, "
            f"lost={sum(self.lost.values())})"
        )


def reachable(endpoint: str, host: str) -> str:
    """`endpoint` with `host` in place of a wildcard address."""
    shown = f"[{host}]" if ":" in host else host
    for wildcard in ("tcp://0.0.0.0:", "tcp://[::]:"):
        if endpoint.startswith(wildcard):
            return f"tcp://{shown}:{endpoint.removeprefix(wildcard)}"
    return endpoint

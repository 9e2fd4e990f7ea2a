"""An engine's sockets with a will of their own: it publishes what a test tells it, or does not."""

from __future__ import annotations

import asyncio
import contextlib

import zmq

from engine.kv_events.events import BlockRemoved, BlockStored, Event
from engine.kv_events.wire import as_maps
from router.control.kv_events.source import Source

OVER = (-1).to_bytes(8, "big", signed=True)


def stored(*blocks: int, before: int | None = None) -> BlockStored:
    return BlockStored(list(blocks), before, [1] * (64 * len(blocks)), 64, None, "GPU", None)


def removed(*blocks: int) -> BlockRemoved:
    return BlockRemoved(list(blocks), "GPU")


class Engine:
    """Use as a context manager, on a running loop.

    Args:
        replays: it has a socket for missed batches.
        kept: batches that it can repeat.
        topics: replies begin with a topic, as ours do and older ones of vLLM do not.
    """

    def __init__(
        self, *, replays: bool = True, kept: int = 1000, topics: bool = True, at: str = ""
    ) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._pub = self._context.socket(zmq.PUB)
        self._router = self._context.socket(zmq.ROUTER)
        self._kept = kept
        self._topics = topics
        self.asked: list[int] = []
        self.answers = True
        self.batches: list[tuple[int, bytes]] = []
        self._pub.bind(at or "tcp://127.0.0.1:0")
        self._router.bind("tcp://127.0.0.1:0")
        subscribe = self._pub.getsockopt_string(zmq.LAST_ENDPOINT)
        replay = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        self.source = Source(subscribe, replay if replays else None, b"")
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Engine:
        self._task = asyncio.create_task(self._repeat())
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        self._context.destroy(linger=0)

    def publish(self, *events: Event, heard: bool = True, raw: bytes | None = None) -> None:
        """The next batch; ``heard`` False: it gets lost on the way."""
        number = self.batches[-1][0] + 1 if self.batches else 0
        payload = as_maps(float(number), events) if raw is None else raw
        self.batches.append((number, payload))
        if heard:
            self._pub.send_multipart((b"", number.to_bytes(8, "big"), payload))

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(0.002)
            if not self.answers:
                continue
            with contextlib.suppress(zmq.Again):
                peer, empty, first = self._router.recv_multipart(zmq.NOBLOCK)
                self.asked.append(int.from_bytes(first, "big"))
                for number, payload in self.batches[-self._kept :]:
                    if number >= self.asked[-1]:
                        topic = (b"topic",) if self._topics else ()
                        frames = (peer, empty, *topic, number.to_bytes(8, "big"), payload)
                        self._router.send_multipart(frames)
                self._router.send_multipart((peer, empty, b"", OVER, b""))

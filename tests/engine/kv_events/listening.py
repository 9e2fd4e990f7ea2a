"""Plain ZeroMQ sockets that listen to a publisher."""

from __future__ import annotations

from typing import Any

import zmq

from engine.kv_events import Publisher
from engine.kv_events.events import AllBlocksCleared

ANY_PORT = "tcp://127.0.0.1:0"
PATIENCE_MS = 10_000


class Peers:
    """Sockets of one test."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []
        self.first = 0

    def open(self, kind: int, endpoint: str, **options: Any) -> zmq.Socket[bytes]:
        sock = self._context.socket(kind)
        self._sockets.append(sock)
        sock.linger = 0
        sock.rcvtimeo = sock.sndtimeo = PATIENCE_MS
        for name, value in options.items():
            setattr(sock, name, value)
        sock.connect(endpoint)
        return sock

    def subscriber(
        self, publisher: Publisher, topic: bytes = b"", **options: Any
    ) -> zmq.Socket[bytes]:
        """A SUB socket that has arrived: batch number `first` is the next that it gets.

        PUB does not tell who listens, so empty batches are published until one comes through, and
        then one to be recognised.
        """
        sock = self.open(zmq.SUB, publisher.endpoint, **options)
        sock.subscribe(topic)
        tried = 0
        while not sock.poll(20):
            publisher.publish([])
            tried += 1
            assert tried * 20 < PATIENCE_MS
        publisher.publish([AllBlocksCleared()])
        while True:
            _, number, payload = sock.recv_multipart()
            if b"AllBlocksCleared" in payload:
                self.first = int.from_bytes(number, "big") + 1
                return sock

    def replay(self, publisher: Publisher, first: int, **options: Any) -> zmq.Socket[bytes]:
        assert publisher.replay_endpoint is not None
        sock = self.open(zmq.DEALER, publisher.replay_endpoint, **options)
        sock.send_multipart([b"", first.to_bytes(8, "big")])
        return sock

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._context.term()

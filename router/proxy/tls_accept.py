"""Accepting clients of a TLS listener.

The event loop's own server would shake hands with whoever connects, always with the context that it
was opened with. Here each connection is looked at when it is accepted: an address that is not let
in costs no handshake, and the context is the door's present one, so that a renewed certificate is
shown from the next connection on and nobody is dropped. One task for each connection, until its
handshake is over; none for its requests.
"""

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, cast

from router.proxy.door import Door, Visit
from router.proxy.downstream import Downstream

if TYPE_CHECKING:
    from router.proxy.server import ProxyServer

HANDSHAKE_TIMEOUT = 10.0
SHUTDOWN_TIMEOUT = 5.0
"""Seconds for a client to answer the closing alert."""
BATCH = 64
"""Connections accepted at one time, before others have their turn."""
EXHAUSTED = 1.0
"""Seconds without accepting after there were no descriptors left."""


class TlsListener:
    """Accepts from one bound socket until it is closed.

    Args:
        sock: not listening yet; it becomes ours.
    """

    def __init__(
        self, server: "ProxyServer", sock: socket.socket, door: Door, backlog: int
    ) -> None:
        self._server = server
        self._sock = sock
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        sock.listen(backlog)
        self._loop.add_reader(sock, self._accept)

    def close(self) -> None:
        """Accept no more."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _accept(self) -> None:
        for _ in range(BATCH):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no descriptors left: let some be given back
                self._loop.remove_reader(self._sock)
                self._pause = self._loop.call_later(EXHAUSTED, self._resume)
                return
            context = self._door.context
            if context is None or not self._door.admits(address[0]):
                self._server.dropped(self._door.name, "address")
                sock.close()
                continue
            task = self._loop.create_task(self._shake(sock, context))
            self._server.handshakes.add(task)
            task.add_done_callback(self._server.handshakes.discard)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock, self._accept)

    async def _shake(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._connection,
                sock,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
            )
        except OSError:  # SSL's errors and time-outs are such, too
            self._server.dropped(self._door.name, "handshake")

    def _connection(self) -> asyncio.Protocol:
        return cast("asyncio.Protocol", Downstream(self._server, Visit(self._door)))

"""A client's connection until its TLS handshake is over; then a ``Downstream`` takes it.

The context is looked up for each connection, so a renewed certificate is shown from the next one
on and nobody is dropped. What the client sends together with the end of its handshake comes before
we are told that it is over: it is kept until then.
"""

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, cast

from router.core.access.certificates import names
from router.proxy.door import Door, Visit
from router.proxy.downstream import Downstream

if TYPE_CHECKING:
    from router.proxy.server import ProxyServer

HANDSHAKE_TIMEOUT = 10.0
SHUTDOWN_TIMEOUT = 5.0
"""Seconds for a client to answer the closing alert."""


class _Early(asyncio.Protocol):
    """Takes what comes before its reader is there."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.ended = True
        return False


class Handshake(asyncio.Protocol):
    """One connection to a TLS listener."""

    def __init__(self, server: "ProxyServer", door: Door) -> None:
        self._server = server
        self._door = door
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = carrier = cast("asyncio.Transport", transport)
        context = self._door.context
        peername = transport.get_extra_info("peername")
        if context is None or not self._door.admits(peername[0] if peername else "-"):
            self._server.dropped(self._door.name, "address")
            carrier.abort()
            return
        carrier.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server.handshakes.add(self)
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._shake(carrier, context))
        self._task.add_done_callback(self._over)

    def _over(self, task: "asyncio.Task[None]") -> None:
        self._server.handshakes.discard(self)

    async def _shake(self, carrier: asyncio.Transport, context: ssl.SSLContext) -> None:
        early = _Early()
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(
                carrier,
                early,
                context,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
            )
        except OSError:  # SSL's errors and time-outs are such, too
            self._server.dropped(self._door.name, "handshake")
            carrier.abort()
            return
        if transport is None or transport.is_closing() or early.ended:
            carrier.abort()
            return
        certificate = transport.get_extra_info("peercert")
        visit = Visit(self._door, names(certificate) if certificate else ())
        downstream = Downstream(self._server, visit)
        transport.set_protocol(cast("asyncio.Protocol", downstream))
        downstream.connection_made(transport)
        if early.data:
            downstream.data_received(early.data)

    def abort(self) -> None:
        """The listener's worker is going: nobody has asked anything yet."""
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

"""Listening addresses, held by control and opened by each worker.

Control binds every address once with SO_REUSEPORT and never listens on it: that fixes the port
(also where the configuration says 0), makes a conflict an error at start, and takes no connection
away from anybody. Each worker gets a socket of its own, bound to the same address; when it dies
the kernel closes it, and new connections go to the others. A sole worker has no others: its sockets
stay open here, and clients wait for its successor.
"""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

BACKLOG = 4096


class AddressInUse(OSError):
    """Somebody else listens there, or the address is not this machine's."""


class ReservedAddress:
    """An address that this process keeps for its workers.

    Args:
        host: IPv4 or IPv6 literal, or a name.
        port: 0 picks a free one.

    Raises:
        AddressInUse: with the address in its message.
    """

    def __init__(self, host: str, port: int) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except socket.gaierror as error:
            raise AddressInUse(f"cannot resolve {host!r}: {error.strerror}") from None
        self._family: socket.AddressFamily = found[0][0]
        address = found[0][4]
        try:
            if port:
                # SO_REUSEPORT would silently share the port with another router of this user.
                with socket.socket(self._family, socket.SOCK_STREAM) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(address)
            self._address = address
            self._holder = self.open()
        except OSError as error:
            raise AddressInUse(f"cannot listen on {host}:{port}: {error.strerror}") from None
        self._address = self._holder.getsockname()

    @property
    def host(self) -> str:
        return str(self._address[0])

    @property
    def port(self) -> int:
        return int(self._address[1])

    def open(self) -> socket.socket:
        """A bound socket for one worker, not yet listening; it becomes the caller's."""
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if self._family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(self._address)
        except OSError:
            sock.close()
            raise
        sock.setblocking(False)
        return sock

    def close(self) -> None:
        self._holder.close()

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class WorkerSockets:
    """Opens what workers listen on.

    Args:
        addresses: one socket for each.
        workers: how many processes listen at one time.
    """

    def __init__(self, addresses: Sequence[ReservedAddress], workers: int) -> None:
        self._addresses = addresses
        self._sole = workers == 1
        self._kept: list[socket.socket] = []

    @contextmanager
    def lent(self) -> Iterator[Sequence[socket.socket]]:
        """Sockets for a worker to inherit.

        Raises:
            OSError: there are no descriptors left.
        """
        sockets = self._kept or []
        try:
            if not sockets:
                for address in self._addresses:
                    sockets.append(address.open())
            if self._sole:
                self._kept = sockets
            yield sockets
        finally:
            if sockets is not self._kept:
                for sock in sockets:
                    sock.close()

    def let_go(self) -> None:
        """Keep nobody waiting: without a worker, connections are refused from now on."""
        for sock in self._kept:
            sock.close()
        self._kept = []

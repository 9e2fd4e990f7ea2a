"""Datagram sockets on which the processes of a machine tell each other what they do.

A pair for each worker and one for control: what is said into its *mouth*, by anybody, comes out at
its *ear*. Pairs have no name, so that there is no path to choose, no port to share and nobody else
who could speak; and the kernel holds as many datagrams as the mouth's buffer has room for, where
it would hold ``net.unix.max_dgram_qlen``, ten, for a socket with a name. A mouth that is full
refuses, and who spoke loses that datagram. Control keeps both ends of all pairs, so that a worker's
ear outlives it.
"""

import contextlib
import secrets
import socket
from typing import Final

import msgspec

from router.core.forecast.notes import Bye, seal

BUFFER: Final = 1 << 20
"""Bytes that may wait in a mouth; the kernel may grant less (``net.core.wmem_max``)."""

LARGEST: Final = 1 << 14
"""Bytes of a datagram; twice what gossip puts into one."""


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's place among those who tell each other, as inherited file descriptors.

    ``machine`` and ``origin``: see ``core.forecast.notes.Envelope``. ``mouths``: of the other
    workers; ``control``: of the control process.
    """

    machine: int
    origin: int
    ear: int
    mouths: tuple[int, ...]
    control: int

    @property
    def descriptors(self) -> tuple[int, ...]:
        return (self.ear, *self.mouths, self.control)


class Mesh:
    """All pairs of a machine.

    Args:
        workers: how many, at least 1.

    Attributes:
        machine: names this run of the router.
        ear: control's own.
        origins: who sits in each column.
        overheard: whether control listens.
    """

    def __init__(self, workers: int) -> None:
        self.machine = _drawn()
        self.origins: dict[int, int] = {}
        self.overheard = False
        self._ears: list[socket.socket] = []
        self._mouths: list[socket.socket] = []
        for _ in range(workers + 1):
            ear, mouth = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            for end in (ear, mouth):
                end.setblocking(False)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            self._ears.append(ear)
            self._mouths.append(mouth)
        self.ear = self._ears[-1]

    def seat(self, column: int) -> Seat:
        """For a worker that is about to be started there; it is somebody new."""
        self.hush(column)
        self.origins[column] = _drawn()
        return Seat(
            machine=self.machine,
            origin=self.origins[column],
            ear=self._ears[column].fileno(),
            mouths=tuple(
                mouth.fileno() for other, mouth in enumerate(self._mouths[:-1]) if other != column
            ),
            control=self._mouths[-1].fileno(),
        )

    def leave(self, column: int) -> None:
        """The worker there has ended: tell the others, after all that it told itself."""
        origin = self.origins.pop(column)
        bye = seal(self.machine, origin, 0, 0, [Bye()])
        self.say(bye)
        if self.overheard:
            with contextlib.suppress(OSError):
                self._mouths[-1].send(bye)

    def hush(self, column: int) -> None:
        """Throw away what nobody has heard there; -1: what control has not."""
        ear = self._ears[column]
        with contextlib.suppress(BlockingIOError):
            while True:
                ear.recv(LARGEST)

    def say(self, data: bytes, to: int = 0) -> int:
        """Tell all workers, or the one that is ``to``; returns how many did not take it."""
        missed = 0
        for column, origin in self.origins.items():
            if to in (0, origin):
                try:
                    self._mouths[column].send(data)
                except OSError:  # full
                    missed += 1
        return missed

    def close(self) -> None:
        for end in (*self._ears, *self._mouths):
            end.close()

    def __repr__(self) -> str:
        return f"<Mesh of {len(self._ears) - 1} workers>"


def _drawn() -> int:
    return secrets.randbits(63) + 1

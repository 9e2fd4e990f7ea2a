"""A worker's place in the gossip: carries envelopes between it and the machine's other processes.

What there is to tell gathers for some milliseconds and is then said to each of the others, without
waiting for anybody: who has no room for it misses it. What comes is read a few datagrams at a
time, so that a burst of it does not keep streams from their tokens.

How long it gathers is a bargain. In simulation lines that others know 10 ms late are as good as
known at once, and 100 ms late cost 5 to 10 % of the mean time to the first token; each flush costs
a system call for each of the others.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import Final

from router.control.mesh import LARGEST, Seat
from router.core.director import Director
from router.core.forecast.forecast import Forecast
from router.core.forecast.gossip import Gossip
from router.core.model import EndpointId

GATHER: Final = 0.005
"""Seconds between two flushes, with few others."""

GATHER_EACH: Final = 0.0005
"""Seconds for each of many others: two thousand datagrams a second are said at most."""

BURST: Final = 4
"""Datagrams that are read before everything else has its turn, at up to half a millisecond each."""


class GossipLink:
    """Of one worker.

    Args:
        seat: its sockets, which become this object's.
        clock: monotonic seconds.

    Attributes:
        missed: datagrams that one of the others had no room for.
    """

    def __init__(self, seat: Seat, clock: Callable[[], float]) -> None:
        self.gossip = Gossip(seat.origin, seat.machine, self._told)
        self.missed = 0
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._ear = socket.socket(fileno=seat.ear)
        self._mouths = [socket.socket(fileno=fd) for fd in seat.mouths]
        self._control = socket.socket(fileno=seat.control)
        for end in (self._ear, self._control, *self._mouths):
            end.setblocking(False)
        self._others: list[socket.socket] = []
        self._flushing = False
        self._listening = False

    def follow(self, director: Director, beyond: bool) -> None:
        """Take part for the clusters of a new snapshot, if there is anybody to tell.

        Args:
            beyond: control passes it on to other machines.
        """
        self._others = [*self._mouths, self._control] if beyond else self._mouths
        clusters = _forecasts(director) if self._others else {}
        self.gossip.follow(clusters)
        if clusters and not self._listening:
            self._listening = True
            self._loop.add_reader(self._ear.fileno(), self._heard)
            self.gossip.join(self._clock())
        elif not clusters and self._listening:
            self._listening = False
            self._loop.remove_reader(self._ear.fileno())

    def look(self) -> None:
        """What is due; to be called every second or so."""
        if self._listening:
            self.gossip.look(self._clock())

    def close(self) -> None:
        self.gossip.follow({})
        if self._listening:
            self._loop.remove_reader(self._ear.fileno())
        for end in (self._ear, self._control, *self._mouths):
            end.close()

    # --- telling ------------------------------------------------------------------------------

    def _told(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_later(max(GATHER, GATHER_EACH * len(self._others)), self._flush)

    def _flush(self) -> None:
        self._flushing = False
        for _, data in self.gossip.take():
            for other in self._others:
                try:
                    other.send(data)
                except OSError:  # full, or closed at the end
                    self.missed += 1
        if self.gossip.talkative:
            self._told()

    # --- hearing ------------------------------------------------------------------------------

    def _heard(self) -> None:
        now = self._clock()
        for _ in range(BURST):
            try:
                data = self._ear.recv(LARGEST)
            except BlockingIOError:
                return
            self.gossip.hear(data, now)

    def __repr__(self) -> str:
        return f"<GossipLink of {len(self._others)} others, {self.gossip!r}>"


def _forecasts(director: Director) -> dict[str, tuple[Forecast, Iterable[EndpointId]]]:
    """The clusters whose balancer predicts, with their endpoints."""
    found: dict[str, tuple[Forecast, Iterable[EndpointId]]] = {}
    for name, cluster in director.snapshot.clusters.items():
        if cluster.balancer.reads_prompt:
            accounts = director.traffic(name).accounts
            if isinstance(accounts, Forecast):
                found[name] = accounts, [endpoint.id for endpoint in cluster.endpoints]
    return found

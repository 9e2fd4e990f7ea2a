"""What this process knows of the work that the machine's other workers have in flight.

A base class and not a protocol: it is asked seven times for each request, and where the hot path
is compiled (see ADR 14) only a method of a class is called as a function of C.
"""

from collections.abc import Mapping


class SharedLoad:
    """Counts in flight by slot, of the other worker processes of this machine."""

    __slots__ = ()

    def others(self, slot: int) -> int:
        """Attempts in flight at the endpoint in ``slot``, over all other workers."""
        raise NotImplementedError

    def publish(self, slot: int, in_flight: int) -> None:
        """Tell the other workers how many attempts this one has in flight."""
        raise NotImplementedError


class SoleWorker(SharedLoad):
    """Of a process that is alone."""

    __slots__ = ()

    def others(self, slot: int) -> int:
        return 0

    def publish(self, slot: int, in_flight: int) -> None:
        return None


class KnownLoad(SharedLoad):
    """Of a process that was told the others' counts, and tells nobody its own."""

    __slots__ = ("_counts",)

    def __init__(self, counts: Mapping[int, int]) -> None:
        self._counts = counts

    def others(self, slot: int) -> int:
        return self._counts.get(slot, 0)

    def publish(self, slot: int, in_flight: int) -> None:
        return None

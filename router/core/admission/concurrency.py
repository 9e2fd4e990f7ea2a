"""A cluster's places and its pending queue.

A place is one attempt in flight. Who finds none waits in line, first come first served, up to a
bound; who leaves the line (client gone, timed out) is struck out lazily, so leaving is O(1).
"""

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.core.exchange import Exchange


class PendingQueue:
    """First come, first served. The bound counts those really waiting, not the struck out."""

    __slots__ = ("_line", "limit", "overflow", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.waiting = 0
        self.overflow = 0
        self._line: deque[Exchange] = deque()

    def join(self, exchange: "Exchange") -> bool:
        """Stand in line; False (and counted) if the queue is full."""
        if self.waiting >= self.limit:
            self.overflow += 1
            return False
        self.waiting += 1
        self._line.append(exchange)
        return True

    def leave(self) -> None:
        """One of those in line is not waiting any more (its state says so)."""
        self.waiting -= 1
        while self._line and not self._line[0].queued:
            self._line.popleft()
        # A long-lived head must not keep a line of the departed behind it.
        if len(self._line) > 2 * self.waiting + 64:
            self._line = deque(e for e in self._line if e.queued)

    def first(self) -> "Exchange | None":
        """Who is next, still in line."""
        while self._line and not self._line[0].queued:
            self._line.popleft()
        return self._line[0] if self._line else None

    def __repr__(self) -> str:
        return f"<PendingQueue waiting={self.waiting}/{self.limit} overflow={self.overflow}>"

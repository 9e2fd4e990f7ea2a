"""What an endpoint is spared for a while, and what ends by itself.

Two things. An attempt that failed goes on counting as one in flight, or an endpoint that fails at
once would look like the least loaded one and draw the traffic to itself. How long doubles with each
failure in a row, and a success ends one of them. And an endpoint that pushed back (429, or 503 with
Retry-After) gets no new request until the time it named, as long as there are others.

``due`` is when the next of these is over: one comparison per request while nothing is strained.
"""

from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from router.core.host import HostState

FIRST_SCAR = 5.0
"""Seconds for which a first failure counts as a request in flight."""
LONGEST_SCAR = 60.0
MAX_SCARS = 64
"""Failures of one endpoint that count at one time; more would only slow its return."""


class BackPressure(msgspec.Struct, frozen=True, kw_only=True):
    """How long an endpoint that pushed back is spared, in seconds.

    ``default``: where it does not say. ``minimum`` and ``maximum`` bound what it says.
    """

    default: float = 1.0
    minimum: float = 0.1
    maximum: float = 30.0

    def spared(self, retry_after: float | None) -> float:
        """Seconds, for what the endpoint said."""
        if retry_after is None:
            return self.default
        return min(max(retry_after, self.minimum), self.maximum)


class Strain:
    """All that ends by itself in one fleet, in the order of time.

    Attributes:
        due: when the first of it ends, monotonic seconds; infinite while there is nothing.
    """

    __slots__ = ("_heap", "_serial", "due")

    def __init__(self) -> None:
        self.due = inf
        # The serial number keeps hosts, which have no order, from being compared.
        self._heap: list[tuple[float, int, HostState, bool]] = []
        self._serial = 0

    def failed(self, host: "HostState", now: float) -> None:
        """An attempt failed: it counts as in flight for a while yet."""
        if host.scars + host.healed < MAX_SCARS:
            seconds = min(FIRST_SCAR * 2.0 ** min(host.failures_in_a_row, 10), LONGEST_SCAR)
            host.scars += 1
            self._put(now + seconds, host, False)
        host.failures_in_a_row += 1

    def succeeded(self, host: "HostState") -> None:
        """An attempt went well: the endpoint works, and is forgiven one failure."""
        host.failures_in_a_row = 0
        if host.scars:
            host.scars -= 1
            host.healed += 1

    def pushed_back(self, host: "HostState", until: float) -> None:
        """Spare an endpoint until then, which is later than it was spared until now."""
        if not host.pushed_until:  # else it stands in the heap already
            self._put(until, host, True)
        host.pushed_until = until

    def pass_time(self, now: float) -> bool:
        """End what is over; returns whether an endpoint came back from pushing back."""
        heap, back = self._heap, False
        while heap and heap[0][0] <= now:
            _, _, host, pushed = heappop(heap)
            if not pushed:
                if host.healed:
                    host.healed -= 1
                else:
                    host.scars -= 1
            elif host.pushed_until > now:
                self._put(host.pushed_until, host, True)
            else:
                host.pushed_until = 0.0
                back = True
        self.due = heap[0][0] if heap else inf
        return back

    def _put(self, time: float, host: "HostState", pushed: bool) -> None:
        self._serial += 1
        heappush(self._heap, (time, self._serial, host, pushed))
        self.due = self._heap[0][0]

    def __repr__(self) -> str:
        return f"<Strain {len(self._heap)} due={self.due:g}>"

"""Earliest deadline first: weighted rotation that interleaves.

Each host is due again 1/weight after its last turn. As in Envoy, a weight is read when the host
is put back, not continuously, so dynamic weights lag by one turn of that host.
"""

import heapq
from collections.abc import Callable, Sequence

from router.core.host import HostState


class EdfSchedule:
    """A schedule over one fixed tuple of hosts.

    Args:
        hosts: at least one.
        weight: the host's current weight, greater than 0.
        start: turns to take at once, so that processes do not rotate in step.
    """

    __slots__ = ("_heap", "_turns", "_weight", "hosts")

    def __init__(
        self, hosts: Sequence[HostState], weight: Callable[[HostState], float], start: int = 0
    ) -> None:
        self.hosts = hosts
        self._weight = weight
        # The order of insertion breaks ties: who has waited longest goes first.
        self._turns = len(hosts)
        self._heap = [(1.0 / weight(host), index, host) for index, host in enumerate(hosts)]
        heapq.heapify(self._heap)
        for _ in range(start):
            self.next()

    def next(self) -> HostState:
        deadline, _, host = self._heap[0]
        self._turns += 1
        # Rounded, or sums of 1/5 drift apart from sums of 1/2 and ties are no longer ties.
        due = round(deadline + 1.0 / self._weight(host), 9)
        heapq.heapreplace(self._heap, (due, self._turns, host))
        return host


def weights_differ(hosts: Sequence[HostState]) -> bool:
    first = hosts[0].weight
    return any(host.weight != first for host in hosts)

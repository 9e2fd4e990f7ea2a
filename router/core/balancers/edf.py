"""Earliest deadline first: weighted rotation that interleaves.

Each item, a host or a locality, is due again 1/weight after its last turn. As in Envoy, a
weight is read when it is put back, not continuously, so dynamic weights lag by one turn.
"""

import heapq
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from router.core.host import HostState

T = TypeVar("T")


class EdfSchedule(Generic[T]):
    """A schedule over a fixed sequence of items.

    Args:
        items: at least one.
        weight: the item's current weight, greater than 0.
        start: turns to take at once, so that processes do not rotate in step.
    """

    __slots__ = ("_heap", "_turns", "_weight")

    def __init__(self, items: Sequence[T], weight: Callable[[T], float], start: int = 0) -> None:
        self._weight = weight
        # The order of insertion breaks ties: who has waited longest goes first.
        self._turns = len(items)
        self._heap = [(1.0 / weight(item), index, item) for index, item in enumerate(items)]
        heapq.heapify(self._heap)
        for _ in range(start):
            self.next()

    def next(self) -> T:
        deadline, _, item = self._heap[0]
        self._turns += 1
        # Rounded, or sums of 1/5 drift apart from sums of 1/2 and ties are no longer ties.
        due = round(deadline + 1.0 / self._weight(item), 9)
        heapq.heapreplace(self._heap, (due, self._turns, item))
        return item


def weights_differ(hosts: Sequence[HostState]) -> bool:
    first = hosts[0].weight
    return any(host.weight != first for host in hosts)

"""Draws by weight: each host as often as its share of all weights."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import log

from router.core.clock import Rng
from router.core.host import HostState


class WeightedDraw:
    """Over one fixed sequence of hosts, with their weights of this moment."""

    __slots__ = ("_bounds", "_hosts")

    def __init__(self, hosts: Sequence[HostState]) -> None:
        self._hosts = hosts
        self._bounds = list(accumulate(host.weight for host in hosts))

    def draw(self, rng: Rng) -> HostState:
        return self._hosts[bisect_right(self._bounds, rng.random() * self._bounds[-1])]


def least_loaded(hosts: Sequence[HostState], rng: Rng) -> HostState:
    """The host with the least load for its weight; of several, one drawn by weight.

    The draw gives each an exponential time of rate ``weight`` and takes the first (Efraimidis and
    Spirakis 2006).
    """

    def rank(host: HostState) -> tuple[float, float]:
        return host.burden / host.weight, -log(1.0 - rng.random()) / host.weight

    return min(hosts, key=rank)

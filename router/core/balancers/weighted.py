"""Draws by weight: each host as often as its share of all weights."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import inf, log

from router.core.clock import Rng
from router.core.host import HostState
from router.core.model import EndpointId


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


def drawn(hosts: Sequence[HostState], chances: Sequence[float], rng: Rng) -> HostState:
    """One of a few, each as likely as its share of all chances; one of them must not be 0."""
    point = rng.random() * sum(chances)
    found = hosts[0]
    for host, chance in zip(hosts, chances, strict=True):
        if chance > 0:
            found = host
            point -= chance
            if point < 0:
                break
    return found


def cheapest(
    hosts: Sequence[HostState],
    costs: Sequence[float],
    rng: Rng,
    tried: tuple[EndpointId, ...] = (),
) -> HostState:
    """The host of the least cost; of several, one drawn by weight.

    Args:
        costs: one for each host; infinite for those that are not to be had.
        tried: passed over while there are others.
    """
    if tried:
        left = [
            inf if host.endpoint.id in tried else cost
            for host, cost in zip(hosts, costs, strict=True)
        ]
        if min(left) < inf:
            costs = left
    least = min(costs)
    if costs.count(least) == 1:
        return hosts[costs.index(least)]
    tied = [host for host, cost in zip(hosts, costs, strict=True) if cost == least]
    return drawn(tied, [host.weight for host in tied], rng)

"""How much of the load each priority level gets: Envoy's arithmetic, in its integers.

Read in Envoy's load_balancer_impl.cc (``recalculatePerPriorityState``, ``...Panic``,
``recalculateLoadInTotalPanic``, ``choosePriority``). A level's health is the healthy share of its
endpoints times the overprovisioning factor, 100 at most; level 0 takes its health in percent of the
load, level 1 what is left up to its own, and so on. If all together are below 100 each is scaled
up. What rounding leaves goes to the first level that has any.

Endpoints that pushed back are our own addition: healthy, but without load while others can bear it.
"""

from collections.abc import Sequence
from typing import NamedTuple

OVERPROVISIONING = 140
"""Percent: a level with 5 of 7 endpoints healthy still takes all of its load."""


class Census(NamedTuple):
    """The endpoints of a level: that are wanted, healthy of these, and free (not full) of these."""

    wanted: int
    healthy: int
    free: int


class Shares(NamedTuple):
    """By level: percent of the load, 100 in all; and whether health is ignored."""

    load: tuple[int, ...]
    panic: tuple[bool, ...]


def shares(
    levels: Sequence[Census], panic_threshold: float, overprovisioning: int = OVERPROVISIONING
) -> Shares:
    """The load of each level, in the order of priority.

    Args:
        levels: at least one.
        panic_threshold: percent of healthy endpoints below which a level may panic; 0 never.
        overprovisioning: percent.
    """
    health = [_health(one.wanted, one.healthy, overprovisioning) for one in levels]
    available = min(100, sum(health))
    calm = (False,) * len(levels)
    if not available and not panic_threshold:
        return Shares((100, *[0] * (len(levels) - 1)), calm)  # nobody is there, but it adds up
    panic = calm
    if available < 100:
        panic = tuple(_in_panic(one, panic_threshold) for one in levels)
    if all(panic):
        return Shares(_by_size([one.wanted for one in levels]), panic)
    if not available:
        return Shares((100, *[0] * (len(levels) - 1)), panic)
    free = [_health(one.wanted, one.free, overprovisioning) for one in levels]
    return Shares(_by_health(free if any(free) else health), panic)


def level_at(load: Sequence[int], point: int) -> int:
    """The level that a point falls to, such as a hash or a random number: ``choosePriority``."""
    point = point % 100 + 1
    for level, share in enumerate(load):
        point -= share
        if point <= 0:
            return level
    return 0


def _health(wanted: int, healthy: int, overprovisioning: int) -> int:
    return min(100, overprovisioning * healthy // wanted) if wanted else 0


def _in_panic(level: Census, threshold: float) -> bool:
    share = 100.0 * level.healthy / level.wanted if level.wanted else 0.0
    return share < threshold


def _by_health(health: Sequence[int]) -> tuple[int, ...]:
    total = min(100, sum(health))
    left = 100
    load = []
    for one in health:
        share = min(left, one * 100 // total)
        load.append(share)
        left -= share
    first = next(level for level, one in enumerate(health) if one)
    load[first] += left
    return tuple(load)


def _by_size(sizes: Sequence[int]) -> tuple[int, ...]:
    """All levels are in panic: by the number of endpoints."""
    total = sum(sizes)
    if not total:
        return (100, *[0] * (len(sizes) - 1))
    load = [100 * size // total for size in sizes]
    first = next(level for level, size in enumerate(sizes) if size)
    load[first] += 100 - sum(load)
    return tuple(load)

"""Endpoints compared by their load: the part of balancers that looks at several for each request.

Apart from them so that it compiles (see ADR 14): a balancer's file holds its Spec.
"""

from collections.abc import Callable, Sequence

from router.core.clock import Rng
from router.core.host import HostState


def less_loaded(hosts: Sequence[HostState], choices: int, draw: Callable[[], float]) -> HostState:
    """The least loaded of ``choices`` hosts drawn with replacement; of equals the first drawn.

    Args:
        draw: at random from 0 to 1. Not randrange, which costs 0.4 us: its freedom from bias is
            worth 1 in 2 ** 53 here.
    """
    size = len(hosts)
    best = hosts[int(draw() * size)]
    best_active = best.burden
    for _ in range(choices - 1):
        other = hosts[int(draw() * size)]
        active = other.burden
        if active < best_active:
            best, best_active = other, active
    return best


def least_active(hosts: Sequence[HostState], rng: Rng) -> HostState:
    """The host with the fewest attempts in flight; ties broken uniformly (reservoir)."""
    best = hosts[0]
    best_active = best.burden
    ties = 1
    for host in hosts[1:]:
        active = host.burden
        if active < best_active:
            best, best_active, ties = host, active, 1
        elif active == best_active:
            ties += 1
            if rng.randrange(ties) == 0:
                best = host
    return best


def burden_of(hosts: Sequence[HostState]) -> int:
    """What all of them bear together."""
    total = 0
    for host in hosts:
        total += host.burden
    return total

"""What comes to the routers in one run: a trace at the load that was asked for.

More load is more users, not faster ones: several copies of the trace run at once, each from another
instant on and with content of its own. Only system prompts are shared between copies, as they are
between users. What is too much is left out by whole conversations, so that what remains still has
its turns.

Recorded times are often rounded: Mooncake's to three seconds. Requests of one instant are spread
evenly over the time up to the next one.
"""

import random
from collections import Counter
from collections.abc import Iterator
from math import ceil
from typing import Final

import msgspec

from router.sim.profile import PICOSECONDS
from router.sim.trace import Recorded, Trace, TraceError

APART: Final = 1 << 44
"""Ids of one copy are so far from those of the next; no trace has as many."""

MOST_COPIES: Final = 1000
MOST_LAPS: Final = 100


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """One request that comes to a router. ``at`` in picoseconds."""

    key: int
    at: int
    prompt: int
    answer: int
    blocks: tuple[int, ...]
    conversation: int
    stream: bool | None = None
    model: str | None = None
    tenant: str | None = None


def arrivals(
    trace: Trace,
    *,
    rate: float,
    duration: float,
    seed: int,
    smooth: bool = True,
    turned: bool = True,
) -> list[Arrival]:
    """Requests in order of time.

    Args:
        rate: requests a second, on average over the whole trace. Some minutes of it have more, and
            with shorter prompts for it: the load in tokens hardly varies.
        duration: seconds.
        smooth: spread requests that were recorded at one instant.
        turned: begin anywhere in the trace, rather than where it does.

    Raises:
        TraceError: it would take more of the trace than is sensible.
    """
    if duration > trace.span * MOST_LAPS:
        raise TraceError(f"{trace.name} is too short for a run of {duration:g} s")
    rng = random.Random(f"workload {seed}")
    copies = ceil(rate / trace.rate)
    if copies > MOST_COPIES:
        raise TraceError(f"{trace.name} has too few requests for {rate:g} a second")
    found = [
        (at, copy * MOST_LAPS + lap, request)
        for copy in range(copies)
        for at, lap, request in _laps(
            trace, duration, rng, smooth=smooth, turned=turned or copy > 0
        )
    ]
    found = _thinned(found, rate / trace.rate / copies, rng)
    common = trace.common
    return [
        Arrival(
            key,
            round(at * PICOSECONDS),
            request.prompt,
            request.answer,
            tuple(id_ if id_ in common else id_ + content * APART for id_ in request.blocks),
            request.conversation + content * APART,
            *(request.stream, request.model, request.tenant),
        )
        for key, (at, content, request) in enumerate(found, 1)
    ]


_Timed = tuple[float, int, Recorded]
"""Seconds, the number of the copy whose content it has, and the request."""


def _laps(
    trace: Trace, duration: float, rng: random.Random, *, smooth: bool, turned: bool
) -> Iterator[_Timed]:
    """One copy of the trace, from its start or a random instant on; it begins anew where it ends.

    Content is new only in the second lap: the first is the whole trace, once.
    """
    span, batch = trace.span, trace.batch / 1000
    start = rng.randrange(round(span / batch)) * batch if turned else 0.0
    for request in trace.requests:
        spread = rng.random() * batch if smooth else 0.0
        at = (request.at / 1000 + spread - start) % span
        for lap in range(MOST_LAPS):
            if at + lap * span >= duration:
                break
            yield at + lap * span, lap, request


def _thinned(found: list[_Timed], share: float, rng: random.Random) -> list[_Timed]:
    """About this share of the requests, by whole conversations, in order of time."""
    sizes = Counter((content, request.conversation) for _, content, request in found)
    order = sorted(sizes)
    rng.shuffle(order)
    kept: set[tuple[int, int]] = set()
    wanted = share * len(found)
    for one in order:
        if wanted <= 0:
            break
        kept.add(one)
        wanted -= sizes[one]
    chosen = [one for one in found if (one[1], one[2].conversation) in kept]
    return sorted(chosen, key=lambda one: one[:2])

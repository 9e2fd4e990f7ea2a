"""What a plot shows of a run beyond its figures: how times to the first token are spread."""

from collections.abc import Sequence
from math import isnan, nan
from statistics import fmean
from typing import Final

import msgspec

from router.sim.measures import quantile
from router.sim.outcome import End, Outcome
from router.sim.profile import PICOSECONDS, picoseconds

SHARES: Final = (*(step / 200 for step in range(1, 200)), 0.999)
"""Of the requests that got their first token within the time of each."""

BUCKET: Final = 15.0
"""Seconds of arrivals that are averaged."""


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. ``timeline``: mean TTFT of the requests of each ``BUCKET``, NaN without any."""

    spread: tuple[float, ...]
    timeline: tuple[float, ...]


def curves(outcomes: Sequence[Outcome], begin: float, duration: float) -> Curves:
    """Of one run.

    Args:
        begin: seconds until which the warm-up takes; the timeline shows it, too.
    """
    served = [
        (one.arrival.at, (one.first - one.arrival.at) / PICOSECONDS)
        for one in outcomes
        if one.end is End.DONE and one.arrival.stream is not False
    ]
    buckets: list[list[float]] = [[] for _ in range(max(1, int(duration / BUCKET)))]
    for at, ttft in served:
        index = at // picoseconds(BUCKET)
        if index < len(buckets):
            buckets[index].append(ttft)
    measured = sorted(ttft for at, ttft in served if at >= picoseconds(begin))
    return Curves(
        spread=tuple(quantile(measured, share) for share in SHARES),
        timeline=tuple(fmean(bucket) if bucket else nan for bucket in buckets),
    )


def averaged(runs: Sequence[Sequence[float]]) -> list[float]:
    """Point by point, over the runs that have one."""
    points = ([point for point in at if not isnan(point)] for at in zip(*runs, strict=True))
    return [fmean(known) if known else nan for known in points]

"""What one run comes to, in figures."""

from collections.abc import Sequence
from math import ceil, nan
from statistics import fmean
from typing import Final

import msgspec

from router.sim.outcome import End, Outcome
from router.sim.profile import PICOSECONDS, Profile

WARM_UP: Final = 0.4
"""Share of a run in which caches fill; requests that come in it are not measured."""

PATIENCE: Final = 2.0
"""Seconds to the first token that nobody minds, however short the prompt."""

SMOOTH: Final = 0.1
"""Seconds between tokens up to which an answer reads well."""


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds. Shares from 0 to 1.

    Attributes:
        requests: measured, however they ended.
        hit_rate: prompt tokens that engines found in a cache.
        slowdown_p99: of times to the first token over that of the same prompt alone, uncached.
        tpot_mean: between the tokens of an answer, mean over answers of each one's mean.
        slo: requests answered in time: the first token within the longer of ``PATIENCE`` and
            twice its cold prefill, the others ``SMOOTH`` apart on average.
        lost: requests without a whole answer; ``refused`` are those of them that no engine began.
        imbalance: most requests at one replica over the mean of all, as requests came.
    """

    requests: int
    hit_rate: float
    ttft_mean: float
    ttft_p50: float
    ttft_p99: float
    slowdown_p99: float
    tpot_mean: float
    tpot_p99: float
    slo: float
    lost: int
    refused: int
    imbalance: float


def measure(
    outcomes: Sequence[Outcome], profile: Profile, begin: float, end: float = float("inf")
) -> Measures:
    """Of the requests that came from ``begin`` until ``end``, in seconds.

    Args:
        profile: whose cold prefill times are compared to.
    """
    since, until = begin * PICOSECONDS, end * PICOSECONDS
    asked = [one for one in outcomes if since <= one.arrival.at < until]
    served = [one for one in asked if one.end is End.DONE]
    ttft = [(one.first - one.arrival.at) / PICOSECONDS for one in served]
    cold = [profile.cold(one.arrival.prompt) / PICOSECONDS for one in served]
    tpot = [
        (one.done - one.first) / (one.arrival.answer - 1) / PICOSECONDS
        if one.arrival.answer > 1
        else 0.0
        for one in served
    ]
    in_time = sum(
        first <= max(PATIENCE, 2 * alone) and between <= SMOOTH
        for first, alone, between in zip(ttft, cold, tpot, strict=True)
    )
    several = [between for one, between in zip(served, tpot, strict=True) if one.arrival.answer > 1]
    tokens = sum(one.arrival.prompt for one in served)
    return Measures(
        requests=len(asked),
        hit_rate=sum(one.cached for one in served) / tokens if tokens else nan,
        ttft_mean=_mean(ttft),
        ttft_p50=quantile(ttft, 0.5),
        ttft_p99=quantile(ttft, 0.99),
        slowdown_p99=quantile([a / b for a, b in zip(ttft, cold, strict=True)], 0.99),
        tpot_mean=_mean(several),
        tpot_p99=quantile(several, 0.99),
        slo=in_time / len(asked) if asked else nan,
        lost=sum(one.end is not End.DONE for one in asked),
        refused=sum(one.end is End.REFUSED for one in asked),
        imbalance=_mean([one.crowd for one in asked]),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """The least of the values that so many of them do not exceed; NaN of none."""
    if not values:
        return nan
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else nan

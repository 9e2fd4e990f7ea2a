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


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as answered in time. Seconds.

    Attributes:
        ttft: to the first token.
        colds: or so many times the prompt's own cold prefill, if that is longer.
        tpot: between the others, on average.
    """

    ttft: float = PATIENCE
    colds: float = 2.0
    tpot: float = SMOOTH


USUAL_GOAL: Final = Goal()


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds. Shares from 0 to 1.

    Requests that are known not to be streamed have no first token that a client could see: they
    are in no measure of time, nor in ``slo``.

    Attributes:
        requests: measured, however they ended.
        hit_rate: prompt tokens that engines found in a cache.
        prompt_tokens, computed_tokens, answer_tokens: of those with a whole answer; computed is
            what was in no cache.
        slowdown_p99: of times to the first token over that of the same prompt alone, uncached.
        tpot_mean: between the tokens of an answer, mean over answers of each one's mean.
        slo: requests answered in time, as the goal has it.
        lost: requests without a whole answer; ``refused`` are those of them that no engine began.
        imbalance: most requests at one replica over the mean of all, as requests came.
    """

    requests: int
    prompt_tokens: int
    computed_tokens: int
    answer_tokens: int
    hit_rate: float
    ttft_mean: float
    ttft_p50: float
    ttft_p90: float
    ttft_p99: float
    slowdown_p99: float
    tpot_mean: float
    tpot_p99: float
    slo: float
    lost: int
    refused: int
    imbalance: float


def measure(
    outcomes: Sequence[Outcome],
    profile: Profile,
    begin: float,
    end: float = float("inf"),
    goal: Goal = USUAL_GOAL,
) -> Measures:
    """Of the requests that came from ``begin`` until ``end``, in seconds.

    Args:
        profile: whose cold prefill times are compared to.
        goal: what is in time.
    """
    since, until = begin * PICOSECONDS, end * PICOSECONDS
    asked = [one for one in outcomes if since <= one.arrival.at < until]
    served = [one for one in asked if one.end is End.DONE]
    watched = [one for one in served if one.arrival.stream is not False]
    ttft = [(one.first - one.arrival.at) / PICOSECONDS for one in watched]
    cold = [profile.cold(one.arrival.prompt) / PICOSECONDS for one in watched]
    tpot = [
        (one.done - one.first) / (one.arrival.answer - 1) / PICOSECONDS
        if one.arrival.answer > 1
        else 0.0
        for one in watched
    ]
    in_time = sum(
        first <= max(goal.ttft, goal.colds * alone) and between <= goal.tpot
        for first, alone, between in zip(ttft, cold, tpot, strict=True)
    )
    several = [
        between for one, between in zip(watched, tpot, strict=True) if one.arrival.answer > 1
    ]
    streams = sum(one.arrival.stream is not False for one in asked)
    tokens, cached = sum(one.arrival.prompt for one in served), sum(one.cached for one in served)
    return Measures(
        requests=len(asked),
        prompt_tokens=tokens,
        computed_tokens=tokens - cached,
        answer_tokens=sum(one.arrival.answer for one in served),
        hit_rate=cached / tokens if tokens else nan,
        ttft_mean=_mean(ttft),
        ttft_p50=quantile(ttft, 0.5),
        ttft_p90=quantile(ttft, 0.9),
        ttft_p99=quantile(ttft, 0.99),
        slowdown_p99=quantile([a / b for a, b in zip(ttft, cold, strict=True)], 0.99),
        tpot_mean=_mean(several),
        tpot_p99=quantile(several, 0.99),
        slo=in_time / streams if streams else nan,
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

"""Figures of several seeds, as a mean and how far it can be trusted."""

from collections.abc import Mapping, Sequence
from math import inf, isnan, sqrt
from statistics import fmean, stdev
from typing import Final

import msgspec

from router.sim.measures import Measures

_STUDENT: Final = (inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t for 95 % on both sides, by degrees of freedom; beyond them the normal's is near."""
_NORMAL: Final = 2.0


class Estimate(msgspec.Struct, frozen=True):
    """``mean`` is None where no seed has a figure.

    ``margin``: half of the 95 % confidence interval, None where fewer than two seeds have one.
    """

    mean: float | None
    margin: float | None


def summarize(runs: Sequence[Measures]) -> Mapping[str, Estimate]:
    """By the name of the measure."""
    return {
        field: estimate([float(getattr(run, field)) for run in runs])
        for field in Measures.__struct_fields__
    }


def estimate(values: Sequence[float]) -> Estimate:
    """Of those that are figures: NaN is what nothing was measured of."""
    known = [value for value in values if not isnan(value)]
    if len(known) < 2:
        return Estimate(known[0] if known else None, None)
    freedom = len(known) - 1
    factor = _STUDENT[freedom] if freedom < len(_STUDENT) else _NORMAL
    return Estimate(fmean(known), factor * stdev(known) / sqrt(len(known)))

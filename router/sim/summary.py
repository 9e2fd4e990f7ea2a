"""Figures of several seeds, as a mean and how far it can be trusted."""

from collections.abc import Mapping, Sequence
from math import inf, sqrt
from statistics import fmean, stdev
from typing import Final

import msgspec

from router.sim.measures import Measures

_STUDENT: Final = (inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t for 95 % on both sides, by degrees of freedom; beyond them the normal's is near."""
_NORMAL: Final = 2.0


class Estimate(msgspec.Struct, frozen=True):
    """``margin``: half of the 95 % confidence interval, None where one seed says nothing of it."""

    mean: float
    margin: float | None


def summarize(runs: Sequence[Measures]) -> Mapping[str, Estimate]:
    """By the name of the measure; of at least one run."""
    return {
        field: estimate([float(getattr(run, field)) for run in runs])
        for field in Measures.__struct_fields__
    }


def estimate(values: Sequence[float]) -> Estimate:
    """Of at least one value."""
    freedom = len(values) - 1
    if freedom == 0:
        return Estimate(values[0], None)
    factor = _STUDENT[freedom] if freedom < len(_STUDENT) else _NORMAL
    return Estimate(fmean(values), factor * stdev(values) / sqrt(len(values)))

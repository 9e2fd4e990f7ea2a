"""What a fleet bears, for loads in per cent to refer to.

    python -m bench.capacity --traces DIR

The highest rate at which the early-binding oracle answers 90 % of the requests in time (see
``router.sim.measures``), mean over the seeds: on the same eight engines, traces, seeds and length
of run as the routing benchmark, with each engine's cache. Looks upwards from 90 % of an earlier
study's figure in steps of 4 %, then halves the step to a half per cent. Some four minutes of one
core. Prints a table for ``router.sim.capacity``; changes nothing.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Final

import click

from bench.routing import DURATION, NAMES, REPLICAS
from bench.routing_targets import SEEDS
from bench.routing_traces import TracesMissing, find, trace_options
from router.sim.capacity import STUDY
from router.sim.policies import ORACLE, parse
from router.sim.profile import REGIMES
from router.sim.scenario import Scenario
from router.sim.study import Study, Traffic, perform_all

IN_TIME: Final = 0.9
"""Of the requests."""

STRIDE: Final = 0.04
FINEST: Final = 0.005
"""Steps, as shares of the study's figure."""


def highest(bears: Callable[[float], bool], first: float, stride: float, finest: float) -> float:
    """The last rate that is borne, on the way up from ``first``.

    Raises:
        ValueError: not even that is.
    """
    if not bears(first):
        raise ValueError(f"{first:g} is not borne")
    rate = first
    while bears(rate + stride):
        rate += stride
    while stride > finest:
        stride /= 2
        if bears(rate + stride):
            rate += stride
    return rate


def in_time(path: Path, regime: str, rate: float, processes: int) -> float:
    """Share of the requests that the oracle answers in time."""
    profile = REGIMES[regime]
    scenarios = tuple(
        Scenario(policy=parse(ORACLE), replicas=(profile,) * REPLICAS, block=512, seed=seed)
        for seed in range(1, 1 + SEEDS)
    )
    traffic = Traffic(trace=path, rate=rate, duration=DURATION)
    study = Study(traffic=traffic, base=profile, scenarios=scenarios)
    runs = [(study, index) for index in range(SEEDS)]
    return fmean(result.phases[0].slo for _, result in perform_all(runs, processes))


@click.command()
@trace_options
def main(traces: Path | None, jobs: int | None) -> None:
    """Measure to what loads in per cent refer."""
    with tempfile.TemporaryDirectory() as made:
        try:
            paths = find(traces, Path(made))
        except TracesMissing as error:
            raise click.UsageError(str(error)) from None
        for kind, name in NAMES.items():
            for regime in REGIMES:
                study = STUDY[name, regime]

                def bears(
                    rate: float, path: Path = paths[kind], regime: str = regime, name: str = name
                ) -> bool:
                    share = in_time(path, regime, rate, jobs or os.cpu_count() or 1)
                    click.echo(f"{name} {regime} {rate:.2f}/s: {share:.1%} in time", err=True)
                    return share >= IN_TIME

                found = highest(bears, 0.9 * study, STRIDE * study, FINEST * study)
                click.echo(f'    ("{name}", "{regime}"): {found:.1f},')


if __name__ == "__main__":
    main()

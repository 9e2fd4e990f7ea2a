"""Many runs: each policy on the same requests, seed by seed, on as many processes as wanted."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import msgspec

from router.sim.measures import WARM_UP, Measures, measure
from router.sim.profile import Profile
from router.sim.scenario import Scenario
from router.sim.trace import Trace, load
from router.sim.workload import Arrival, arrivals
from router.sim.world import World


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """Runs that are compared: the same traffic, drawn anew by each scenario's seed.

    Attributes:
        rate: requests a second.
        duration: seconds in which requests come.
        smooth: see ``router.sim.workload``.
        base: the engine whose cold prefill times are compared to.
    """

    trace: Path
    rate: float
    duration: float
    smooth: bool
    base: Profile
    scenarios: tuple[Scenario, ...]


def perform(study: Study, index: int) -> Measures:
    """Simulate one scenario."""
    scenario = study.scenarios[index]
    asked = _arrivals(study.trace, study.rate, study.duration, scenario.seed, study.smooth)
    outcomes = World(scenario, asked).run()
    return measure(outcomes, study.base, WARM_UP * study.duration)


def perform_all(study: Study, processes: int) -> Iterator[tuple[int, Measures]]:
    """Simulate all scenarios; each with its index, as they get ready.

    Args:
        processes: how many run at a time; with 1 they run in this process.
    """
    indices = range(len(study.scenarios))
    if processes == 1:
        yield from ((index, perform(study, index)) for index in indices)
        return
    with ProcessPoolExecutor(min(processes, len(indices)), get_context("spawn")) as pool:
        waited = {pool.submit(perform, study, index): index for index in indices}
        for future in as_completed(waited):
            yield waited[future], future.result()


@lru_cache(maxsize=1)
def trace(path: Path) -> Trace:
    """A trace, read once by each process."""
    return load(path)


@lru_cache(maxsize=1)
def _arrivals(
    path: Path, rate: float, duration: float, seed: int, smooth: bool
) -> Sequence[Arrival]:
    return arrivals(trace(path), rate=rate, duration=duration, seed=seed, smooth=smooth)

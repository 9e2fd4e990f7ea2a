"""Many runs: each policy on the same requests, seed by seed, on as many processes as wanted."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import msgspec

from router.sim.curves import Curves, curves
from router.sim.measures import USUAL_GOAL, WARM_UP, Goal, Measures, measure
from router.sim.profile import Profile
from router.sim.scenario import Scenario
from router.sim.synthetic import described
from router.sim.trace import Trace, load
from router.sim.workload import Arrival, arrivals
from router.sim.world import World

AFTERMATH = 60.0
"""Seconds from an incident that are measured for themselves."""


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests come.

    Attributes:
        rate: requests a second.
        duration: seconds in which they come.
        smooth, turned: see ``router.sim.workload``.
    """

    trace: Path
    rate: float
    duration: float
    smooth: bool = True
    turned: bool = True


class Phase(msgspec.Struct, frozen=True):
    """A part of a run that is measured for itself. In seconds, by when requests came."""

    name: str
    begin: float
    end: float


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """Runs that are compared: the same traffic, drawn anew by each scenario's seed.

    Attributes:
        base: the engine whose cold prefill times are compared to.
        curves: whether the runs' curves are wanted, too.
        goal: what is in time.
    """

    traffic: Traffic
    base: Profile
    scenarios: tuple[Scenario, ...]
    curves: bool = False
    goal: Goal = USUAL_GOAL

    def phases(self) -> tuple[Phase, ...]:
        """The first is all but the warm-up; what came before the incidents and after each follows.

        Scenarios of a study have the same incidents.
        """
        begin, end = WARM_UP * self.traffic.duration, self.traffic.duration
        found = [Phase("all", begin, end)]
        times = sorted({incident.at for incident in self.scenarios[0].incidents})
        if times and times[0] > begin:
            found.append(Phase("before", begin, times[0]))
        found += [Phase(f"{at:g} to {at + AFTERMATH:g} s", at, at + AFTERMATH) for at in times]
        return tuple(found)


Run = tuple[Study, int]
"""A study, and which of its scenarios."""


class Result(msgspec.Struct, frozen=True):
    """What a run came to, phase by phase.

    Shares of the whole run, of all engines' time: ``busy`` computing, ``prefilling`` prompts.
    """

    phases: tuple[Measures, ...]
    curves: Curves | None = None
    busy: float = 0.0
    prefilling: float = 0.0


def perform(run: Run) -> Result:
    """Simulate one scenario, and measure it."""
    study, index = run
    scenario = study.scenarios[index]
    world = World(scenario, _arrivals(study.traffic, scenario.seed))
    outcomes = world.run()
    phases, duration = study.phases(), study.traffic.duration
    return Result(
        tuple(
            measure(outcomes, study.base, phase.begin, phase.end, study.goal) for phase in phases
        ),
        curves(outcomes, phases[0].begin, duration) if study.curves else None,
        *world.shares,
    )


def perform_all(runs: Sequence[Run], processes: int) -> Iterator[tuple[int, Result]]:
    """Simulate; the index of each run and what it came to, as they get ready.

    Args:
        processes: how many run at a time; with 1 they run in this process.
    """
    if processes == 1:
        yield from ((index, perform(run)) for index, run in enumerate(runs))
        return
    with ProcessPoolExecutor(min(processes, len(runs)), get_context("spawn")) as pool:
        waited = {pool.submit(perform, run): index for index, run in enumerate(runs)}
        for future in as_completed(waited):
            yield waited[future], future.result()


@lru_cache(maxsize=1)
def trace(path: Path) -> Trace:
    """A trace, read or drawn once by each process.

    Raises:
        TraceError: it is none.
        ConfigError: it is a description of traffic that makes no sense.
    """
    return described(path) if path.suffix in {".yaml", ".yml"} else load(path)


@lru_cache(maxsize=2)
def _arrivals(traffic: Traffic, seed: int) -> Sequence[Arrival]:
    return arrivals(
        trace(traffic.trace),
        rate=traffic.rate,
        duration=traffic.duration,
        seed=seed,
        smooth=traffic.smooth,
        turned=traffic.turned,
    )

"""How commands of the simulator run studies: on all cores, with errors told as usage."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from router.sim.study import Result, Study


@contextmanager
def refusing() -> Iterator[None]:
    """Errors of what the simulator is given end the command, with exit code 1 or 2."""
    from router.config.findings import ConfigError
    from router.sim.configured import NoSuchCluster
    from router.sim.policies import PolicyError
    from router.sim.trace import TraceError

    try:
        yield
    except ConfigError as error:
        for finding in error.findings:
            click.echo(str(finding), err=True)
        raise SystemExit(1) from None
    except (NoSuchCluster, PolicyError, TraceError) as error:
        raise click.UsageError(str(error)) from None


def perform(studies: "Sequence[Study]", jobs: int | None) -> "list[list[Result]]":
    """The results of each study, in order of its scenarios.

    Shows how far it is where somebody looks.

    Args:
        jobs: processes; None: as many as there are cores.
    """
    from rich.console import Console
    from rich.progress import track

    from router.sim.study import perform_all

    runs = [(study, index) for study in studies for index in range(len(study.scenarios))]
    console = Console(stderr=True)
    ready: Iterable[tuple[int, Result]] = perform_all(runs, jobs or os.cpu_count() or 1)
    if console.is_terminal:
        ready = track(ready, "Simulating", total=len(runs), console=console, transient=True)
    with refusing():
        done = dict(ready)
    found = iter(done[index] for index in range(len(runs)))
    return [[next(found) for _ in study.scenarios] for study in studies]


def draw(study: "Study", runs: "Sequence[Result]", title: str, path: Path) -> None:
    """The picture of a study that has curves."""
    from router.sim.curves import Curves
    from router.sim.plot import draw as draw_curves

    found: dict[str, list[Curves]] = {}
    for scenario, run in zip(study.scenarios, runs, strict=True):
        assert run.curves is not None
        found.setdefault(scenario.policy.name, []).append(run.curves)
    draw_curves(found, title, study.phases()[0].begin, path)

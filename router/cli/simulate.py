"""``warmpath simulate``: real traffic through the real core, in virtual time."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from router.cli.admin_client import output_option
from router.cli.simulate_view import show

if TYPE_CHECKING:
    from router.sim.measures import Measures
    from router.sim.study import Study

USUAL = ("round_robin", "least_request", "prefix_hash", "oracle")


@click.command("simulate")
@click.argument(
    "trace", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    *("--policy", "policies"),
    multiple=True,
    metavar="NAME[:FIELD=VALUE,...]",
    help=f"A balancer, or oracle; may be repeated. Without: {', '.join(USUAL)}.",
)
@click.option("--replicas", type=click.IntRange(1, 1024), default=8, show_default=True)
@click.option(
    "--regime",
    type=click.Choice(["off", "hbm"]),
    default="off",
    show_default=True,
    help="Engines with memory of the host behind the cache (off), or without (hbm).",
)
@click.option(
    "--load",
    default="85%",
    show_default=True,
    metavar="N%|RATE",
    help="In per cent of what the oracle can bear, or requests a second.",
)
@click.option(
    "--duration", type=click.FloatRange(min=1), default=600, show_default=True, help="Seconds."
)
@click.option(
    "--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="How many runs."
)
@click.option(
    "--routers", type=click.IntRange(1, 64), default=1, show_default=True, help="Side by side."
)
@click.option(
    "--streaming",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="Share of requests answered piece by piece.",
)
@click.option(
    "--scrape",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Seconds between readings of the engines' metrics; 0: none.",
)
@click.option("--raw-arrivals", is_flag=True, help="Take recorded times as they are, in batches.")
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Processes; as many as there are cores by default."
)
@output_option
def simulate_command(
    trace: Path | None,
    policies: tuple[str, ...],
    regime: str,
    load: str,
    seeds: int,
    jobs: int | None,
    output: str,
    **options: Any,
) -> None:
    """Simulate policies on recorded traffic, in front of modelled engines.

    TRACE is a file of requests (docs/simulate.md says which); ten minutes of Mooncake's
    conversations by default. Every policy meets the same requests. The first 40 % of each run only
    fill caches.
    """
    from router.sim.data import CONVERSATION
    from router.sim.policies import PolicyError, parse
    from router.sim.profile import REGIMES
    from router.sim.report import report
    from router.sim.scenario import Scenario
    from router.sim.study import Study
    from router.sim.study import trace as read
    from router.sim.trace import TraceError

    path, base = trace or CONVERSATION, REGIMES[regime]
    try:
        chosen = [parse(text) for text in policies or USUAL]
        recorded = read(path)
    except (PolicyError, TraceError) as error:
        raise click.UsageError(str(error)) from None
    study = Study(
        trace=path,
        rate=_rate(load, recorded.name, regime, options["replicas"]),
        duration=options["duration"],
        smooth=not options["raw_arrivals"],
        base=base,
        scenarios=tuple(
            Scenario(
                policy=policy,
                replicas=(base,) * options["replicas"],
                block=recorded.block,
                seed=seed,
                routers=options["routers"],
                streaming=options["streaming"],
                scrape=options["scrape"],
            )
            for seed in range(1, seeds + 1)
            for policy in chosen
        ),
    )
    runs = _run(study, jobs or os.cpu_count() or 1)
    told = report(study, runs) | {"regime": regime}
    if output == "json":
        click.echo(json.dumps(told, indent=2))
    else:
        show(told)


def _rate(load: str, trace: str, regime: str, replicas: int) -> float:
    """Requests a second."""
    from router.sim.capacity import capacity

    number, relative = load.removesuffix("%"), load.endswith("%")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise click.BadParameter(
            f"expected a share as 85% or a rate as 9.5, not {load!r}", param_hint="--load"
        )
    if not relative:
        return value
    try:
        return value / 100 * capacity(trace, regime, replicas)
    except KeyError:
        raise click.BadParameter(
            f"nobody has measured what {regime} engines can bear of {trace!r}: "
            "give requests a second",
            param_hint="--load",
        ) from None


def _run(study: "Study", processes: int) -> "list[Measures]":
    """The results, in order of the scenarios; shows how far it is where somebody looks."""
    from rich.console import Console
    from rich.progress import track

    from router.sim.study import perform_all

    done: dict[int, Measures] = {}
    console, total = Console(stderr=True), len(study.scenarios)
    ready: Iterable[tuple[int, Measures]] = perform_all(study, processes)
    if console.is_terminal:
        ready = track(ready, "Simulating", total=total, console=console, transient=True)
    try:
        done.update(ready)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return [done[index] for index in range(total)]

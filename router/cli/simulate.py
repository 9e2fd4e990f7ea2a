"""``warmpath simulate``: real traffic through the real core, in virtual time."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from router.cli import simulate_options
from router.cli.admin_client import output_option
from router.cli.simulate_view import headline, show

if TYPE_CHECKING:
    from router.sim.configured import Settings
    from router.sim.scenario import Policy
    from router.sim.study import Result, Study

USUAL = ("round_robin", "least_request", "predicted_ttft", "oracle")


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
    "--gossip",
    type=click.FloatRange(0, 60),
    default=0.01,
    show_default=True,
    help="Seconds until the other routers know what one tells them.",
)
@click.option("--no-gossip", is_flag=True, help="Routers tell each other nothing.")
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
@click.option("--slow", metavar="N:SPEED[:CACHE]", help="So many replicas are slower: 4:0.5:0.5.")
@click.option(
    *("--fail", "fails"),
    multiple=True,
    metavar="AT:SECONDS[:REPLICA]",
    help="A replica dies, and is back, empty, after some seconds: 300:120.",
)
@click.option(
    *("--drain", "drains"),
    multiple=True,
    metavar="AT[:REPLICA]",
    help="A replica takes no new request from then on.",
)
@click.option(
    *("--join", "joins"), multiple=True, metavar="AT[:N]", help="So many more replicas come, empty."
)
@click.option(
    *("-c", "--config"),
    type=click.Path(exists=True, path_type=Path),
    help="Take limits, queue, retries and, without --policy, the balancer from a configuration.",
)
@click.option("--cluster", help="Which cluster of the configuration, where there are several.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Draw TTFT, its spread and its course, to this .svg or .png (extra `plot`).",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Processes; as many as there are cores by default."
)
@output_option
def simulate_command(
    trace: Path | None,
    policies: tuple[str, ...],
    jobs: int | None,
    output: str,
    config: Path | None,
    cluster: str | None,
    plot: Path | None,
    **options: Any,
) -> None:
    """Simulate policies on recorded traffic, in front of modelled engines.

    TRACE is a file of requests (docs/simulate.md says which); ten minutes of Mooncake's
    conversations by default. Every policy meets the same requests. The first 40 % of each run only
    fill caches. After an incident the minute from it on is also told for itself.
    """
    from router.config.findings import ConfigError
    from router.sim.configured import NoSuchCluster, settings
    from router.sim.data import CONVERSATION
    from router.sim.policies import PolicyError, parse
    from router.sim.report import report
    from router.sim.trace import TraceError

    if cluster is not None and config is None:
        raise click.UsageError("--cluster is of a configuration: give --config")
    try:
        given = None if config is None else settings(config, cluster)
        chosen = [parse(text) for text in policies]
        if not chosen:
            chosen = [parse(text) for text in USUAL] if given is None else [given.policy]
        study = _study(trace or CONVERSATION, chosen, given, options)
    except ConfigError as error:
        for finding in error.findings:
            click.echo(str(finding), err=True)
        raise SystemExit(1) from None
    except (NoSuchCluster, PolicyError, TraceError) as error:
        raise click.UsageError(str(error)) from None
    if plot is not None:
        simulate_options.check_plot(plot)
        study = msgspec.structs.replace(study, curves=True)
    runs = _run(study, jobs or os.cpu_count() or 1)
    told = report(study, runs) | {"regime": options["regime"]}
    if plot is not None:
        _draw(study, runs, headline(told), plot)
    if output == "json":
        # Not the json module: a figure of no request is NaN, which is no JSON; here it is null.
        click.echo(msgspec.json.format(msgspec.json.encode(told)))
    else:
        show(told)


def _study(
    path: Path, policies: "Sequence[Policy]", given: "Settings | None", options: dict[str, Any]
) -> "Study":
    from router.sim.profile import REGIMES
    from router.sim.scenario import Scenario
    from router.sim.study import Study, Traffic
    from router.sim.study import trace as read

    replicas, regime, duration = (options[name] for name in ("replicas", "regime", "duration"))
    recorded, base = read(path), REGIMES[regime]
    traffic = Traffic(
        trace=path,
        rate=simulate_options.rate(options["load"], recorded.name, regime, replicas),
        duration=duration,
        smooth=not options["raw_arrivals"],
    )
    template = Scenario(
        policy=policies[0],
        seed=0,
        replicas=simulate_options.fleet(base, replicas, options["slow"]),
        block=recorded.block,
        routers=options["routers"],
        gossip=None if options["no_gossip"] else options["gossip"],
        streaming=options["streaming"],
        scrape=options["scrape"],
        incidents=simulate_options.incidents(
            options["fails"], options["drains"], options["joins"], replicas, duration
        ),
    )
    if given is not None:
        template = given.applied(template)
    scenarios = tuple(
        msgspec.structs.replace(template, policy=policy, seed=seed)
        for seed in range(1, options["seeds"] + 1)
        for policy in policies
    )
    return Study(traffic=traffic, base=base, scenarios=scenarios)


def _draw(study: "Study", runs: "Sequence[Result]", title: str, path: Path) -> None:
    from router.sim.curves import Curves
    from router.sim.plot import draw

    found: dict[str, list[Curves]] = {}
    for scenario, run in zip(study.scenarios, runs, strict=True):
        assert run.curves is not None
        found.setdefault(scenario.policy.name, []).append(run.curves)
    draw(found, title, study.phases()[0].begin, path)


def _run(study: "Study", processes: int) -> "list[Result]":
    """The results, in order of the scenarios; shows how far it is where somebody looks."""
    from rich.console import Console
    from rich.progress import track

    from router.sim.study import perform_all
    from router.sim.trace import TraceError

    done: dict[int, Result] = {}
    console, total = Console(stderr=True), len(study.scenarios)
    ready: Iterable[tuple[int, Result]] = perform_all(
        [(study, index) for index in range(total)], processes
    )
    if console.is_terminal:
        ready = track(ready, "Simulating", total=total, console=console, transient=True)
    try:
        done.update(ready)
    except TraceError as error:
        raise click.UsageError(str(error)) from None
    return [done[index] for index in range(total)]

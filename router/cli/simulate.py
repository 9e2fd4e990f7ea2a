"""``warmpath simulate``: real traffic through the real core, in virtual time."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from router.cli import simulate_options
from router.cli.admin_client import output_option
from router.cli.simulate_runs import draw, perform, refusing
from router.cli.simulate_view import headline, show

if TYPE_CHECKING:
    from router.sim.configured import Settings
    from router.sim.scenario import Policy
    from router.sim.study import Study

USUAL = ("round_robin", "least_request", "predicted_ttft", "oracle")


@click.command("simulate")
@click.argument(
    "trace", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@simulate_options.policies(f"A balancer, or oracle; may be repeated. Without: {', '.join(USUAL)}.")
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
@simulate_options.seeds(3)
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
@simulate_options.config
@click.option("--cluster", help="Which cluster of the configuration, where there are several.")
@simulate_options.plot
@simulate_options.jobs
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
    from router.sim.configured import settings
    from router.sim.data import CONVERSATION
    from router.sim.policies import parse
    from router.sim.report import report

    if cluster is not None and config is None:
        raise click.UsageError("--cluster is of a configuration: give --config")
    with refusing():
        given = None if config is None else settings(config, cluster)
        chosen = [parse(text) for text in policies]
        if not chosen:
            chosen = [parse(text) for text in USUAL] if given is None else [given.policy]
        study = _study(trace or CONVERSATION, chosen, given, options)
    if plot is not None:
        simulate_options.check_plot(plot)
        study = msgspec.structs.replace(study, curves=True)
    (runs,) = perform([study], jobs)
    told = report(study, runs) | {"regime": options["regime"]}
    if plot is not None:
        draw(study, runs, headline(told), plot)
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
        block_bytes=recorded.block_bytes,
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

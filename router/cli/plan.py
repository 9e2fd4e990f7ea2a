"""``warmpath plan``: how many replicas of which GPU keep a promise, and what they cost."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from router.cli import plan_options, simulate_options
from router.cli.admin_client import output_option
from router.cli.plan_view import show
from router.cli.simulate_runs import refusing

if TYPE_CHECKING:
    from router.sim.sizing import Answer, Promise, Search


@click.command("plan")
@plan_options.traffic
@click.option(
    "--growth",
    type=click.FloatRange(0.01, 1000),
    default=1.0,
    show_default=True,
    help="Times the load.",
)
@click.option("--slo-ttft", default="2s", show_default=True, help="Until the first token: 500ms.")
@click.option("--slo-itl", help="Between the others, mean of each answer: 50ms.")
@click.option(
    "--slo-attainment",
    default="99%",
    show_default=True,
    metavar="SHARE",
    help="Share of the requests for which this holds: 0.99 or 99%.",
)
@click.option("--model", default="llama-3.1-8b", show_default=True, help="Of the data file.")
@click.option(
    "--precision",
    type=click.Choice(["bf16", "fp8"]),
    default="bf16",
    show_default=True,
    help="Of the weights.",
)
@click.option(
    *("--gpu", "gpus"), multiple=True, help="May be repeated; all of the data file by default."
)
@click.option(
    "--policy", default="predicted_ttft", show_default=True, metavar="NAME[:FIELD=VALUE,...]"
)
@click.option(
    *("--max-replicas", "most"), type=click.IntRange(1, 1024), default=64, show_default=True
)
@click.option(
    "--spare",
    type=click.IntRange(0, 64),
    default=0,
    show_default=True,
    help="Replicas that may be lost: so many die as the measured time begins.",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=10),
    default=300,
    show_default=True,
    help="Seconds of a run; the first 40 % are not judged.",
)
@simulate_options.seeds(3)
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with prices, GPUs or models of your own (docs/plan.md).",
)
@simulate_options.jobs
@output_option
def plan_command(jobs: int | None, output: str, **options: Any) -> None:
    """Find the fewest replicas of each GPU that keep a promise, and what they cost.

    Each count is simulated, behind the policy that is asked for; a promise is kept if it is in the
    run of every seed. Without --trace or --log the traffic is drawn as --rate and the options after
    it say. Speeds and prices come from a data file that names their sources; what nobody measured
    is derived from the GPU's bandwidth and operations, and marked ~.
    """
    from router.sim.catalogue import Unfit, load, offer
    from router.sim.plan_report import report
    from router.sim.policies import parse
    from router.sim.sizing import search

    with refusing(), tempfile.TemporaryDirectory(prefix="warmpath-") as folder:
        catalogue = load(options["data"])
        promise = _promise(options)
        demand, name = plan_options.demand(options, parse(options["policy"]), Path(folder))
        plan_options.known(catalogue, options["model"], options["gpus"])
        offers, unfit = {}, {}
        for gpu in options["gpus"] or catalogue.gpus:
            try:
                offers[gpu] = offer(catalogue, gpu, options["model"], options["precision"])
            except Unfit as why:
                unfit[gpu] = str(why)
        searches = {gpu: search(one, demand, promise) for gpu, one in offers.items()}
        found = _conduct(searches, jobs)
    answers = {gpu: (offers[gpu], answer) for gpu, answer in found.items()}
    told = report(name, demand, promise, answers, unfit) | {
        "model": options["model"],
        "precision": options["precision"],
    }
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(told)))
    else:
        show(told)
    raise SystemExit(0 if told["options"] else 1)


def _promise(options: dict[str, Any]) -> "Promise":
    from math import inf

    from router.sim.sizing import Promise

    itl = options["slo_itl"]
    if options["spare"] >= options["most"]:
        raise click.UsageError(
            f"with --spare {options['spare']} there must be more than --max-replicas "
            f"{options['most']}"
        )
    return Promise(
        ttft=plan_options.seconds("slo-ttft", options["slo_ttft"]),
        itl=inf if itl is None else plan_options.seconds("slo-itl", itl),
        attainment=plan_options.share("slo-attainment", options["slo_attainment"]),
        seeds=options["seeds"],
        spare=options["spare"],
        most=options["most"],
    )


def _conduct(searches: "dict[str, Search]", jobs: int | None) -> "dict[str, Answer]":
    """Shows how far it is where somebody looks."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from router.sim.conduct import conduct

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("Simulating", total=len(searches))
        return conduct(
            searches,
            jobs or os.cpu_count() or 1,
            lambda runs, over: progress.update(
                task, completed=over, description=f"{runs} simulations, GPUs done"
            ),
        )

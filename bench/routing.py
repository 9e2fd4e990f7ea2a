"""How good the router's choices are: its own core on real traffic, in virtual time.

    python -m bench.routing --traces DIR [--study-loads]

Eight modelled engines with a host tier, runs of 15 minutes of which the last nine are measured,
three seeds, more for one tail (see docs/simulate.md). Takes some 20 minutes of one core.
``bench.routing_traces`` says which traces it needs. Writes bench/results/routing.{md,json}, ends
with 1 if a target is missed. Loads are in per cent of what ``bench.capacity`` measured in this
simulator, for every policy alike; with ``--study-loads`` of what an earlier study found in its own,
and the files are bench/results/routing_study_loads.{md,json}.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click
import msgspec
from rich.progress import track

from bench.routing_targets import (
    ALL,
    GOSSIP,
    SEEDS,
    TARGETS,
    Case,
    Results,
    cases,
    mean,
    seeds_of,
)
from bench.routing_traces import TracesMissing, find, trace_options
from router.sim.capacity import CAPACITY, STUDY
from router.sim.incident import Fail
from router.sim.policies import parse
from router.sim.profile import OFF
from router.sim.scenario import Scenario
from router.sim.study import Study, Traffic, perform_all

RESULTS = Path(__file__).parent / "results"
REPLICAS = 8
DURATION = 900.0
NAMES = {"conv": "mooncake_conversation", "tool": "toolagent_like"}


Capacities = Mapping[tuple[str, str], float]


def study(case: Case, path: Path, capacities: Capacities = CAPACITY) -> Study:
    """All seeds of one case."""
    scenarios = tuple(
        Scenario(
            policy=parse(case.policy),
            replicas=(OFF,) * REPLICAS,
            block=512,
            seed=seed,
            routers=case.routers,
            gossip=GOSSIP,
            incidents=(Fail(540.0, 120.0, 0),) if case.fails else (),
        )
        for seed in seeds_of(case)
    )
    rate = case.load / 100 * capacities[NAMES[case.trace], "off"]
    return Study(
        traffic=Traffic(trace=path, rate=rate, duration=DURATION), base=OFF, scenarios=scenarios
    )


def run(paths: dict[str, Path], processes: int, capacities: Capacities = CAPACITY) -> Results:
    """All cases."""
    studies = [(case, study(case, paths[case.trace], capacities)) for case in cases()]
    runs = [(one, index) for _, one in studies for index in range(len(one.scenarios))]
    done = dict(track(perform_all(runs, processes), "Simulating", total=len(runs)))
    found = iter([done[index].phases for index in range(len(runs))])
    return {case: [next(found) for _ in one.scenarios] for case, one in studies}


def table(results: Results, capacities: Capacities = CAPACITY) -> str:
    """Targets, and beneath them every case, as Markdown."""
    lines = [
        "# Routing quality",
        "",
        "Written by `python -m bench.routing`: the router's own core on real traffic, in front of "
        f"{REPLICAS} modelled engines in virtual time; seeds 1 to {SEEDS} where no other number is "
        f"named, runs of {DURATION:g} s of which the last 60 % are measured. A simulation, not a "
        "measurement of GPUs: docs/simulate.md says what it leaves out.",
        "",
        loads(capacities),
        "",
        "| target | bound | measured | |",
        "|---|---|---|---|",
    ]
    for target in TARGETS:
        sign = ">=" if target.least else "<="
        verdict = "met" if target.met(results) else "**missed**"
        lines.append(
            f"| {target.goal} | {sign} {target.bound:g} | {target.value(results):.3f} | {verdict} |"
        )
    lines += [
        "",
        "| traffic | policy | hit rate | TTFT mean s | p50 | p99 | p99 slowdown | TPOT ms "
        "| in time % | lost |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(results, case) for case in results]
    return "\n".join([*lines, ""])


def loads(capacities: Capacities) -> str:
    """What per cent are of, in words."""
    rates = {kind: capacities[name, "off"] for kind, name in NAMES.items()}
    if capacities is STUDY:
        return (
            f"**Loads are of an earlier study's**: 100 % is {rates['conv']:g} requests a second of "
            f"conv and {rates['tool']:g} of tool, which that study's oracle answered 90 % of in "
            "time. In this simulator the oracle answers more of them in time, so these loads are "
            "lighter than their names say, for every policy; routing.md has them as measured here."
        )
    return (
        f"100 % is {rates['conv']:g} requests a second of conv and {rates['tool']:g} of tool, for "
        "every policy: what the early-binding oracle answers 90 % of in time in this very "
        "simulator (`python -m bench.capacity`). The bounds come from an earlier study with a "
        "simulator of its own, whose oracle bore "
        f"{STUDY[NAMES['conv'], 'off']:g} and {STUDY[NAMES['tool'], 'off']:g} by the same "
        "definition; routing_study_loads.md has the same targets at those loads."
    )


def _row(results: Results, case: Case) -> str:
    special = ", one fails" if case.fails else ""
    special += f", {case.routers} routers" if case.routers > 1 else ""
    figures = (
        ("hit_rate", 1, ".3f"),
        ("ttft_mean", 1, ".2f"),
        ("ttft_p50", 1, ".2f"),
        ("ttft_p99", 1, ".1f"),
        ("slowdown_p99", 1, ".1f"),
        ("tpot_mean", 1000, ".0f"),
        ("slo", 100, ".1f"),
        ("lost", 1, ".0f"),
    )
    cells = [
        format(mean(results, case, name, ALL) * factor, form) for name, factor, form in figures
    ]
    traffic = f"{case.trace} {case.load} %{special}"
    return f"| {traffic} | {case.policy} | {' | '.join(cells)} |"


def plain(results: Results) -> str:
    """Every run, as JSON."""
    runs = [
        case._asdict() | {"runs": msgspec.to_builtins(found)} for case, found in results.items()
    ]
    targets = [
        {
            "goal": target.goal,
            "bound": target.bound,
            "measured": target.value(results),
            "met": target.met(results),
        }
        for target in TARGETS
    ]
    return json.dumps({"targets": targets, "cases": runs}, indent=1) + "\n"


@click.command()
@trace_options
@click.option("--study-loads", is_flag=True, help="Loads of an earlier study.")
def main(traces: Path | None, jobs: int | None, study_loads: bool) -> None:
    """Measure the router's choices against their targets."""
    with tempfile.TemporaryDirectory() as made:
        try:
            paths = find(traces, Path(made))
        except TracesMissing as error:
            raise click.UsageError(str(error)) from None
        capacities = STUDY if study_loads else CAPACITY
        results = run(paths, jobs or os.cpu_count() or 1, capacities)
    text = table(results, capacities)
    name = "routing_study_loads" if study_loads else "routing"
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(plain(results))
    click.echo(text)
    raise SystemExit(0 if all(target.met(results) for target in TARGETS) else 1)


if __name__ == "__main__":
    main()

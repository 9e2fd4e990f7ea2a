"""``warmpath replay``: what another policy would have done with one's own traffic."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from router.cli import simulate_options
from router.cli.admin_client import output_option
from router.cli.replay_view import headline, show
from router.cli.simulate_runs import perform, refusing

if TYPE_CHECKING:
    from router.sim.access_log import Log
    from router.sim.configured import Settings
    from router.sim.profile import Profile
    from router.sim.recording import Recording
    from router.sim.scenario import Policy

USUAL = ("predicted_ttft", "round_robin", "least_request")


@click.command("replay")
@click.argument(
    *("logs",),
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
)
@simulate_options.policies(
    f"A balancer, or oracle; may be repeated. Without: the one in force, and {', '.join(USUAL)}."
)
@click.option(
    "--was",
    metavar="NAME[:FIELD=VALUE,...]",
    help="The balancer that was in force. Without: the configuration's, else by the log's reasons.",
)
@simulate_options.config
@click.option("--cluster", help="Which cluster of the log, where there are several.")
@click.option(
    "--without-prefix",
    is_flag=True,
    help="Replay a log without prefix hashes: nothing is found in simulated caches.",
)
@click.option(
    "--endpoints",
    type=click.IntRange(1, 1024),
    help="Engines to simulate; as many as there are in the log by default.",
)
@simulate_options.profile
@click.option(
    "--kv-tokens",
    type=click.IntRange(1000, 1 << 40),
    help="Room in an engine's cache, where it is not the profile's.",
)
@click.option("--fit", is_flag=True, help="Take the engines' speed from the log.")
@click.option(
    "--load",
    type=click.FloatRange(0, 100, min_open=True),
    default=1.0,
    show_default=True,
    help="Times the recorded traffic, by more or fewer conversations.",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=1),
    help="Only so many seconds of the log, from its first request on.",
)
@simulate_options.seeds(1)
@simulate_options.plot
@simulate_options.jobs
@output_option
def replay_command(
    logs: tuple[Path, ...],
    policies: tuple[str, ...],
    was: str | None,
    config: Path | None,
    cluster: str | None,
    plot: Path | None,
    jobs: int | None,
    output: str,
    **options: Any,
) -> None:
    """Simulate what other policies would have done with the traffic of an access log.

    LOGS are files of the router's access log (`access_log.prefix: salted`), rotated or not, gzipped
    or not, in any order; - is standard input. The first 40 % of the log only fill caches. The first
    line of the table is what the log itself says happened: see from the second how well the
    simulator knows your engines (docs/replay.md).
    """
    from router.sim.access_log import read
    from router.sim.configured import settings
    from router.sim.fit import fit
    from router.sim.plot import draw
    from router.sim.recording import record
    from router.sim.replay import Replay, report
    from router.sim.study import trace

    if plot is not None:
        simulate_options.check_plot(plot)
    with refusing(), tempfile.TemporaryDirectory(prefix="warmpath-") as folder:
        prefix = not options["without_prefix"]
        log = of_cluster(read(logs, sys.stdin.buffer, prefix=prefix), cluster)
        if options["duration"] is not None:
            log = log.first(options["duration"])
        given = None if config is None else settings(config, log.entries[0].line.cluster)
        recording = record(log)
        if not recording.endpoints and options["endpoints"] is None:
            raise click.UsageError("no request reached an endpoint: say how many with --endpoints")
        profile = _profile(options)
        fitted = fit(recording, profile) if options["fit"] else None
        if fitted is not None:
            profile = fitted.applied(profile)
        path = Path(folder) / "log.jsonl.gz"
        recording.write(path)
        in_force = _in_force(was, given, recording)
        replay = Replay(
            recording=recording,
            path=path,
            trace=trace(path),
            profile=profile,
            endpoints=options["endpoints"] or recording.endpoints,
            load=options["load"],
            seeds=options["seeds"],
            was=in_force,
            policies=_wanted(policies, in_force),
            given=given,
            prefix=prefix,
            drawn=plot is not None,
        )
        studies = replay.studies()
        results = dict(zip(studies, perform(list(studies.values()), jobs), strict=True))
    told = report(replay, log, fitted, results) | {"profile": options["profile"]}
    if plot is not None:
        draw(replay.curves(results), headline(told), replay.begin, plot)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(told)))
    else:
        show(told)


def of_cluster(log: "Log", cluster: str | None) -> "Log":
    """What one cluster was asked; which one must be said where there are several."""
    there = log.clusters()
    if cluster is None:
        if len(there) > 1:
            listed = ", ".join(f"{name} ({count})" for name, count in there.most_common())
            raise click.UsageError(f"the log is of several clusters: give --cluster: {listed}")
        return log
    if cluster not in there:
        raise click.UsageError(
            f"nothing to replay was sent to {cluster!r}: there are {', '.join(sorted(there))}"
        )
    return log.only(cluster)


def _profile(options: dict[str, Any]) -> "Profile":
    profile = simulate_options.engine(options["profile"])
    if options["kv_tokens"] is not None:
        profile = msgspec.structs.replace(profile, kv_tokens=options["kv_tokens"])
    return profile


def _in_force(was: str | None, given: "Settings | None", recording: "Recording") -> "Policy | None":
    from router.sim.in_force import policy
    from router.sim.policies import parse

    if was is not None:
        return parse(was)
    if given is not None:
        return given.policy
    guessed = policy(recording.reasons)
    return None if guessed is None else parse(guessed)


def _wanted(asked: Sequence[str], in_force: "Policy | None") -> "tuple[Policy, ...]":
    from router.sim.policies import parse

    if asked:
        return tuple(parse(text) for text in asked)
    usual = tuple(parse(text) for text in USUAL)
    if in_force is None or in_force.name in USUAL:
        return usual
    return (in_force, *usual)

"""The report of ``warmpath replay`` as a table."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from router.cli.simulate_view import Column, counted, table_of

COLUMNS: Final = (
    Column("hits", "hit_rate", ".3f"),
    Column("TTFT", "ttft_mean", ".2f", margin=True),
    Column("p50", "ttft_p50", ".2f"),
    Column("p90", "ttft_p90", ".2f"),
    Column("p99", "ttft_p99", ".1f"),
    Column("TPOT", "tpot_mean", ".0f", 1e3),
    Column("lost", "lost", ".0f"),
    Column("ref'd", "refused", ".0f"),
    Column("kTok", "computed_tokens", ".0f", 1e-3),
    Column("imb", "imbalance", ".2f"),
)

LEGEND: Final = (
    "hits: share of prompt tokens found in a cache; TTFT in s; TPOT in ms; lost: refused or broken "
    "off, ref'd those of them that no engine began; kTok: thousands of prompt tokens computed; "
    "imb: most requests at an endpoint over the mean. Measured: what came in the last 60 %"
)


def headline(report: Mapping[str, Any]) -> str:
    """What was replayed, and how."""
    how = f"{counted(report['replicas'], 'engine')} ({report['profile']})"
    if report["load"] != 1:
        how = f"{report['load']:g} times the load, {how}"
    return (
        f"cluster {report['cluster']}: {counted(report['replayed'], 'request')} in "
        f"{report['duration']:.0f} s from {report['from'][:19]} at "
        f"{counted(report['endpoints'], 'endpoint')}; simulated with {how}"
    )


def show(report: Mapping[str, Any]) -> None:
    """Print a report."""
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    console.print(escape(headline(report)))
    for line in _notes(report):
        console.print(escape(line))
    console.print(table_of(_rows(report), COLUMNS))
    for doubt in report["doubts"]:
        console.print(escape(f"doubtful: {doubt}"), style="yellow")
    if report["in_force"] is None:
        console.print(
            "The log does not tell which balancer was in force, so nothing is known of how well "
            "the simulator fits: give -c or --was.",
            style="yellow",
        )
    console.print(LEGEND, style="dim")


def _notes(report: Mapping[str, Any]) -> Iterator[str]:
    if report["excluded"]:
        left_out = "; ".join(f"{count} {why}" for why, count in report["excluded"].items())
        yield f"of {counted(report['lines'], 'line')} not replayed: {left_out}"
    if report["estimated"]:
        yield (
            f"{counted(report['estimated'], 'request')} failed without telling tokens: those are "
            "estimated, from bytes and the median answer"
        )
    if (fit := report["fit"]) is not None:
        yield (
            f"fitted to {counted(fit['requests'], 'request')} that met an idle endpoint: a prompt "
            f"token takes {fit['prefill']:.2f} times the profile's time, a step "
            f"{fit['decode']:.2f} times; {fit['overhead'] * 1e3:.0f} ms of TTFT are unexplained"
        )


def _rows(report: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "the log", report["logged"]
    if report["as_it_was"] is not None:
        yield f"simulated: {report['in_force']}", report["as_it_was"]
    for policy in report["policies"]:
        if policy["measures"] != report["as_it_was"] or policy["policy"] != report["in_force"]:
            yield policy["policy"], policy["measures"]

"""The report of ``warmpath simulate`` as a table."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple


class Column(NamedTuple):
    title: str
    measure: str
    form: str
    factor: float = 1.0
    margin: bool = False


COLUMNS: Final = (
    Column("hits", "hit_rate", ".3f"),
    Column("TTFT", "ttft_mean", ".2f", margin=True),
    Column("p50", "ttft_p50", ".2f"),
    Column("p99", "ttft_p99", ".1f"),
    Column("slow", "slowdown_p99", ".0f"),
    Column("TPOT", "tpot_mean", ".0f", 1e3),
    Column("SLO", "slo", ".0f", 100.0),
    Column("lost", "lost", ".0f"),
    Column("imb", "imbalance", ".2f"),
)

LEGEND: Final = (
    "TTFT in s, the mean ± half its 95 % confidence interval over seeds; slow: p99 of TTFT "
    "over the prompt's own on an idle, cold engine; TPOT in ms; SLO: % answered in time; lost: "
    "refused or broken off; imb: most requests at a replica over the mean"
)


def headline(report: Mapping[str, Any]) -> str:
    """What was simulated."""
    return (
        f"{report['trace']}: {report['rate']:.2f} requests a second for "
        f"{report['duration']:g} s, {report['replicas']} replicas ({report['regime']}), "
        f"{_counted(report['routers'], 'router')}, {_counted(len(report['seeds']), 'seed')}"
    )


def show(report: Mapping[str, Any]) -> None:
    """Print a report."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column as RichColumn
    from rich.table import Table

    console = Console()
    console.print(escape(headline(report)))
    table = Table(
        RichColumn("policy", overflow="fold", min_width=14),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 0, 0, 1),
    )
    for column in COLUMNS:
        table.add_column(column.title, justify="right", no_wrap=True)
    for policy in report["policies"]:
        for index, phase in enumerate(policy["phases"]):
            name = f"  {phase['phase']}" if index else policy["policy"]
            cells = [_cell(phase["measures"][column.measure], column) for column in COLUMNS]
            table.add_row(escape(name), *cells)
    console.print(table)
    console.print(LEGEND, style="dim")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _cell(estimate: Mapping[str, float | None], column: Column) -> str:
    mean, margin = estimate["mean"], estimate["margin"]
    if mean is None:
        return "-"
    text = format(mean * column.factor, column.form)
    if margin is None or not column.margin:
        return text
    return f"{text} ±{margin / mean:.0%}" if mean else text

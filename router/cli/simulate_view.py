"""The report of ``warmpath simulate`` as a table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from rich.table import Table


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
        f"{counted(report['routers'], 'router')}, {counted(len(report['seeds']), 'seed')}"
    )


def show(report: Mapping[str, Any]) -> None:
    """Print a report."""
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    console.print(escape(headline(report)))
    rows = [
        (f"  {phase['phase']}" if index else policy["policy"], phase["measures"])
        for policy in report["policies"]
        for index, phase in enumerate(policy["phases"])
    ]
    console.print(table_of(rows, COLUMNS))
    console.print(LEGEND, style="dim")


def table_of(
    rows: Iterable[tuple[str, Mapping[str, Any]]], columns: Sequence[Column], first: str = "policy"
) -> "Table":
    """A line for each row: its name, and its measures."""
    from rich import box
    from rich.markup import escape
    from rich.table import Column as RichColumn
    from rich.table import Table

    table = Table(
        RichColumn(first, overflow="fold", min_width=14),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 0, 0, 1),
    )
    for column in columns:
        table.add_column(column.title, justify="right", no_wrap=True)
    for name, measures in rows:
        cells = [_cell(measures[column.measure], column) for column in columns]
        table.add_row(escape(name), *cells)
    return table


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _cell(estimate: Mapping[str, float | None], column: Column) -> str:
    mean, margin = estimate["mean"], estimate["margin"]
    if mean is None:
        return "-"
    text = format(mean * column.factor, column.form)
    if margin is None or not column.margin:
        return text
    return f"{text} ±{margin / mean:.0%}" if mean else text

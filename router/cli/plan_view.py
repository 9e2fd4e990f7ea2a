"""The report of ``warmpath plan`` as a table."""

from collections.abc import Mapping
from typing import Any

from router.cli.simulate_view import counted

TITLES = ("n", "in time", "p50", "p99", "hits", "busy", "prefill", "room", "$/month", "$/Mtok")

LEGEND = (
    "in time: share of the requests, of the worst seed; p50 and p99 of TTFT in s; hits: share of "
    "prompt tokens found in a cache; busy: share of the time that engines compute, prefill: that "
    "they compute prompts; room: more load with which they keep the promise, in tenths; $/Mtok: of "
    "prompt and answer tokens alike; ~: speed derived, not measured"
)


def headline(report: Mapping[str, Any]) -> str:
    """What was asked."""
    promise = report["promise"]
    itl = "" if promise["itl"] is None else f" and {promise['itl'] * 1e3:g} ms between tokens"
    spare = "" if not promise["spare"] else f", {promise['spare']} lost"
    return (
        f"{report['traffic']}: {report['rate']:.2f} requests a second for {report['model']} in "
        f"{report['precision']} behind {report['policy']}; {promise['attainment']:.4g} of them "
        f"within {promise['ttft']:g} s{itl} in each of {counted(promise['seeds'], 'seed')}{spare}"
    )


def show(report: Mapping[str, Any]) -> None:
    """Print a report."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    console.print(escape(headline(report)))
    if report["options"]:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
        table.add_column("GPU", no_wrap=True)
        for title in TITLES:
            table.add_column(title, justify="right", no_wrap=True)
        for index, option in enumerate(report["options"]):
            cells = _cells(option)
            table.add_row(*map(escape, cells), style="" if index else "bold green")
        console.print(table)
        _why(console, report)
    else:
        console.print("Nothing keeps the promise.", style="yellow")
    for one in report["impossible"]:
        console.print(escape(f"{one['gpu']}: {one['reason']}"), style="yellow")
    console.print(LEGEND, style="dim")


def _cells(option: Mapping[str, Any]) -> tuple[str, ...]:
    measures = option["measures"]
    more = "≥" if option["headroom"] >= 1 else ""
    per_million = option["usd_per_million_tokens"]
    return (
        option["gpu"] + (" ~" if option["derived"] else ""),
        str(option["replicas"]),
        f"{option['attained']:.2%}",
        f"{measures['ttft_p50']['mean']:.2f}",
        f"{measures['ttft_p99']['mean']:.2f}",
        f"{measures['hit_rate']['mean']:.3f}",
        f"{option['busy']:.0%}",
        f"{option['prefilling']:.0%}",
        f"{more}{option['headroom']:.0%}",
        f"{option['usd_per_month']:,.0f}",
        "-" if per_million is None else f"{per_million:.3f}",
    )


def _why(console: Any, report: Mapping[str, Any]) -> None:
    """What is cheapest, and why not fewer of it."""
    from rich.markup import escape

    best = report["options"][0]
    fewer = best["attained_with_one_fewer"]
    text = f"Cheapest: {best['replicas']} x {best['gpu']}"
    if fewer is not None:
        text += f"; with one fewer {fewer:.2%} are in time"
    price = best["price"]
    text += f". ${price['usd_per_hour']:g} an hour: {price['source']}, {price['date']}."
    console.print(escape(text))

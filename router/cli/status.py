"""``warmpath status``: every endpoint, its state and its load, on one screen."""

import json
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from router.cli.admin_client import AdminClient, admin_options, output_option

_COLOURS = {"ready": "green", "drain": "yellow", "maint": "magenta"}


@click.command("status")
@output_option
@admin_options
def status_command(admin: AdminClient, output: str) -> None:
    """Show the router, its clusters and endpoints.

    Exits with 1 if the router is not ready.
    """
    info = admin.call("GET", "/server_info")
    clusters = admin.call("GET", "/clusters")["clusters"]
    if output == "json":
        click.echo(json.dumps({"server": info, "clusters": clusters}, indent=2))
    else:
        _print(info, clusters)
    sys.exit(0 if info["ready"] else 1)


def _print(info: dict[str, Any], clusters: list[dict[str, Any]]) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=160)
    serving = sum(1 for worker in info["workers"] if worker["state"] == "serving")
    console.print(
        f"warmpath {info['version']} {info['state']}, generation {info['generation']}, "
        f"{serving}/{len(info['workers'])} workers, {info['connections']} connections, "
        f"up {_duration(info['uptime'])}",
        highlight=False,
    )
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("cluster", "endpoint", "state", "health"):
        table.add_column(column, no_wrap=True)
    for column in ("weight", "in flight", "ok", "failed", "running", "waiting", "kv", "report"):
        table.add_column(column, justify="right")
    for cluster in clusters:
        for endpoint in cluster["endpoints"]:
            table.add_row(*_row(cluster["name"], endpoint))
    console.print(table)
    for cluster in clusters:
        for breaker, queue in cluster["queue"]["breakers"].items():
            if line := _queue(queue):
                name = cluster["name"] + (" (high)" if breaker == "high" else "")
                console.print(f"queue of {name}: {line}", markup=False, highlight=False)
    for cluster in clusters:
        if (discovery := cluster["discovery"]) and discovery["state"] != "current":
            text = f"discovery of {cluster['name']}: {discovery['state']}"
            why = discovery["error"] or (
                "no answer yet" if discovery["empty_for"] is None else "it finds no endpoint"
            )
            console.print(f"{text}, {why}", style="yellow", markup=False, highlight=False)


def _queue(queue: dict[str, Any]) -> str:
    """Who waits, how fast the line moves and who was refused; empty where nobody ever waited."""
    words = [f"{count} {priority}" for priority, count in queue["waiting"].items() if count]
    if not (words or queue["rejected"] or queue["granted"]):
        return ""
    rate = "-" if queue["drain_rate"] is None else f"{queue['drain_rate']:.2f}/s"
    refused = ", ".join(f"{n} {cause}" for cause, n in sorted(queue["rejected"].items())) or "none"
    shut = [name for name, left in queue["remaining"].items() if not left]
    line = f"{', '.join(words) or 'nobody'} waiting, drains {rate}, {queue['granted']} granted"
    return f"{line}, refused: {refused}" + (f"; open: {', '.join(shut)}" if shut else "")


class Cells(NamedTuple):
    """What a table shows of an endpoint; the first two may hold markup."""

    state: str
    health: str
    running: str
    waiting: str
    kv: str
    report: str


def cells_of(endpoint: dict[str, Any]) -> Cells:
    state = endpoint["state"]
    words = f"[{_COLOURS.get(state, 'white')}]{state}[/]"
    if (override := endpoint["override"]) and override["expires_in"] is not None:
        words += f" {_duration(override['expires_in'])} left"
    health = {True: "[green]healthy[/]", False: "[red]unhealthy[/]", None: "-"}[endpoint["healthy"]]
    if (outlier := endpoint["outlier"]) and outlier["ejected"]:
        health = f"[red]ejected[/], back in {_duration(outlier['returns_in'])}"
    elif endpoint["pushed_back_for"]:
        health = f"[yellow]full[/], for {_duration(endpoint['pushed_back_for'])}"
    load = endpoint["load"]
    running = waiting = usage = report = "-"
    if load is not None:
        report = _duration(load["age"])
        if load["fresh"]:
            running, waiting = str(load["running"]), str(load["waiting"])
            usage = "-" if load["kv_usage"] is None else f"{load['kv_usage']:.0%}"
    return Cells(words, health, running, waiting, usage, report)


def ended(outcomes: Mapping[str, int]) -> tuple[int, int]:
    """Attempts that went well and those that did not; those that clients gave up are neither."""
    good = outcomes.get("success", 0)
    return good, sum(outcomes.values()) - good - outcomes.get("abandoned", 0)


def _row(cluster: str, endpoint: dict[str, Any]) -> list[str]:
    cells = cells_of(endpoint)
    return [
        cluster,
        escape(endpoint["address"]),  # [fd00::1] would be a tag
        cells.state,
        cells.health,
        str(endpoint["weight"]),
        str(endpoint["in_flight"]),
        *map(str, ended(endpoint["outcomes"])),
        cells.running,
        cells.waiting,
        cells.kv,
        cells.report,
    ]


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}s"
    if seconds < 3600:
        return f"{seconds / 60:.0f}m"
    return f"{seconds / 3600:.1f}h"

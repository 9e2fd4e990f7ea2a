"""``warmpath top``: who is busy now, refreshed until interrupted."""

import sys
import time
from collections.abc import Mapping
from typing import Any

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from router.cli.admin_client import TIMEOUT, AdminClient, admin_options
from router.cli.events import line_of, parsed
from router.cli.status import cells_of, ended

LATEST = "/events?last=5&follow=no"
"""What is shown below the table."""

Counts = Mapping[str, int]


class Sample(msgspec.Struct, frozen=True):
    """What the router said at one time. ``outcomes``: by cluster and address."""

    at: float
    info: dict[str, Any]
    clusters: list[dict[str, Any]]
    events: list[dict[str, Any]]

    def outcomes(self) -> dict[tuple[str, str], Counts]:
        return {
            (cluster["name"], endpoint["address"]): endpoint["outcomes"]
            for cluster in self.clusters
            for endpoint in cluster["endpoints"]
        }


@click.command("top")
@click.option("--interval", type=click.FloatRange(min=0.1), default=1.0, show_default=True,
              help="Seconds between two looks.")  # fmt: skip
@click.option("--count", type=click.IntRange(min=1), help="End after so many looks.")
@admin_options
def top_command(admin: AdminClient, interval: float, count: int | None) -> None:
    """Show who is busy: requests a second, in flight and failed, by endpoint.

    The busiest come first; below them stands what happened last. Ctrl-C ends it.
    """
    before: Sample | None = None
    console = Console() if sys.stdout.isatty() else Console(width=160)
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        try:
            while count is None or count > 0:
                now = sample(admin)
                shown = picture(before, now)
                if console.is_terminal:
                    live.update(shown, refresh=True)
                else:
                    console.print(shown)
                before = now
                count = None if count is None else count - 1
                if count != 0:
                    time.sleep(interval)
        except KeyboardInterrupt:
            pass


def sample(admin: AdminClient) -> Sample:
    """Ask the router."""
    return Sample(
        at=time.monotonic(),
        info=admin.call("GET", "/server_info"),
        clusters=admin.call("GET", "/clusters")["clusters"],
        events=[data for _, _, data in parsed(admin.lines(LATEST, {}, TIMEOUT))],
    )


def rates(before: Sample | None, now: Sample) -> dict[tuple[str, str], tuple[float, float]]:
    """Requests a second that succeeded and that failed, by cluster and address.

    A router that was started anew counts from zero; so does an endpoint that is new.
    """
    earlier = {} if before is None else before.outcomes()
    seconds = max(now.at - before.at, 1e-3) if before is not None else 0.0
    found = {}
    for key, outcomes in now.outcomes().items():
        good, bad = ended(outcomes)
        good_before, bad_before = ended(earlier.get(key, {}))
        if seconds and key in earlier:
            found[key] = (
                max(0, good - good_before) / seconds,
                max(0, bad - bad_before) / seconds,
            )
        else:
            found[key] = (0.0, 0.0)
    return found


def picture(before: Sample | None, now: Sample) -> Group:
    """One screen."""
    speed, info = rates(before, now), now.info
    serving = sum(1 for worker in info["workers"] if worker["state"] == "serving")
    head = Text(
        f"warmpath {info['version']} {info['state']}, {serving}/{len(info['workers'])} workers, "
        f"{info['connections']} connections, {sum(good for good, _ in speed.values()):.1f} "
        f"requests/s, {sum(bad for _, bad in speed.values()):.1f} failed/s"
    )
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("cluster", "endpoint", "state", "health"):
        table.add_column(column, no_wrap=True)
    for column in ("ok/s", "failed/s", "in flight", "running", "waiting", "kv", "weight"):
        table.add_column(column, justify="right")
    rows = [(c["name"], e) for c in now.clusters for e in c["endpoints"]]
    rows.sort(key=lambda row: (row[1]["in_flight"], speed[row[0], row[1]["address"]]), reverse=True)
    for cluster, endpoint in rows:
        cells = cells_of(endpoint)
        good, bad = speed[cluster, endpoint["address"]]
        failed = f"[red]{bad:.1f}[/]" if bad else "0.0"
        table.add_row(
            cluster,
            escape(endpoint["address"]),
            cells.state,
            cells.health,
            f"{good:.1f}",
            failed,
            str(endpoint["in_flight"]),
            cells.running,
            cells.waiting,
            cells.kv,
            str(endpoint["weight"]),
        )
    lines = [Text(line_of(event), style="dim") for event in now.events]
    return Group(head, table, *lines)

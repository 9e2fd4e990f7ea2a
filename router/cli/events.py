"""``warmpath events``: what happens to a router, as it happens."""

import json
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import click

from router.cli.admin_client import AdminClient, admin_options, output_option

SILENCE = 60.0
"""Seconds; the router sends a comment four times as often."""
PAUSE = 2.0
NOTICES = ("missed", "dropped")


@click.command("events")
@click.option("--last", type=click.IntRange(0, 1024), default=20, show_default=True,
              help="Begin with so many of the past.")  # fmt: skip
@click.option("--kinds", metavar="KIND,...", help="Only these, e.g. ejection,health.")
@click.option("--follow/--no-follow", default=True, help="Go on until interrupted.  [default: on]")
@output_option
@admin_options
def events_command(
    admin: AdminClient, output: str, last: int, kinds: str | None, follow: bool
) -> None:
    """Show ejections, health changes, drains, reloads and whatever else happens.

    A stream that breaks off is resumed where it was.
    """
    query = f"last={last}" + (f"&kinds={kinds}" if kinds else "") + ("" if follow else "&follow=no")
    seen, reached = "", False
    while True:
        headers = {"last-event-id": seen} if seen else {}
        try:
            for name, id_, data in parsed(admin.lines(f"/events?{query}", headers, SILENCE)):
                reached = True
                seen = id_ or seen
                _show(name, data, output)
        except OSError as error:
            if not reached:
                admin.unreachable(error)
            click.echo("the stream broke off, resuming", err=True)
        except KeyboardInterrupt:
            return
        if not follow:
            return
        reached = True
        time.sleep(PAUSE)


def parsed(lines: Iterator[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, id and data of each event; data is one line of JSON."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            if "data" in fields:
                yield fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"])
            fields = {}


def _show(name: str, data: dict[str, Any], output: str) -> None:
    if name in NOTICES:
        click.echo(f"{name}: {data['message']}", err=True)
    elif output == "json":
        click.echo(json.dumps(data))
    else:
        click.echo(line_of(data))


def line_of(event: Mapping[str, Any]) -> str:
    """An event on one line."""
    at = datetime.fromtimestamp(event["at"]).astimezone().strftime("%H:%M:%S.%f")[:-3]
    words = [
        f"{key}={_word(value)}"
        for key, value in event.items()
        if key not in ("at", "kind") and value not in (None, [])
    ]
    return f"{at} {event['kind']:<10} {' '.join(words)}"


def _word(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_word, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    # A path of somebody's choice must not forge a line, nor speak to the terminal.
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(value))

"""``warmpath drain | ready | weight | undo``: what an operator wants of one endpoint."""

import sys
import time
from typing import Any

import click

from router.cli.admin_client import AdminClient, admin_options, endpoint_path

POLL_INTERVAL = 0.25

_TTL = click.option("--ttl", metavar="DURATION", help="Take it back after so long, e.g. 10m.")


def _patch(admin: AdminClient, name: str, wanted: dict[str, Any], ttl: str | None) -> Any:
    if ttl is not None:
        wanted["ttl"] = ttl
    endpoint = admin.call("PATCH", endpoint_path(name), wanted)
    click.echo(f"{name}: {endpoint['state']}, weight {endpoint['weight']}")
    return endpoint


@click.command("drain")
@click.argument("endpoint", metavar="CLUSTER/HOST:PORT")
@click.option("--wait", is_flag=True, help="Wait until nothing is in flight there.")
@click.option("--timeout", type=click.FloatRange(min=0), default=600.0, show_default=True,
              help="Longest wait without a deadline, in seconds.")  # fmt: skip
@click.option("--deadline", metavar="DURATION",
              help="End what is still in flight after so long, e.g. 10m.")  # fmt: skip
@click.option("--undo-on-timeout", is_flag=True,
              help="At the deadline take the drain back instead.")  # fmt: skip
@click.option("--maint", is_flag=True, help="Maintenance: stop probing it, too.")
@_TTL
@admin_options
def drain_command(
    admin: AdminClient,
    endpoint: str,
    wait: bool,
    timeout: float,
    deadline: str | None,
    undo_on_timeout: bool,
    maint: bool,
    ttl: str | None,
) -> None:
    """Give an endpoint no new requests; those it has finish.

    With --wait, says how far it is, and exits with 1 if requests are still in flight at the
    time-out, or if the drain was taken back.
    """
    if undo_on_timeout and deadline is None:
        raise click.UsageError("--undo-on-timeout needs a --deadline")
    wanted = {"state": "maint" if maint else "drain"}
    if deadline is not None:
        wanted |= {"deadline": deadline, "on_deadline": "undo" if undo_on_timeout else "cancel"}
    _patch(admin, endpoint, wanted, ttl)
    if wait:
        _wait(admin, endpoint, None if deadline is not None else time.monotonic() + timeout)


def _wait(admin: AdminClient, name: str, give_up: float | None) -> None:
    """Follow a drain to its end. ``give_up``: monotonic seconds; None: the drain has an end."""
    shown, cancelled = "", False
    while True:
        endpoint = admin.call("GET", endpoint_path(name))
        drain = endpoint["drain"]
        if drain is None:
            click.echo(f"{name}: taken back, {endpoint['in_flight']} in flight", err=True)
            sys.exit(1)
        cancelled = cancelled or drain["state"] == "cancelled"
        if not endpoint["in_flight"]:
            click.echo(f"{name}: drained" + (", the rest was cancelled" if cancelled else ""))
            return
        words = _progress(drain)
        if words != shown:
            click.echo(f"{name}: {words}")
            shown = words
        if give_up is not None and time.monotonic() >= give_up:
            click.echo(f"{name}: still {endpoint['in_flight']} in flight", err=True)
            sys.exit(1)
        time.sleep(POLL_INTERVAL)


def _progress(drain: dict[str, Any]) -> str:
    words = f"{drain['in_flight']} of {drain['began_with']} in flight"
    if drain["requests"] > drain["unknown"]:
        words += f", at most {drain['tokens_left']} tokens to come"
    if drain["unknown"]:
        words += f", {drain['unknown']} without a limit"
    return words


@click.command("undo")
@click.argument("endpoint", metavar="CLUSTER/HOST:PORT")
@admin_options
def undo_command(admin: AdminClient, endpoint: str) -> None:
    """Take back whatever operators changed at an endpoint: state, weight, deadlines."""
    told = admin.call("DELETE", endpoint_path(endpoint) + "/override", {})
    click.echo(f"{endpoint}: {told['state']}, weight {told['weight']}")


@click.command("ready")
@click.argument("endpoint", metavar="CLUSTER/HOST:PORT")
@admin_options
def ready_command(admin: AdminClient, endpoint: str) -> None:
    """Take a drain or maintenance back."""
    _patch(admin, endpoint, {"state": "ready"}, None)


@click.command("weight")
@click.argument("endpoint", metavar="CLUSTER/HOST:PORT")
@click.argument("weight", type=click.IntRange(min=1))
@_TTL
@admin_options
def weight_command(admin: AdminClient, endpoint: str, weight: int, ttl: str | None) -> None:
    """Change an endpoint's load-balancing weight until a restart."""
    _patch(admin, endpoint, {"weight": weight}, ttl)

"""``warmpath drain | ready | weight``: what an operator wants of one endpoint."""

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
              help="Longest wait, in seconds.")  # fmt: skip
@click.option("--maint", is_flag=True, help="Maintenance: stop probing it, too.")
@_TTL
@admin_options
def drain_command(
    admin: AdminClient, endpoint: str, wait: bool, timeout: float, maint: bool, ttl: str | None
) -> None:
    """Give an endpoint no new requests; those it has finish.

    With --wait, exits with 1 if requests are still in flight at the time-out.
    """
    _patch(admin, endpoint, {"state": "maint" if maint else "drain"}, ttl)
    if not wait:
        return
    deadline = time.monotonic() + timeout
    while in_flight := admin.call("GET", endpoint_path(endpoint))["in_flight"]:
        if time.monotonic() >= deadline:
            click.echo(f"{endpoint}: still {in_flight} in flight", err=True)
            sys.exit(1)
        time.sleep(POLL_INTERVAL)
    click.echo(f"{endpoint}: drained")


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

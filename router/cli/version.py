"""``warmpath version``."""

import platform

import click

from router.telemetry.version import COMPILED, VERSION


@click.command("version")
def version_command() -> None:
    """Print the version, and whether the data plane is compiled."""
    form = "compiled" if COMPILED else "interpreted"
    click.echo(f"warmpath {VERSION} (Python {platform.python_version()}, {form})")

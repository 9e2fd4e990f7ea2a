"""``warmpath version``."""

import platform

import click

from router.telemetry.version import VERSION


@click.command("version")
def version_command() -> None:
    """Print the version."""
    click.echo(f"warmpath {VERSION} (Python {platform.python_version()})")

"""``warmpath serve``: run the router."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import click

from router.app import CannotServe, Overrides, serve
from router.config.build import from_backends
from router.config.findings import ConfigError
from router.config.schema import Config
from router.config.units import Address
from router.control.config_watch import ConfigWatch
from router.telemetry import logs


def _address(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        return str(Address.parse(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command("serve")
@click.option(
    *("-c", "--config"),
    type=click.Path(exists=True, path_type=Path),
    envvar="WARMPATH_CONFIG",
    help="Configuration file, or a directory of them.",
)
@click.option(
    *("--backend", "backends"),
    multiple=True,
    metavar="URL",
    help="An engine, e.g. http://localhost:8000; instead of a configuration. Repeatable.",
)
@click.option(
    "--listen", callback=_address, metavar="HOST:PORT", help="Address of the first listener."
)
@click.option(
    "--admin",
    callback=_address,
    envvar="WARMPATH_ADMIN_ADDRESS",
    metavar="HOST:PORT",
    help="Address of the admin API.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    envvar="WARMPATH_WORKERS",
    help="Worker processes; one per core unless configured.",
)
@click.option(
    "--watch",
    is_flag=True,
    envvar="WARMPATH_WATCH",
    help="Reload when the configuration's files change.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    envvar="WARMPATH_LOG_LEVEL",
    show_default=True,
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json"]),
    default="auto",
    envvar="WARMPATH_LOG_FORMAT",
    show_default=True,
    help="Of control's own log on standard error.",
)
def serve_command(
    config: Path | None,
    backends: tuple[str, ...],
    listen: str | None,
    admin: str | None,
    workers: int | None,
    watch: bool,
    log_level: str,
    log_format: logs.Format,
) -> None:
    """Run the router.

    SIGTERM drains and ends it, SIGHUP reloads the configuration; so does --watch by itself.
    """
    if (config is None) == (not backends):
        raise click.UsageError("give either --config or --backend")
    if watch and config is None:
        raise click.UsageError("--watch needs --config: there is no file to watch")
    logs.configure(log_level, log_format)
    files = None if config is None else ConfigWatch(config)
    read, source = _source(files, backends)
    overrides = Overrides(listen=listen, admin=admin, workers=workers)
    try:
        asyncio.run(serve(read, source, overrides, _say, files if watch else None))
    except ConfigError as error:
        for finding in error.findings:
            click.echo(f"error: {finding}", err=True)
        sys.exit(1)
    except CannotServe as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _source(
    files: ConfigWatch | None, backends: tuple[str, ...]
) -> tuple[Callable[[], Config], str]:
    if files is None:
        return lambda: from_backends(backends), "--backend " + " ".join(backends)
    return files.read, str(files.path)

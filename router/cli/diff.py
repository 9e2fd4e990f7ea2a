"""``warmpath diff``: what a reload from one configuration to another would change.

Reads both as ``serve`` would, applies the reload's own rule of what only a restart changes, and
shows the very lines that a reload logs, with the routes and endpoints told apart in front.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from router.cli.admin_client import output_option

if TYPE_CHECKING:
    from router.config.schema import Config

DIFFERENT = 1
TROUBLE = 2
HIDDEN = "~ a secret"


@click.command("diff")
@click.argument("old", type=click.Path(exists=True, path_type=Path))
@click.argument("new", type=click.Path(exists=True, path_type=Path))
@output_option
def diff_command(old: Path, new: Path, output: str) -> None:
    """Show what a reload from OLD to NEW would change.

    Exits as diff(1) does: 0 nothing, 1 something, 2 a file cannot be used.
    """
    from router.config.build import build
    from router.config.findings import ConfigError
    from router.config.load import load

    configs = []
    for path in (old, new):
        try:
            config = load(path)
            build(config, 1)
        except ConfigError as error:
            for finding in error.findings:
                click.echo(str(finding), err=True)
            raise SystemExit(TROUBLE) from None
        configs.append(config)
    report = compare(*configs)
    if output == "json":
        click.echo(json.dumps(report, indent=2))
    else:
        _print(report)
    raise SystemExit(0 if report["same"] else DIFFERENT)


def compare(before: "Config", after: "Config") -> dict[str, Any]:
    """What differs, as plain data.

    Returns:
        ``changes``: lines that a reload brings in force; ``needs_restart``: lines that it does
        not; ``routes``, ``clusters`` and ``endpoints``: names that come and go, and whether the
        routes that stay change their order; ``same``: whether there is nothing of all this.
    """
    import msgspec

    from router.config.schema import redacted
    from router.control.differences import differences
    from router.control.store import STATIC_FIELDS

    running = {name: getattr(before, name) for name in STATIC_FIELDS}
    effective = msgspec.structs.replace(after, **running)
    changes, needs_restart = (
        # What is hidden on both sides looks alike and may differ all the same.
        differences(redacted(old), redacted(new)) or ([] if old == new else [HIDDEN])
        for old, new in ((before, effective), (effective, after))
    )
    routes = [[route.name for route in config.routes] for config in (before, after)]
    stay = set(routes[0]) & set(routes[1])
    return {
        "same": not changes and not needs_restart,
        "routes": {
            **_names(*routes),
            "reordered": [n for n in routes[0] if n in stay] != [n for n in routes[1] if n in stay],
        },
        "clusters": _names(*([c.name for c in config.clusters] for config in (before, after))),
        "endpoints": _names(_endpoints(before), _endpoints(after)),
        "changes": changes,
        "needs_restart": needs_restart,
    }


def _endpoints(config: "Config") -> list[str]:
    return [f"{c.name}/{endpoint.address}" for c in config.clusters for endpoint in c.endpoints]


def _names(before: Iterable[str], after: Iterable[str]) -> dict[str, Any]:
    old, new = list(before), list(after)
    was, will = set(old), set(new)
    return {
        "joining": [name for name in new if name not in was],
        "leaving": [name for name in old if name not in will],
    }


def _print(report: dict[str, Any]) -> None:
    if report["same"]:
        click.echo("no change")
        return
    for what in ("clusters", "routes", "endpoints"):
        for way in ("joining", "leaving"):
            _line(f"{what} {way}", report[what][way])
    if report["routes"]["reordered"]:
        click.echo("routes change their order: another one may match first")
    _block("a reload brings in force", report["changes"])
    _block("needs a restart", report["needs_restart"])


def _line(title: str, names: Sequence[str]) -> None:
    if names:
        click.echo(f"{title}: {', '.join(names)}")


def _block(title: str, lines: Sequence[str]) -> None:
    if lines:
        click.echo(f"{title}:")
        for line in lines:
            click.echo(f"  {line}")

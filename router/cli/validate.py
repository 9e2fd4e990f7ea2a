"""``warmpath validate``: is this configuration good? Builds the very snapshot that would serve."""

import json
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from router.config.findings import ConfigError, Finding

DEFAULT_PATH = "warmpath.yaml"


def print_findings(findings: Sequence[Finding], output: str) -> None:
    """One finding a line, or a JSON object with all of them."""
    if output == "json":
        body = {"ok": not findings, "findings": [msgspec.to_builtins(one) for one in findings]}
        click.echo(json.dumps(body, indent=2))
        return
    for finding in findings:
        click.echo(str(finding))


@click.command("validate")
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
def validate_command(paths: tuple[Path, ...], output: str) -> None:
    """Check configuration files, or directories of them, and route tests.

    Prints file:line:column and what is wrong there. PATHS default to ./warmpath.yaml. Exits 0 if
    all are good, 1 with findings, 2 for wrong usage.
    """
    if not paths:
        if not Path(DEFAULT_PATH).exists():
            raise click.UsageError(f"no PATH given, and there is no ./{DEFAULT_PATH}")
        paths = (Path(DEFAULT_PATH),)
    findings: list[Finding] = []
    for path in paths:
        try:
            summary = _check(path)
        except ConfigError as error:
            findings.extend(error.findings)
            continue
        if output == "text":
            click.echo(f"{path}: ok, {summary}")
    if findings or output == "json":
        print_findings(findings, output)
    if findings:
        raise SystemExit(1)


def _check(path: Path) -> str:
    """Raises ConfigError; says what the file holds."""
    from router.config.build import build
    from router.config.load import load
    from router.config.routetest import SUFFIX, load_tests

    if path.name.endswith(SUFFIX):
        policy = path.with_name(path.name.removesuffix(SUFFIX) + ".yaml")
        return f"{len(load_tests(path, load(policy)).cases)} cases"
    snapshot = build(load(path), 1)
    counts = (
        ("cluster", len(snapshot.clusters)),
        ("endpoint", sum(1 for _ in snapshot.endpoints())),
        ("route", len(snapshot.routes.routes)),
    )
    return ", ".join(f"{count} {word}{'s' if count != 1 else ''}" for word, count in counts)

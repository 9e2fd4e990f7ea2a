"""``warmpath validate``: is this configuration good? Builds the very snapshot that would serve."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from router.config.findings import ConfigError, Finding

if TYPE_CHECKING:
    from router.config.lint import Advice
    from router.config.lint_rules import Severity

DEFAULT_PATH = "warmpath.yaml"


def print_findings(findings: Sequence[Finding]) -> None:
    """One finding a line."""
    for finding in findings:
        click.echo(str(finding))


@click.command("validate")
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--strict", is_flag=True, help="Warnings end with exit 1 too.")
@click.option(
    "--level",
    type=click.Choice(["error", "warning", "info"]),
    default="warning",
    show_default=True,
    help="Show advice of at least this severity.",
)
@click.option("--rules", is_flag=True, help="Print the rules that advice comes from, and end.")
@click.option(
    *("-o", "--output"),
    type=click.Choice(["text", "json", "github", "sarif"]),
    default="text",
    show_default=True,
)
def validate_command(
    paths: tuple[Path, ...], strict: bool, level: "Severity", rules: bool, output: str
) -> None:
    """Check configuration files, or directories of them, and route tests.

    Prints file:line:column and what is wrong there, then advice on what may not be meant. PATHS
    default to ./warmpath.yaml. Exits 0 if all are good, 1 with findings, 2 for wrong usage.
    """
    from router.config.lint import at_least, reference

    if rules:
        click.echo(reference(), nl=False)
        return
    if not paths:
        if not Path(DEFAULT_PATH).exists():
            raise click.UsageError(f"no PATH given, and there is no ./{DEFAULT_PATH}")
        paths = (Path(DEFAULT_PATH),)
    findings: list[Finding] = []
    advice: list[Advice] = []
    for path in paths:
        try:
            summary = _check(path)
            advice += _lint(path)
        except ConfigError as error:
            findings.extend(error.findings)
            continue
        if output == "text":
            click.echo(f"{path}: ok, {summary}")
    failing = at_least(advice, "warning" if strict else "error")
    _print(findings, at_least(advice, level), bool(findings or failing), output)
    if findings or failing:
        raise SystemExit(1)


def _print(
    findings: Sequence[Finding], advice: "Sequence[Advice]", failed: bool, output: str
) -> None:
    from router.cli import advice_view

    if output == "json":
        body = {
            "ok": not failed,
            "findings": [msgspec.to_builtins(one) for one in findings],
            "advice": [msgspec.to_builtins(one) for one in advice],
        }
        click.echo(json.dumps(body, indent=2))
    elif output == "sarif":
        click.echo(json.dumps(advice_view.sarif(findings, advice), indent=2))
    elif output == "github":
        for line in advice_view.github(findings, advice):
            click.echo(line)
    else:
        print_findings(findings)
        for one in advice:
            click.echo(str(one))


def _lint(path: Path) -> "list[Advice]":
    """Advice on a configuration; route tests get none."""
    from router.config.lint import lint
    from router.config.routetest import SUFFIX

    return [] if path.name.endswith(SUFFIX) else lint(path)


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

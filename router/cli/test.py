"""``warmpath test``: run the route tests that lie beside policies. No network, no clock."""

import json
from pathlib import Path
from typing import Any

import click

from router.cli.validate import DEFAULT_PATH, print_findings
from router.config.findings import ConfigError, Finding


@click.command("test")
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
def test_command(paths: tuple[Path, ...], output: str) -> None:
    """Run route tests: which request goes where.

    PATHS are policies (NAME.yaml with NAME.test.yaml beside it), test files, or directories of
    them; ./warmpath.yaml by default. Exits 0 if all pass, 1 if not, 2 for wrong usage.
    """
    from router.config.load import load
    from router.config.routetest import load_tests, run

    results: list[dict[str, Any]] = []
    findings: list[Finding] = []
    for policy, tests in _pairs(paths or (Path(DEFAULT_PATH),)):
        try:
            config = load(policy)
            cases = run(load_tests(tests, config), config)
        except ConfigError as error:
            findings.extend(error.findings)
            continue
        taken = frozenset[str]().union(*(case.routes for case in cases))
        results.append(
            {
                "policy": str(policy),
                "cases": [{"name": case.name, "failures": list(case.failures)} for case in cases],
                "routes_untested": [r.name for r in config.routes if r.name not in taken],
                "routes": len(config.routes),
            }
        )
    failed = sum(1 for result in results for case in result["cases"] if case["failures"])
    if output == "json":
        body = {
            "ok": not failed and not findings,
            "policies": results,
            "findings": [str(finding) for finding in findings],
        }
        click.echo(json.dumps(body, indent=2))
    else:
        _print_table(results)
        print_findings(findings)
    if failed or findings:
        raise SystemExit(1)


def _pairs(paths: tuple[Path, ...]) -> list[tuple[Path, Path]]:
    """(policy, its tests), in order.

    Raises:
        click.UsageError: where a policy has no tests, or tests have no policy.
    """
    from router.config.routetest import SUFFIX

    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
        if not found:
            raise click.UsageError(f"no *{SUFFIX} in {path}")
        files.extend(found)
    pairs = []
    for file in files:
        stem = file.name.removesuffix(SUFFIX).removesuffix(".yaml")
        policy, tests = file.with_name(f"{stem}.yaml"), file.with_name(f"{stem}{SUFFIX}")
        for needed in (policy, tests):
            if not needed.is_file():
                raise click.UsageError(f"{needed} does not exist")
        if (policy, tests) not in pairs:
            pairs.append((policy, tests))
    return pairs


def _print_table(results: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    for result in results:
        covered = result["routes"] - len(result["routes_untested"])
        click.echo(f"{result['policy']}: {covered} of {result['routes']} routes tested")
        table = Table()
        table.add_column("")
        table.add_column("case")
        table.add_column("what differs")
        for case in result["cases"]:
            mark = "[red]FAIL[/red]" if case["failures"] else "[green]ok[/green]"
            table.add_row(mark, escape(case["name"]), escape("\n".join(case["failures"])))
        console.print(table)
        if result["routes_untested"]:
            console.print(f"no case takes: {escape(', '.join(result['routes_untested']))}")

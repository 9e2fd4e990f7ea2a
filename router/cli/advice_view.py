"""Findings and advice as continuous integration reads them.

GitHub's workflow commands (one line each, special characters percent-encoded) and SARIF 2.1.0,
with the members that its consumers require.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from router.config.findings import Finding
from router.config.lint import IGNORE, Advice
from router.config.lint_rules import RULES
from router.telemetry.version import VERSION

INVALID = "invalid"
"""Stands for a code where a configuration cannot be used at all."""

_GITHUB = {"error": "error", "warning": "warning", "info": "notice"}
_SARIF = {"error": "error", "warning": "warning", "info": "note"}
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def github(findings: Sequence[Finding], advice: Sequence[Advice]) -> Iterator[str]:
    """Workflow commands that annotate the lines of a pull request."""
    for code, severity, one, message in _rows(findings, advice):
        place = f"file={_property(one.file)},line={one.line},col={one.column}"
        yield f"::{_GITHUB[severity]} {place},title={code}::{_data(message)}"


def sarif(findings: Sequence[Finding], advice: Sequence[Advice]) -> dict[str, Any]:
    """One run of one tool."""
    rules: list[dict[str, Any]] = [
        {
            "id": rule.code,
            "shortDescription": {"text": rule.title},
            "help": {"text": rule.fix},
            "defaultConfiguration": {"level": _SARIF[rule.severity]},
        }
        for rule in (IGNORE, *RULES)
    ]
    rules.append({"id": INVALID, "shortDescription": {"text": "configuration that cannot be used"}})
    results = [
        {
            "ruleId": code,
            "level": _SARIF[severity],
            "message": {"text": message},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": one.file},
                        "region": {
                            "startLine": max(1, one.line),
                            "startColumn": max(1, one.column),
                        },
                    }
                }
            ],
        }
        for code, severity, one, message in _rows(findings, advice)
    ]
    tool = {"driver": {"name": "warmpath", "version": VERSION, "rules": rules}}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": tool, "results": results}],
    }


def _rows(
    findings: Sequence[Finding], advice: Sequence[Advice]
) -> Iterator[tuple[str, str, Finding | Advice, str]]:
    for finding in findings:
        hint = f" (did you mean {finding.suggestion!r}?)" if finding.suggestion else ""
        yield INVALID, "error", finding, finding.message + hint
    for one in advice:
        yield one.code, one.severity, one, f"{one.message}. {one.fix}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

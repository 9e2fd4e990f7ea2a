"""Advice on a configuration that works but may not do what was meant.

A rule looks at the whole configuration and names paths; here they get their places in the text.
``# warmpath: ignore WP001 reason`` behind a line, or on lines of its own above it, silences a code
for that line. An ignore without a reason, of no known code, or of nothing is itself a finding
(WP000): silence must stay honest as the file changes.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from router.config.findings import Finding
from router.config.lint_rules import RULES, SEVERITIES, Rule, Severity
from router.config.load import files_of, place, read_texts

ANCHOR = "docs/lint.md#{}"
_IGNORE = re.compile(r"#\s*warmpath:\s*ignore\s+(WP\d{3}(?:\s*,\s*WP\d{3})*)\s*(.*)")
IGNORE = Rule(
    "WP000",
    "warning",
    "ignore that does not hold",
    "Give the reason behind the code, or remove the comment.",
    lambda config: iter(()),
)


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """One finding of a rule. ``doc``: where it is explained."""

    code: str
    severity: Severity
    file: str
    line: int
    column: int
    path: str
    message: str
    fix: str
    doc: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where}: {self.severity} {self.code}: {self.message}. {self.fix} ({self.doc})"


class _Ignore:
    """One comment, for one line of one file."""

    def __init__(self, file: str, line: int, target: int, code: str, reason: str) -> None:
        self.file = file
        self.line = line
        self.target = target
        self.code = code
        self.reason = reason
        self.used = False

    def takes(self, advice: Advice) -> bool:
        here = (self.file, self.target, self.code) == (advice.file, advice.line, advice.code)
        self.used = self.used or here
        return here and bool(self.reason)


def lint(path: str | Path, env: Mapping[str, str] | None = None) -> list[Advice]:
    """Advice on the configuration at ``path``, in the order of the text.

    Args:
        path: a file or a directory, as for ``load``.
        env: where ``${NAME}`` looks; the process's environment by default.

    Raises:
        ConfigError: it cannot be used at all.
    """
    return lint_texts(read_texts(files_of(Path(path))), os.environ if env is None else env)


def lint_texts(texts: Mapping[str, str], env: Mapping[str, str]) -> list[Advice]:
    """As :func:`lint`, of texts by name."""
    config, document = place(texts, env)
    ignores = [ignore for name, text in texts.items() for ignore in _ignores(name, text)]
    found = []
    for rule in RULES:
        for problem in rule.check(config):
            advice = _advice(rule, document.locate(problem))
            if not any(ignore.takes(advice) for ignore in ignores):
                found.append(advice)
    found += _unfounded(ignores)
    return sorted(found, key=lambda one: (one.file, one.line, one.column, one.code))


def at_least(advice: list[Advice], severity: Severity) -> list[Advice]:
    """The part that is at least this severe."""
    return [one for one in advice if SEVERITIES.index(one.severity) <= SEVERITIES.index(severity)]


def reference() -> str:
    """The page that documents every rule, as Markdown."""
    lines = [
        "# Lint",
        "",
        "`warmpath validate` checks that a configuration works, then gives advice on what may",
        "not be meant. Errors end it with exit 1, with `--strict` warnings do too, infos never.",
        "`--level info` shows those as well. `-o json`, `-o github` (annotations of a pull",
        "request) and `-o sarif` are for programs. `warmpath validate --rules` prints this page.",
        "",
        "To silence a code for one line, say why, behind the line or above it:",
        "",
        "    # warmpath: ignore WP015 only the cluster's own network reaches it",
        '    admin: {address: "0.0.0.0:9901", token: "file:/run/secrets/token"}',
        "",
    ]
    for rule in (IGNORE, *RULES):
        lines += [f"## {rule.code}", "", f"**{rule.severity}: {rule.title}.** {rule.fix}", ""]
    return "\n".join(lines)


def _advice(rule: Rule, finding: Finding) -> Advice:
    return Advice(
        code=rule.code,
        severity=rule.severity,
        file=finding.file,
        line=finding.line,
        column=finding.column,
        path=finding.path,
        message=finding.message,
        fix=rule.fix,
        doc=ANCHOR.format(rule.code.lower()),
    )


def _ignores(name: str, text: str) -> Iterator[_Ignore]:
    lines = text.splitlines()
    for index, line in enumerate(lines):
        comment = _IGNORE.search(line)
        if comment is None:
            continue
        target = index
        while target < len(lines) and lines[target].strip()[:1] in ("", "#"):
            target += 1
        for code in re.split(r"\s*,\s*", comment[1]):
            yield _Ignore(name, index + 1, target + 1, code, comment[2].strip())


def _unfounded(ignores: list[_Ignore]) -> Iterator[Advice]:
    known = {rule.code for rule in RULES}
    for ignore in ignores:
        if ignore.code not in known:
            message = f"there is no rule {ignore.code}"
        elif not ignore.used:
            message = f"{ignore.code} finds nothing there: the ignore is not needed"
        elif not ignore.reason:
            message = f"the ignore of {ignore.code} has no reason behind it, so it does not hold"
        else:
            continue
        finding = Finding(file=ignore.file, line=ignore.line, column=1, message=message)
        yield _advice(IGNORE, finding)

"""What is wrong with a configuration, and where: findings, collected and raised together."""

import difflib
from collections.abc import Iterable, Sequence

import msgspec

Path = tuple[str | int, ...]
"""Where in the configuration: ``("clusters", 0, "balancer")``."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One thing wrong. ``line`` and ``column`` count from 1; 0 where no text is at fault."""

    file: str = ""
    line: int = 0
    column: int = 0
    path: str = ""
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: " if self.line else ""
        if not where and (self.file or self.path):
            where = f"{self.file or self.path}: "
        hint = f" (did you mean {self.suggestion!r}?)" if self.suggestion else ""
        return f"{where}{self.message}{hint}"


class ConfigError(Exception):
    """A configuration that cannot be used.

    Attributes:
        findings: everything that could be told at once, in the order of the text.
    """

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings: tuple[Finding, ...] = tuple(sorted(findings, key=_place))
        super().__init__("\n".join(str(finding) for finding in self.findings))


def _place(finding: Finding) -> tuple[str, int, int]:
    return finding.file, finding.line, finding.column


class Problem(msgspec.Struct, frozen=True):
    """A finding that does not know its place in the text yet.

    ``at_key``: the field's name is at fault, not its value.
    """

    path: Path
    message: str
    suggestion: str | None = None
    at_key: bool = False


def render(path: Path) -> str:
    """``clusters[0].balancer.type``"""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def closest(word: str, known: Sequence[str]) -> str | None:
    """The known word that this one was probably meant to be."""
    lowered = {name.lower().replace("-", "_"): name for name in known}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else None

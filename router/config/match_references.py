"""What the types of conditions cannot say: patterns that must compile, names that must exist."""

import re
from collections.abc import Iterator, Mapping

from router.config.findings import Path, Problem, closest
from router.config.matches import KINDS, Match, SizeSpec, StringCondition, TokenLimits
from router.config.schema import Config

FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def term_problems(config: Config) -> Iterator[Problem]:
    """What is wrong with what conditions may name: the sizes and the adapters."""
    for name, size in config.sizes.items():
        yield from _ranges(size, ("sizes", name))
    bases: dict[str, tuple[str, str]] = {}
    for index, cluster in enumerate(config.clusters):
        for name, base in cluster.adapters.items():
            path: Path = ("clusters", index, "adapters", name)
            other, other_base = bases.setdefault(name, (cluster.name, base))
            if other_base != base:
                yield Problem(
                    path,
                    f"adapter {name!r} belongs to {other_base!r} in cluster {other!r}: it can "
                    "have one base model",
                )
            if base in cluster.adapters:
                yield Problem(path, f"{base!r} is an adapter itself, not a base model")


def condition_problems(config: Config, match: Match, path: Path) -> Iterator[Problem]:
    if match.path is not None:
        yield from string_problems(match.path, (*path, "path"))
        if match.path.range is not None:
            yield Problem((*path, "path", "range"), "a path is no number")
    if match.tenant is not None:
        yield from string_problems(match.tenant, (*path, "tenant"))
    yield from header_problems(match.headers, (*path, "headers"))
    for name, condition in match.query.items():
        yield from string_problems(condition, (*path, "query", name))
    for number, size in enumerate(match.size):
        if size not in config.sizes:
            known = list(config.sizes)
            yield Problem(
                (*path, "size", number),
                f"no size is named {size!r}" if known else "no `sizes` are defined",
                closest(size, known),
            )
    for field in ("prompt_tokens", "max_tokens"):
        limits: TokenLimits | None = getattr(match, field)
        if limits is not None:
            yield from _limits(limits, (*path, field))
    adapter = match.adapter
    if adapter is not None and (adapter.name is None) == (adapter.present is None):
        yield Problem((*path, "adapter"), "give either a name or present")


def header_problems(conditions: Mapping[str, StringCondition], path: Path) -> Iterator[Problem]:
    """What is wrong with conditions on headers."""
    seen: set[str] = set()
    for name, condition in conditions.items():
        here: Path = (*path, name)
        if not FIELD_NAME.fullmatch(name):
            yield Problem(here, f"not a header name: {name!r}", at_key=True)
        if name.lower() in seen:
            yield Problem(here, f"duplicate header {name.lower()!r}", at_key=True)
        seen.add(name.lower())
        yield from string_problems(condition, here)


def _ranges(size: SizeSpec, path: Path) -> Iterator[Problem]:
    yield from _limits(size.prompt_tokens, (*path, "prompt_tokens"))
    yield from _limits(size.max_tokens, (*path, "max_tokens"))


def _limits(limits: TokenLimits, path: Path) -> Iterator[Problem]:
    if limits.max is not None and limits.max < limits.min:
        yield Problem((*path, "max"), f"must not be below min ({limits.min})")


def string_problems(condition: StringCondition, path: Path) -> Iterator[Problem]:
    given = [kind for kind in KINDS if getattr(condition, kind) is not None]
    if len(given) != 1:
        what = "no condition" if not given else f"{' and '.join(given)} together"
        yield Problem(path, f"{what}: give exactly one of {', '.join(KINDS)}")
    if condition.ignore_case and {"regex", "range", "present"} & set(given):
        yield Problem(
            (*path, "ignore_case"),
            "has no meaning here; a regular expression says (?i) itself",
        )
    numbers = condition.range
    if numbers is not None and numbers.end <= numbers.start:
        yield Problem((*path, "range", "end"), f"must be above start ({numbers.start})")
    if condition.regex is not None:
        yield from pattern_problems(condition.regex, (*path, "regex"))


def pattern_problems(pattern: str, path: Path) -> Iterator[Problem]:
    """Whether it compiles."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        yield Problem(path, f"not a regular expression: {error}")

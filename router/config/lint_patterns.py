"""Lint rule about regular expressions: those that a client can keep busy for hours.

Python's backtrack where Envoy's (RE2) do not. A repetition of a repetition, with nothing between
two rounds by which they can be told apart, is tried in a number of ways that doubles with each
character: ``(a+)+``, ``(\\w+\\s?)*``, ``(.*,)*``, but not ``(/[^/]+)*``, where only a slash begins
a round. All workers' streams stand still meanwhile.
"""

import re
from collections.abc import Iterator
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from router.config.findings import Path, Problem
from router.config.matches import StringCondition
from router.config.routes import RouteSpec
from router.config.schema import Config

MANY = 16
"""Rounds from which on a bounded repetition is as bad as an endless one."""

_SAMPLE = "".join(map(chr, range(0x20, 0x7F)))
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT")


def runaway_pattern(config: Config) -> Iterator[Problem]:
    for path, pattern in _patterns(config):
        if runs_away(pattern):
            yield Problem(
                path,
                f"{pattern[:60]!r} repeats a repetition: what nearly matches it is tried in "
                "millions of ways, while all streams of the worker wait",
            )


def runs_away(pattern: str) -> bool:
    """Whether some texts take a time that doubles with each character."""
    return any(_ambiguous(body) for body in _repeated(_parser.parse(pattern)))


def _patterns(config: Config) -> Iterator[tuple[Path, str]]:
    if config.cors is not None:
        yield from _of_conditions(config.cors.allow_origins, ("cors", "allow_origins"))
    for index, route in enumerate(config.routes):
        yield from _of_route(route, ("routes", index))


def _of_route(route: RouteSpec, here: Path) -> Iterator[tuple[Path, str]]:
    match = route.match
    for name, condition in (("path", match.path), ("tenant", match.tenant)):
        if condition is not None and condition.regex is not None:
            yield (*here, "match", name), condition.regex
    for field, conditions in (("headers", match.headers), ("query", match.query)):
        for name, condition in conditions.items():
            if condition.regex is not None:
                yield (*here, "match", field, name), condition.regex
    if route.cors is not None:
        yield from _of_conditions(route.cors.allow_origins, (*here, "cors", "allow_origins"))
    if route.fault is not None:
        for name, condition in route.fault.headers.items():
            if condition.regex is not None:
                yield (*here, "fault", "headers", name), condition.regex
    if route.rewrite.regex is not None:
        yield (*here, "rewrite", "regex"), route.rewrite.regex.pattern
    if route.redirect is not None and route.redirect.regex is not None:
        yield (*here, "redirect", "regex"), route.redirect.regex.pattern


def _of_conditions(
    conditions: tuple[StringCondition, ...], here: Path
) -> Iterator[tuple[Path, str]]:
    for index, condition in enumerate(conditions):
        if condition.regex is not None:
            yield (*here, index), condition.regex


# --- what Python's parser makes of a pattern ------------------------------------------------------


def _repeated(node: Any) -> Iterator[Any]:
    """The bodies of all long repetitions, however deep."""
    for op, value in node:
        name = str(op)
        if name in _REPEATS:
            if value[1] >= MANY:
                yield value[2]
            yield from _repeated(value[2])
        elif name == "SUBPATTERN":
            yield from _repeated(value[-1])
        elif name == "BRANCH":
            for branch in value[1]:
                yield from _repeated(branch)
        elif name in ("ASSERT", "ASSERT_NOT"):
            yield from _repeated(value[1])


def _ambiguous(body: Any) -> bool:
    """Whether one round of a repetition can be taken for several, or two for one."""
    items = list(_items(body))
    if len(items) == 1 and str(items[0][0]) == "BRANCH":
        return any(_ambiguous(branch) for branch in items[0][1][1])
    for index, (op, value) in enumerate(items):
        if str(op) in _REPEATS and value[1] >= MANY and len(inner := list(_items(value[2]))) == 1:
            others = items[:index] + items[index + 1 :]
            if all(_may_be_nothing(one) or _overlap(inner[0], one) for one in others):
                return True
    return False


def _items(node: Any) -> Iterator[Any]:
    """What stands one after the other, out of its groups."""
    for op, value in node:
        if str(op) == "SUBPATTERN":
            yield from _items(value[-1])
        else:
            yield op, value


def _may_be_nothing(item: Any) -> bool:
    op, value = item
    if str(op) in _REPEATS:
        return bool(value[0] == 0)
    return str(op) == "AT"


def _overlap(one: Any, other: Any) -> bool:
    """Whether some character is both."""
    return bool(_characters(one) & _characters(other))


def _characters(item: Any) -> frozenset[str]:
    """Those of ASCII that an item of one character takes; none for any other item."""
    op, value = item
    name = str(op)
    if name in _REPEATS:
        inner = list(_items(value[2]))
        return _characters(inner[0]) if len(inner) == 1 else frozenset()
    if name == "LITERAL":
        return frozenset(chr(value))
    if name == "NOT_LITERAL":
        return frozenset(_SAMPLE) - {chr(value)}
    if name == "ANY":
        return frozenset(_SAMPLE)
    if name == "CATEGORY":
        return frozenset(filter(re.compile(_CATEGORIES.get(str(value), r"(?!)")).match, _SAMPLE))
    if name != "IN":
        return frozenset()
    found: set[str] = set()
    negated = False
    for kind, part in value:
        if str(kind) == "NEGATE":
            negated = True
        elif str(kind) == "RANGE":
            found.update(char for char in _SAMPLE if part[0] <= ord(char) <= part[1])
        else:
            found |= _characters((kind, part))
    return frozenset(_SAMPLE) - found if negated else frozenset(found)


_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}

"""A route called shadowed really is: whatever it would match, the earlier one matches.

Every pair of some hundred conditions, against every text that could tell them apart.
"""

import random
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest

from router.config.build import build
from router.config.clusters import ClusterSpec, EndpointSpec
from router.config.lint_routes import shadowed
from router.config.matches import Match, StringCondition
from router.config.routes import DestinationSpec, RouteSpec
from router.config.schema import Config
from router.config.units import Address
from router.core.model import LlmRequest

TEXTS = ("", "/", "/a", "/ab", "/b", "/aab", "/ba")
KINDS = ("exact", "prefix", "suffix", "contains", "regex")
PARTS = ("/a", "/ab", "a", "b")
STRINGS = [
    StringCondition(**{kind: part}, invert=invert)  # type: ignore[arg-type]
    for kind, part, invert in product(KINDS, PARTS, (False, True))
] + [
    StringCondition(present=present, invert=invert)
    for present, invert in product((False, True), repeat=2)
]
GLOBS = (None, "*", "a", "ab", "a*", "*b", "?b", "[ab]b", "A")
METHODS = ((), ("GET",), ("POST",), ("GET", "POST"))


def headers(value: str | None) -> tuple[tuple[bytes, bytes], ...]:
    return () if value is None else ((b"x", value.encode()),)


def requests(**fields: Sequence[Any]) -> list[LlmRequest]:
    fixed = {"id": ["r"], "method": ["POST"], "path": ["/a"], "model": ["a"]} | fields
    return [LlmRequest(**dict(zip(fixed, row, strict=True))) for row in product(*fixed.values())]


CASES = {
    "headers": (
        [Match()] + [Match(headers={"X": c}) for c in STRINGS],
        requests(headers=[headers(text) for text in (None, *TEXTS)]),
    ),
    "path": (
        [Match()] + [Match(path=c) for c in STRINGS],
        requests(path=TEXTS),
    ),
    "model": (
        [Match(model=glob) for glob in GLOBS],
        requests(model=[None, "a", "ab", "bb", "b", "A", "[ab]b"]),
    ),
    "host": (
        [Match(host=glob) for glob in GLOBS],
        requests(authority=["", "a", "ab", "bb", "b", "A", "aB:80", "a:80"]),
    ),
    "methods": ([Match(methods=m) for m in METHODS], requests(method=["GET", "POST", "PUT"])),
    "together": (
        [
            Match(model=model, methods=methods, headers=headers_)
            for model, methods, headers_ in product(
                (None, "a", "a*"),
                METHODS[:2],
                ({}, {"x": STRINGS[0]}, {"y": STRINGS[0]}, {"X": STRINGS[0], "y": STRINGS[0]}),
            )
        ],
        requests(
            model=[None, "a", "ab"],
            method=["GET", "POST"],
            headers=[(), ((b"x", b"/a"),), ((b"y", b"/a"),), ((b"x", b"/a"), (b"y", b"/a"))],
        ),
    ),
}


def config(*matches: Match) -> Config:
    endpoints = (EndpointSpec(address=Address("10.0.0.1:80")),)
    return Config(
        version=1,
        clusters=(ClusterSpec(name="c", endpoints=endpoints),),
        routes=tuple(
            RouteSpec(name=f"r{n}", match=match, to=(DestinationSpec(cluster="c"),))
            for n, match in enumerate(matches)
        ),
    )


@pytest.mark.parametrize("field", CASES)
def test_what_a_shadowed_route_matches(field: str) -> None:
    matches, asked = CASES[field]
    routes = build(config(*matches), 1).routes.routes
    takes = [
        {n for n, one in enumerate(asked) if route.match.matches(one, random.Random(1))}
        for route in routes
    ]
    found = 0
    for (i, earlier), (j, later) in product(enumerate(matches), repeat=2):
        really = takes[j] <= takes[i]
        if list(shadowed(config(earlier, later))):
            assert really, (earlier, later)
            found += earlier != later
    assert found, "the rule sees more than what is the same in both"

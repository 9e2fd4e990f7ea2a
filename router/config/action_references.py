"""What the types of a route's actions cannot say: what excludes what, names that are not for it."""

import re
from collections.abc import Iterator

from router.config.actions import (
    CorsSpec,
    HeaderEditsSpec,
    HeadersSpec,
    RegexRewrite,
    Rewrite,
)
from router.config.build_actions import template
from router.config.findings import Path, Problem
from router.config.match_references import FIELD_NAME, pattern_problems, string_problems
from router.config.matches import Match
from router.config.routes import RouteSpec
from router.config.schema import Config
from router.core.header_edits import Template

OURS = ("x-warmpath-", "x-gateway-")
FRAMING = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    )
)


def action_problems(route: RouteSpec, path: Path) -> Iterator[Problem]:
    ways = [name for name in ("redirect", "direct_response") if getattr(route, name) is not None]
    if route.to:
        ways.insert(0, "to")
    if len(ways) != 1:
        what = f"{' and '.join(ways)} together" if ways else "it goes nowhere"
        yield Problem(path, f"{what}: give exactly one of to, redirect and direct_response")
    elif ways != ["to"]:
        yield from _own_answer(route, ways[0], path)
    yield from _path(route.match, route.rewrite.prefix, route.rewrite.regex, (*path, "rewrite"))
    yield from _headers(route.headers, (*path, "headers"))
    for index, arm in enumerate(route.to):
        yield from _headers(arm.headers, (*path, "to", index, "headers"))
    if isinstance(route.cors, CorsSpec):
        yield from _cors(route.cors, (*path, "cors"))


def common_problems(config: Config) -> Iterator[Problem]:
    """What is wrong with the aliases and with the policy of all routes."""
    if config.cors is not None:
        yield from _cors(config.cors, ("cors",))
    for name, model in config.aliases.items():
        if model in config.aliases:
            yield Problem(("aliases", name), f"{model!r} is an alias itself, not a model")


def _own_answer(route: RouteSpec, way: str, path: Path) -> Iterator[Problem]:
    for field, given in (
        ("rewrite", route.rewrite != Rewrite()),
        ("limits", bool(route.limits)),
        ("fault", route.fault is not None),
    ):
        if given:
            yield Problem((*path, field), f"has no meaning beside {way}: nothing is sent on")
    if route.headers.request != HeaderEditsSpec():
        yield Problem(
            (*path, "headers", "request"), f"has no meaning beside {way}: nothing is sent on"
        )
    direct, redirect = route.direct_response, route.redirect
    if direct is not None and direct.body and direct.status in (204, 304):
        yield Problem((*path, way, "body"), f"an answer with status {direct.status} has no body")
    if redirect is None:
        return
    here: Path = (*path, way)
    targets = (redirect.scheme, redirect.host, redirect.port, redirect.path)
    if not any((*targets, redirect.prefix, redirect.regex, redirect.strip_query)):
        yield Problem(here, "it changes nothing: clients would come back for ever")
    if redirect.path is not None and (redirect.prefix or redirect.regex):
        yield Problem((*here, "path"), "path and prefix or regex together: give one")
    yield from _path(route.match, redirect.prefix, redirect.regex, here)


def _path(
    match: Match, prefix: str | None, regex: RegexRewrite | None, path: Path
) -> Iterator[Problem]:
    if prefix is not None:
        if regex is not None:
            yield Problem((*path, "prefix"), "prefix and regex together: give one")
        where = match.path
        if where is None or where.invert or (where.prefix is None and where.exact is None):
            yield Problem(
                (*path, "prefix"),
                "it takes the place of what the path matched: match.path needs a prefix, or to "
                "be exact",
            )
    if regex is not None:
        faults = list(pattern_problems(regex.pattern, (*path, "regex", "pattern")))
        yield from faults
        try:
            groups = [int(g) for g in re.findall(r"\\g<(\d)>", template(regex.substitution))]
        except ValueError as error:
            yield Problem((*path, "regex", "substitution"), str(error))
            return
        if not faults and max(groups, default=0) > re.compile(regex.pattern).groups:
            yield Problem(
                (*path, "regex", "substitution"), f"the pattern has no group {max(groups)}"
            )


def _headers(headers: HeadersSpec, path: Path) -> Iterator[Problem]:
    for side in ("request", "response"):
        edits: HeaderEditsSpec = getattr(headers, side)
        for field in ("set", "add", "add_if_absent"):
            values: dict[str, str] = getattr(edits, field)
            for name, value in values.items():
                here: Path = (*path, side, field, name)
                yield from _name(name, side, here, at_key=True)
                try:
                    Template.parse(value)
                except ValueError as error:
                    yield Problem(here, str(error))
        for index, name in enumerate(edits.remove):
            yield from _name(name, side, (*path, side, "remove", index))


def _name(name: str, side: str, path: Path, *, at_key: bool = False) -> Iterator[Problem]:
    lower = name.lower()
    if not FIELD_NAME.fullmatch(name):
        yield Problem(path, f"not a header name: {name!r}", at_key=at_key)
    elif lower == "host" and side == "request":
        yield Problem(path, "the host is changed with rewrite.host", at_key=at_key)
    elif lower in FRAMING or lower.startswith(OURS):
        yield Problem(path, f"{lower} is the router's own to write", at_key=at_key)


def _cors(cors: CorsSpec, path: Path) -> Iterator[Problem]:
    for index, origin in enumerate(cors.allow_origins):
        here: Path = (*path, "allow_origins", index)
        yield from string_problems(origin, here)
        if origin.present is not None or origin.range is not None:
            yield Problem(here, "an origin is compared as a text")
    for field in ("allow_headers", "expose_headers"):
        names: tuple[str, ...] = getattr(cors, field)
        for index, name in enumerate(names):
            if not FIELD_NAME.fullmatch(name):
                yield Problem((*path, field, index), f"not a header name: {name!r}")

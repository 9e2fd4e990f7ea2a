"""From what a route is to change to the core's actions."""

import re

from router.config.actions import (
    CorsSpec,
    DirectResponseSpec,
    HeaderEditsSpec,
    RedirectSpec,
    RegexRewrite,
)
from router.config.build_matches import condition
from router.config.matches import Match
from router.config.routes import DestinationSpec, RouteSpec
from router.core.actions import (
    UNCHANGED,
    Actions,
    DirectResponse,
    OwnAnswer,
    PathRewrite,
    Redirect,
)
from router.core.cors import Cors
from router.core.header_edits import HeaderEdits, Template

_GROUP = re.compile(r"\\(.?)")


def build_actions(
    spec: RouteSpec, arm: DestinationSpec | None, cors: Cors | None
) -> Actions | None:
    """What is done to requests of a route that go to ``arm``, None for nothing.

    Args:
        arm: None for what concerns the route as a whole.
        cors: the policy of routes that say nothing of it.
    """
    headers = [arm.headers, spec.headers] if arm is not None else [spec.headers]
    rewrite = spec.rewrite
    model = rewrite.model
    actions = Actions(
        request=_edits([one.request for one in headers]),
        response=_edits([one.response for one in headers]),
        path=path_rewrite(spec.match, rewrite.prefix, rewrite.regex),
        host=rewrite.host,
        model=model if arm is None or arm.model is None else arm.model,
        cors=cors if spec.cors is None else build_cors(spec.cors),
    )
    return None if actions == UNCHANGED else actions


def build_cors(spec: CorsSpec) -> Cors:
    return Cors(
        origins=tuple(condition(one) for one in spec.allow_origins),
        methods=", ".join(spec.allow_methods),
        headers=", ".join(spec.allow_headers),
        expose=", ".join(spec.expose_headers),
        max_age=int(spec.max_age) or None,
        credentials=spec.allow_credentials,
    )


def _edits(specs: list[HeaderEditsSpec]) -> tuple[HeaderEdits, ...]:
    return tuple(_edit(spec) for spec in specs if spec != HeaderEditsSpec())


def _edit(spec: HeaderEditsSpec) -> HeaderEdits:
    return HeaderEdits(
        remove=frozenset(name.lower().encode("latin-1") for name in spec.remove),
        set=_templates(spec.set),
        add=_templates(spec.add),
        default=_templates(spec.add_if_absent),
    )


def _templates(fields: dict[str, str]) -> tuple[tuple[bytes, Template], ...]:
    return tuple(
        (name.lower().encode("latin-1"), Template.parse(value)) for name, value in fields.items()
    )


def path_rewrite(
    match: Match, prefix: str | None, regex: RegexRewrite | None
) -> PathRewrite | None:
    if regex is not None:
        return PathRewrite(pattern=regex.pattern, substitution=template(regex.substitution))
    if prefix is None:
        return None
    assert match.path is not None
    matched = match.path.prefix
    return PathRewrite(prefix=prefix, strip=None if matched is None else len(matched))


def template(substitution: str) -> str:
    r"""RE2's substitution as a template of :mod:`re`; only ``\0`` to ``\9`` and ``\\`` mean more
    than themselves.

    Raises:
        ValueError: for another backslash.
    """

    def group(found: re.Match[str]) -> str:
        digit = found[1]
        if digit == "\\":
            return r"\\"
        if not digit.isdigit():
            raise ValueError(rf"{found[0]} means nothing here: \0 to \9, or \\ for a backslash")
        return rf"\g<{digit}>"

    return _GROUP.sub(group, substitution)


def build_answer(spec: RouteSpec) -> OwnAnswer | None:
    """What a route answers that goes nowhere."""
    if spec.direct_response is not None:
        return _direct(spec.direct_response)
    return None if spec.redirect is None else _redirect(spec.redirect, spec.match)


def _direct(spec: DirectResponseSpec) -> DirectResponse:
    return DirectResponse(
        status=spec.status, body=spec.body.encode(), content_type=spec.content_type
    )


def _redirect(spec: RedirectSpec, match: Match) -> Redirect:
    return Redirect(
        status=spec.status,
        scheme=spec.scheme,
        host=spec.host,
        port=spec.port,
        path=spec.path,
        rewrite=path_rewrite(match, spec.prefix, spec.regex),
        strip_query=spec.strip_query,
    )

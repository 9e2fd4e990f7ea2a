"""Lint rules about what routes change, about other names of models, and about sizes."""

from collections.abc import Iterator

from router.config.actions import CorsSpec
from router.config.findings import Path, Problem
from router.config.matches import SizeSpec, TokenLimits
from router.config.schema import Config
from router.core.matching import Matcher

BODILESS = frozenset({"GET", "HEAD"})


def alias_without_a_route(config: Config) -> Iterator[Problem]:
    matchers = [Matcher(model=route.match.model) for route in config.routes]
    for name, model in config.aliases.items():
        if not any(matcher.takes_model(model) for matcher in matchers):
            yield Problem(
                ("aliases", name), f"{name!r} stands for {model!r}, which no route takes (404)"
            )


def alias_of_a_model(config: Config) -> Iterator[Problem]:
    named = {route.match.model for route in config.routes}
    for cluster in config.clusters:
        named |= {*cluster.models, *cluster.adapters}
    for name, model in config.aliases.items():
        if name in named:
            yield Problem(
                ("aliases", name),
                f"requests for {name!r} become requests for {model!r} before any route is looked "
                f"at: what names {name!r} itself is never asked for",
            )


def model_that_nobody_serves(config: Config) -> Iterator[Problem]:
    served = {
        cluster.name: {*cluster.models, *cluster.adapters}
        for cluster in config.clusters
        if cluster.models
    }
    for index, route in enumerate(config.routes):
        for number, arm in enumerate(route.to):
            model = arm.model or route.rewrite.model
            if model is not None and model not in served.get(arm.cluster, {model}):
                path: Path = ("routes", index, "rewrite", "model")
                yield Problem(
                    path if arm.model is None else ("routes", index, "to", number, "model"),
                    f"cluster {arm.cluster!r} does not list the model {model!r}",
                )


def redirect_without_the_body(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        redirect = route.redirect
        kept = redirect is None or redirect.status in (307, 308)
        if not kept and not (route.match.methods and set(route.match.methods) <= BODILESS):
            yield Problem(
                ("routes", index, "redirect"),
                f"clients that are redirected by {route.name!r} with this status send a GET "
                "without the body",
            )


def credentials_for_every_page(config: Config) -> Iterator[Problem]:
    policies: list[tuple[Path, CorsSpec | None]] = [(("cors",), config.cors)]
    policies += [(("routes", n, "cors"), route.cors) for n, route in enumerate(config.routes)]
    for path, cors in policies:
        if cors is None or not cors.allow_credentials:
            continue
        for number, origin in enumerate(cors.allow_origins):
            anyone = "*" in (origin.exact, origin.contains) or origin.regex in (".*", ".+")
            if anyone and not origin.invert:
                yield Problem(
                    (*path, "allow_origins", number),
                    "any page may call with the visitor's cookies, and read the answer",
                )


def fraction_of_all_or_none(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        fraction = route.match.fraction
        if fraction is not None and float(fraction.percent) in (0, 100):
            what = "no request" if not fraction.percent else "every request"
            yield Problem(
                ("routes", index, "match", "fraction"),
                f"a fraction of {fraction.percent} takes {what}",
            )


def size_never_reached(config: Config) -> Iterator[Problem]:
    earlier: list[tuple[str, SizeSpec]] = []
    for name, size in config.sizes.items():
        for other, wider in earlier:
            if _holds(wider.prompt_tokens, size.prompt_tokens) and _holds(
                wider.max_tokens, size.max_tokens
            ):
                yield Problem(
                    ("sizes", name), f"no request is of size {name!r}: {other!r} takes them all"
                )
                break
        earlier.append((name, size))


def _holds(wide: TokenLimits, narrow: TokenLimits) -> bool:
    if wide.min > narrow.min:
        return False
    return wide.max is None or (narrow.max is not None and narrow.max <= wide.max)

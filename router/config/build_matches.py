"""From a route's conditions to the core's matcher."""

import fnmatch
from collections.abc import Mapping

from router.config.matches import KINDS, Match, SizeSpec, StringCondition, TokenLimits
from router.config.schema import Config
from router.core.matching import (
    AdapterIs,
    Condition,
    Matcher,
    PriorityIn,
    QueryIs,
    Share,
    SizeClass,
    SizeIs,
    StringMatch,
    TenantIs,
    TokenRange,
    TokensWithin,
)
from router.core.model import Priority


class Terms:
    """What conditions may name: the size classes, and the adapters with their base models."""

    def __init__(self, config: Config) -> None:
        self.bytes_per_token = config.token_estimates.bytes_per_token
        self.sizes = tuple(
            size_class(name, spec, self.bytes_per_token) for name, spec in config.sizes.items()
        )
        self.adapters = adapters(config)


def adapters(config: Config) -> Mapping[str, str]:
    """Base models by adapter, of all clusters."""
    return {name: base for spec in config.clusters for name, base in spec.adapters.items()}


def build_matcher(spec: Match, route: str, terms: Terms) -> Matcher:
    model = spec.model
    return Matcher(
        host=spec.host,
        path=None if spec.path is None else condition(spec.path),
        methods=spec.methods,
        headers=tuple((name.lower(), condition(one)) for name, one in spec.headers.items()),
        model=model,
        adapters=frozenset(
            name
            for name, base in terms.adapters.items()
            if model is not None and fnmatch.fnmatchcase(base, model)
        ),
        more=tuple(_more(spec, route, terms)),
    )


def _more(spec: Match, route: str, terms: Terms) -> list[Condition]:
    """In order of what they cost; chance last, so that it is drawn of what is left."""
    found: list[Condition] = []
    if spec.tenant is not None:
        found.append(TenantIs(condition(spec.tenant)))
    if spec.priority:
        found.append(PriorityIn(tuple(Priority[name.upper()] for name in spec.priority)))
    if spec.adapter is not None:
        found.append(
            AdapterIs(
                frozenset(terms.adapters), spec.adapter.name, absent=spec.adapter.present is False
            )
        )
    if spec.size:
        found.append(SizeIs(spec.size, terms.sizes))
    if spec.prompt_tokens is not None or spec.max_tokens is not None:
        ranges = SizeClass(
            prompt_tokens=_range(spec.prompt_tokens or TokenLimits()),
            max_tokens=_range(spec.max_tokens or TokenLimits()),
            bytes_per_token=terms.bytes_per_token,
        )
        found.append(TokensWithin(ranges))
    found += [QueryIs(name, condition(one)) for name, one in spec.query.items()]
    if (share := spec.fraction) is not None:
        found.append(Share(float(share.percent), route, share.by == "conversation"))
    return found


def size_class(name: str, spec: SizeSpec, bytes_per_token: float) -> SizeClass:
    return SizeClass(name, _range(spec.prompt_tokens), _range(spec.max_tokens), bytes_per_token)


def _range(spec: TokenLimits) -> TokenRange:
    return TokenRange(spec.min, spec.max)


def condition(spec: StringCondition) -> StringMatch:
    if spec.present is not None:
        return StringMatch("present", invert=spec.present is spec.invert)
    if spec.range is not None:
        return StringMatch("range", invert=spec.invert, low=spec.range.start, high=spec.range.end)
    kind = next(kind for kind in KINDS if getattr(spec, kind) is not None)
    return StringMatch(kind, getattr(spec, kind), spec.invert, spec.ignore_case)

"""From a request to a route: the first route that matches wins, as in Envoy.

A matcher is a conjunction of conditions on host, path, method, headers and model; an empty one
takes everything. Most routes name one model exactly, so the table is indexed by model once, when
it is built: a request looks only at the routes that could take its model, in their order.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import xxhash

from router.core.admission.rate_limit import RateLimit
from router.core.clock import Rng
from router.core.model import LlmRequest
from router.core.retry.policy import RetryPolicy

StringKind = Literal["exact", "prefix", "suffix", "contains", "regex", "present"]


class StringMatch(msgspec.Struct, frozen=True):
    """A condition on one string; comparison is case-sensitive.

    A ``regex`` must match the whole value. ``present`` ignores ``value``. ``invert`` negates; an
    absent string matches only an inverted ``present``.
    """

    kind: StringKind
    value: str = ""
    invert: bool = False

    def matches(self, text: str | None) -> bool:
        if text is None:
            return self.kind == "present" and self.invert
        return self._compare(text) is not self.invert

    def _compare(self, text: str) -> bool:
        match self.kind:
            case "exact":
                return text == self.value
            case "prefix":
                return text.startswith(self.value)
            case "suffix":
                return text.endswith(self.value)
            case "contains":
                return self.value in text
            case "regex":
                # `re` keeps its own bounded cache of compiled patterns.
                return re.fullmatch(self.value, text) is not None
            case "present":
                return True


class Matcher(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions on a request, all of which must hold. None or empty: no condition.

    ``host`` and ``model`` may hold ``*`` and ``?``; ``path`` sees the path without its query.
    """

    host: str | None = None
    path: StringMatch | None = None
    methods: tuple[str, ...] = ()
    headers: tuple[tuple[str, StringMatch], ...] = ()
    model: str | None = None

    def matches(self, request: LlmRequest) -> bool:
        return not self.mismatches(request)

    def mismatches(self, request: LlmRequest) -> tuple[str, ...]:
        """The conditions that do not hold, for ``explain``; the first suffices to say no."""
        if not self._model_matches(request.model):
            return ("model",)
        if self.methods and request.method not in self.methods:
            return ("method",)
        if self.path is not None and not self.path.matches(request.path):
            return ("path",)
        if self.host is not None and not _host_matches(self.host, request.authority):
            return ("host",)
        for name, condition in self.headers:
            raw = request.header(name.encode("latin-1"))
            if not condition.matches(None if raw is None else raw.decode("latin-1")):
                return (f"header {name}",)
        return ()

    def _model_matches(self, model: str | None) -> bool:
        if self.model is None:
            return True
        return model is not None and (self.model == model or fnmatch.fnmatchcase(model, self.model))

    @property
    def model_decides(self) -> bool:
        """Whether a request of the model named here, if one is, always matches."""
        return self == Matcher(model=self.exact_model)

    @property
    def exact_model(self) -> str | None:
        """The one model this matcher takes, or None if it takes several or any."""
        if self.model is None or any(char in self.model for char in "*?["):
            return None
        return self.model


def _host_matches(pattern: str, authority: str) -> bool:
    host = authority.lower()
    bare = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    return fnmatch.fnmatchcase(host, pattern.lower()) or fnmatch.fnmatchcase(bare, pattern.lower())


class Destination(msgspec.Struct, frozen=True):
    """One arm of a route. ``subset``: only endpoints that carry all these labels."""

    cluster: str
    weight: int = 1
    subset: tuple[tuple[str, str], ...] = ()


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Limits on each stage of a request, in seconds; 0 switches one off.

    ``connect``: TCP connection of one attempt. ``first_byte``: from the sent request to the
    response head, per attempt. ``idle``: silence of the response body. ``total``: the whole
    exchange with all its attempts. ``queue``: waiting for a place in the cluster.
    """

    connect: float = 5.0
    first_byte: float = 300.0
    idle: float = 120.0
    total: float = 0.0
    queue: float = 30.0


Split = Literal["conversation", "request"]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where matching requests go, and under which terms.

    ``split``: whether the arm is drawn by the request's prefix hash, so that a conversation never
    changes its version half-way, or anew for each request. Without a hash it is drawn anew.
    """

    name: str
    match: Matcher
    destinations: tuple[Destination, ...]
    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()
    limits: tuple[RateLimit, ...] = ()
    split: Split = "conversation"

    def destination(self, request: LlmRequest, rng: Rng) -> Destination:
        """Draw one arm by weight. A request keeps its arm over all its attempts."""
        arms = self.destinations
        if len(arms) == 1:
            return arms[0]
        total = sum(arm.weight for arm in arms)
        if self.split == "conversation" and request.prefix_hash is not None:
            # Mixed with the route's name: two routes must not split the same conversations alike.
            point = xxhash.xxh3_64_intdigest(b"%x" % request.prefix_hash + self.name.encode())
            point %= total
        else:
            point = rng.randrange(total)
        for arm in arms:
            point -= arm.weight
            if point < 0:
                return arm
        raise AssertionError("weights are positive")


class RouteTable:
    """Ordered routes with an index by exact model name.

    Args:
        routes: in order of precedence.
    """

    __slots__ = ("_any_model", "_by_model", "_certain", "_certain_default", "routes")

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        names = dict.fromkeys(r.match.exact_model for r in routes if r.match.exact_model)
        self._any_model = tuple(r for r in routes if r.match.exact_model is None)
        self._by_model: Mapping[str | None, tuple[Route, ...]] = {
            name: tuple(r for r in routes if r.match.exact_model in (None, name)) for name in names
        }
        # Where the first candidate asks for nothing but the model there is nothing to compare.
        self._certain = {
            name: found[0] if found[0].match.model_decides else None
            for name, found in self._by_model.items()
        }
        first = self._any_model[0] if self._any_model else None
        self._certain_default = first if first is not None and first.match == Matcher() else None

    def match(self, request: LlmRequest) -> Route | None:
        """The first route that takes the request, or None."""
        certain = self._certain.get(request.model, self._certain_default)
        if certain is not None:
            return certain
        for route in self._by_model.get(request.model, self._any_model):
            if route.match.matches(request):
                return route
        return None

    def knows(self, model: str) -> bool:
        """Whether any route could take this model, whatever its other conditions."""
        return any(route.match._model_matches(model) for route in self.routes)

    def models(self) -> tuple[str, ...]:
        """The models that routes name exactly, in order."""
        return tuple(name for name in self._by_model if name is not None)

    def __repr__(self) -> str:
        return f"<RouteTable {[route.name for route in self.routes]}>"

"""From a request to a route: the first route that matches wins, as in Envoy.

Most routes name one model exactly, so the table is indexed by model once, when it is built: a
request looks only at the routes that could take its model, in their order (see ``matching``), and
of these only at those that its headers leave (``route_index``).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import xxhash

from router.core.actions import Actions, OwnAnswer, Preflight
from router.core.admission.rate_limit import RateLimit
from router.core.clock import Rng
from router.core.cors import Cors, requested_method
from router.core.fallback import Fallback
from router.core.fault import Fault
from router.core.hash_key import HashKey
from router.core.matching import Matcher, Share, StringMatch
from router.core.mirror import Mirror
from router.core.model import LlmRequest
from router.core.retry.hedge import Hedge
from router.core.retry.policy import RetryPolicy
from router.core.route_index import Candidates

__all__ = [
    "Destination",
    "Matcher",
    "Route",
    "RouteTable",
    "StringMatch",
    "Timeouts",
]


@dataclass(frozen=True)
class Destination:
    """One arm of a route. ``subset``: only endpoints that carry all these labels.

    ``actions``: what is done on the way there and back, the route's own included.
    """

    cluster: str
    weight: int = 1
    subset: tuple[tuple[str, str], ...] = ()
    actions: Actions | None = None


@dataclass(frozen=True, kw_only=True)
class Timeouts:
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


_hash: Final = xxhash.xxh3_64_intdigest
CONVERSATION: Final = "conversation"
REQUEST: Final = "request"


@lru_cache(maxsize=256)
def _session(split: str) -> HashKey:
    """Reads the session that arms are drawn by, or else the conversation."""
    return HashKey((split, "prefix"), "first")


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where matching requests go, and under which terms.

    ``split``: what the arm is drawn by: ``conversation``, the request's prefix hash, so that none
    changes its version half-way; ``request``, anew for each; or what a session is known by, as a
    ``HashKey`` has it, and the conversation where a request lacks that. Without any it is drawn
    anew.
    ``head_limit`` and ``silence_limit`` (seconds, 0 = none) follow from the rest: how long an
    attempt may take to the response head, and how long a response may be silent; so does
    ``total_weight``, of all destinations.
    ``answer``: given instead of going anywhere, where there are no destinations; ``actions`` are
    what is done to it.
    """

    name: str
    match: Matcher
    destinations: tuple[Destination, ...]
    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()
    limits: tuple[RateLimit, ...] = ()
    split: str = CONVERSATION
    fault: Fault | None = None
    answer: OwnAnswer | None = None
    actions: Actions | None = None
    fallbacks: tuple[Fallback, ...] = ()
    hedge: Hedge | None = None
    mirrors: tuple[Mirror, ...] = ()
    head_limit: float = field(init=False)
    silence_limit: float = field(init=False)
    total_weight: int = field(init=False)

    def __post_init__(self) -> None:
        limits, retry = self.timeouts, self.retry
        silence = retry.per_try_idle_timeout
        head = _tighter(retry.per_try_timeout or limits.first_byte, silence)
        total = sum(arm.weight for arm in self.destinations)
        object.__setattr__(self, "total_weight", total)
        object.__setattr__(self, "head_limit", head)
        object.__setattr__(self, "silence_limit", _tighter(limits.idle, silence))

    @property
    def reads_conversation(self) -> bool:
        """Whether where a request goes may rest on ``LlmRequest.prefix_hash``."""
        if len(self.destinations) > 1 and self.split != REQUEST:
            return True
        return any(isinstance(one, Share) and one.by_conversation for one in self.match.more)

    def destination(self, request: LlmRequest, rng: Rng) -> Destination:
        """Draw one arm by weight. A request keeps its arm over all its attempts."""
        arms = self.destinations
        if len(arms) == 1:
            return arms[0]
        total = self.total_weight
        key = None
        if self.split == CONVERSATION:
            key = request.prefix_hash
        elif self.split != REQUEST:
            key = _session(self.split).of(request)
        if key is None:
            point = rng.randrange(total)
        else:
            # Mixed with the route's name: two routes must not split the same conversations alike.
            point = _hash(b"%x" % key + self.name.encode()) % total
        for arm in arms:
            point -= arm.weight
            if point < 0:
                return arm
        raise AssertionError("weights are positive")


def _tighter(one: float, other: float) -> float:
    """The shorter of two time limits, of which 0 is none."""
    return min(one, other) if one and other else one or other


class RouteTable:
    """Ordered routes with an index by exact name of model or adapter.

    Args:
        routes: in order of precedence.
        aliases: other names of models, each with the model's own.
    """

    __slots__ = (
        "_any_model",
        "_by_model",
        "_models",
        "aliases",
        "preflights",
        "routes",
    )

    def __init__(self, routes: Sequence[Route], aliases: Mapping[str, str] | None = None) -> None:
        self.routes = tuple(routes)
        named = dict.fromkeys(r.match.exact_model for r in routes if r.match.exact_model)
        self._models = tuple(name for name in named if name is not None)
        self.aliases: Mapping[str | None, str] = dict((aliases or {}).items())
        self.preflights = tuple(
            (cors, dataclasses.replace(route, destinations=(), answer=Preflight(cors)))
            for route in routes
            if (cors := _cors_of(route)) is not None
        )
        names = (*self._models, *{name for r in routes for name in r.match.adapters})
        self._any_model = Candidates([r for r in routes if r.match.exact_model is None])
        self._by_model: Mapping[str | None, Candidates] = {
            name: Candidates(
                [
                    r
                    for r in routes
                    if r.match.exact_model in (None, name) or name in r.match.adapters
                ]
            )
            for name in names
        }

    def resolved(self, request: LlmRequest) -> LlmRequest:
        """The request with the model that its own stands for."""
        model = self.aliases.get(request.model)
        if model is None:
            return request
        return request.but(model=model, alias=request.model)

    def preflight(self, request: LlmRequest) -> Route | None:
        """What answers this preflight, or None: it is none, or its origin is not allowed."""
        method = requested_method(request)
        if method is None:
            return None
        for cors, route in self.preflights:
            if route.match.takes_preflight(request, method) and cors.preflight(request):
                return route
        return None

    def match(self, request: LlmRequest, rng: Rng) -> Route | None:
        """The first route that takes the request, or None."""
        candidates = self._by_model.get(request.model, self._any_model)
        if candidates.certain is not None:
            return candidates.certain
        return candidates.match(request, rng)

    def knows(self, model: str) -> bool:
        """Whether any route could take this model, whatever its other conditions."""
        model = self.aliases.get(model, model)
        return any(route.match.takes_model(model) for route in self.routes)

    def denies(self, model: str) -> bool:
        """Whether routes ask for models, and none of those for this one.

        Other routes would take it under their other conditions. Whoever met none of these is
        helped most by hearing that there is no such model.
        """
        asking = [route.match for route in self.routes if route.match.model is not None]
        return bool(asking) and not any(match.takes_model(model) for match in asking)

    def models(self) -> tuple[str, ...]:
        """The models that routes name exactly, in order, and the aliases."""
        return (*self._models, *(name for name in self.aliases if name is not None))

    def __repr__(self) -> str:
        return f"<RouteTable {[route.name for route in self.routes]}>"


def _cors_of(route: Route) -> Cors | None:
    actions = [route.actions, *(arm.actions for arm in route.destinations)]
    return next((one.cors for one in actions if one is not None and one.cors is not None), None)

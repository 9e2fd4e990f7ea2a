"""Copies of requests for another cluster, whose answers nobody waits for.

A copy must not cost the client anything, nor its cluster more than was meant: it never waits for a
place, it is never retried, and what it may come to in tokens is drawn from a bucket of its own and
settled by what it came to. It counts as in flight where it runs, so that balancers and breakers see
the load, and tells nothing else of the endpoint: neither its outcomes nor its latency.
"""

from collections import Counter
from typing import TYPE_CHECKING, Literal

import msgspec
import xxhash

from router.core.admission.token_bucket import BucketSpec, Draw
from router.core.fault import drawn
from router.core.model import Endpoint, LlmRequest

if TYPE_CHECKING:
    from router.core.director import Director
    from router.core.exchange import Exchange
    from router.core.host import HostState

Ending = Literal["completed", "error", "failed", "timed_out", "cancelled"]
"""An answer below 500; one above; no whole answer; none in time; given up by the router."""

Skipped = Literal["body", "memory", "in_flight", "saturated", "unavailable", "tokens"]


class Mirror(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster that gets copies. ``percent`` 0 to 100, ``timeout`` in seconds for all of one.

    ``tokens``: what copies may come to, prompt and answer together; ``assumed_tokens`` is the
    answer's part where a request does not bound it. ``max_in_flight`` holds for one worker.
    ``host_suffix``: the Host says ``-shadow``, as Envoy's does. ``log``: in the access log, too.
    """

    cluster: str
    subset: tuple[tuple[str, str], ...] = ()
    percent: float = 100.0
    tokens: BucketSpec | None = None
    assumed_tokens: int = 1024
    max_in_flight: int = 100
    timeout: float = 300.0
    host_suffix: bool = True
    log: bool = False

    def cost(self, request: LlmRequest) -> int:
        """Tokens that a copy may come to."""
        answer = self.assumed_tokens if request.max_tokens is None else request.max_tokens
        return request.prompt_tokens + max(0, answer)


class MirrorState:
    """What one process keeps of the copies of one route for one cluster."""

    __slots__ = ("ended", "in_flight", "skipped", "tokens")

    def __init__(self) -> None:
        self.in_flight = 0
        self.ended: Counter[Ending] = Counter()
        self.skipped: Counter[Skipped] = Counter()
        self.tokens = 0

    def __repr__(self) -> str:
        return f"<MirrorState in_flight={self.in_flight} {self.ended} skipped={self.skipped}>"


class Shadow:
    """One copy under way: a claim on an endpoint, given back once by ``end``.

    Attributes:
        draw: what it has taken of the mirror's bucket; None where there is none.
    """

    __slots__ = ("_director", "_host", "_places", "_state", "draw", "ended", "endpoint", "mirror")

    def __init__(
        self, director: "Director", mirror: Mirror, state: MirrorState, host: "HostState"
    ) -> None:
        self._director = director
        self._host = host
        self._places = director.places(mirror.cluster)
        self._state = state
        self.mirror = mirror
        self.endpoint: Endpoint = host.endpoint
        self.draw: Draw | None = None
        self.ended = False
        state.in_flight += 1
        self._places.take()
        host.in_flight += 1
        host.shared.publish(host.slot, host.in_flight)

    def end(self, ending: Ending, tokens: int | None, now: float) -> None:
        """It is over; later calls are ignored.

        Args:
            tokens: what it came to, if the engine said.
        """
        if self.ended:
            return
        self.ended = True
        host, state = self._host, self._state
        state.in_flight -= 1
        state.ended[ending] += 1
        self._places.give_back()
        host.in_flight -= 1
        host.shared.publish(host.slot, host.in_flight)
        if tokens is None:
            return
        state.tokens += tokens
        if (draw := self.draw) is not None:
            rest = Draw(draw.key, draw.spec, tokens - draw.amount)
            self._director.limiter.store.charge([rest], now)

    def __repr__(self) -> str:
        return f"<Shadow {self.endpoint.id} ended={self.ended}>"


def begin(exchange: "Exchange", lacks: Skipped | None, now: float) -> list[Shadow]:
    """The copies to send of a request whose first attempt has begun.

    Args:
        lacks: what the driver has not got for a copy; None if it could send one.
    """
    assert exchange.route is not None
    director, found = exchange.director, []
    for mirror in exchange.route.mirrors:
        # A reload may have taken a cluster away from under an exchange that keeps its route.
        if mirror.cluster not in director.snapshot.clusters:
            continue
        if not drawn(mirror.percent, director.rng):
            continue
        state = director.mirrored(exchange.route.name, mirror.cluster)
        shadow = lacks or _shadow(exchange, mirror, state, now)
        if isinstance(shadow, Shadow):
            found.append(shadow)
        else:
            state.skipped[shadow] += 1
    return found


def _shadow(
    exchange: "Exchange", mirror: Mirror, state: MirrorState, now: float
) -> Shadow | Skipped:
    director, request = exchange.director, exchange.request
    traffic = director.traffic(mirror.cluster, mirror.subset)
    breaker, places = traffic.cluster.breaker, director.places(mirror.cluster)
    if state.in_flight >= mirror.max_in_flight:
        return "in_flight"
    if places.queue.waiting or places.active >= min(breaker.max_connections, breaker.max_requests):
        return "saturated"
    picked = director.any_of(traffic, request, now)
    if picked is None:
        return "unavailable"
    if traffic.limit and picked.active >= traffic.limit:
        return "saturated"
    draw = None
    if mirror.tokens is not None:
        name = f"mirror {exchange.route.name if exchange.route else ''} {mirror.cluster}"
        key = xxhash.xxh3_64_intdigest(name.encode())
        draw = Draw(key, mirror.tokens, float(mirror.cost(request)))
        if not director.limiter.store.take([draw], now)[0].allowed:
            return "tokens"
    shadow = Shadow(director, mirror, state, picked)
    shadow.draw = draw
    return shadow

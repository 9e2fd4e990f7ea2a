"""Why a request goes where it goes: the real director, asked on a world made for one question.

Nothing of a running process is used but what is read from it: :func:`explain` builds a fleet and
a director of its own from a ``World``, in which other workers' counts are numbers, what a balancer
remembers goes into an overlay, and buckets tell their level without giving. So it cannot take a
lease or a token, turn a rotation or move a conversation, and yet every decision is made by the
code that makes it for clients. What lies in a worker alone (the turn of a rotation, measured
latencies, retries in flight) is not known here; the seed stands for it.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import msgspec

from router.core.access.tenants import in_the_name_of
from router.core.admission.token_bucket import BucketSpec, Draw, Verdict, judge
from router.core.affinity import AffinityTable
from router.core.clock import Rng
from router.core.director import Director
from router.core.elsewhere_explained import links_seen, mirrors_seen
from router.core.errors import RouterError
from router.core.events import (
    CONNECT_FAILED,
    CONNECTED,
    GRANTED,
    START,
    Answer,
    Connect,
    Effect,
    Reject,
    Stage,
    TimedOut,
    Wait,
)
from router.core.exchange import Exchange
from router.core.explain_actions import answer_seen, changes
from router.core.explain_endpoints import candidates, levels, session_of
from router.core.explain_queue import queue_seen
from router.core.explanation import (
    Admission,
    Arm,
    AttemptSeen,
    BalancerSeen,
    ClientSees,
    Explanation,
    HedgeSeen,
    LimitSeen,
    QueueSeen,
    RequestSeen,
    RouteTried,
)
from router.core.fault_explained import after_delay, faults_seen
from router.core.fleet import Fleet
from router.core.forecast.forecast import Forecast
from router.core.forecast.recalled import Recalled
from router.core.forecast.seen import ForecastSeen
from router.core.load import LoadReport
from router.core.model import AdminState, Endpoint, EndpointId, LlmRequest
from router.core.retry.explained import failure, hedge_seen, longest_wait, rules
from router.core.routing import Route
from router.core.session.table import SessionTable
from router.core.shared_load import KnownLoad
from router.core.snapshot import Snapshot
from router.core.trace import RecordingTrace
from router.core.traffic import ClusterTraffic

MAX_ATTEMPTS = 16
"""Attempts that are shown; who is tried after that many failures is nobody's question."""

ASSUMED = "from the file: every endpoint taken as ready, healthy and idle, every bucket as full"

_BACKED_OFF = TimedOut(Stage.BACK_OFF)

Level = Callable[[int, BucketSpec, float], float]
"""(bucket, its spec, now) -> tokens in it, without taking any."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one endpoint.

    ``weight``: an operator's override. ``pushed_until``: it wants no new request before then.
    """

    admin: AdminState = AdminState.READY
    healthy: bool = True
    ejected: bool = False
    weight: int | None = None
    load: LoadReport | None = None
    load_fresh: bool = False
    pushed_until: float = 0.0


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What there is besides the configuration; the default is a router that just started.

    ``in_flight`` is by endpoint id and by the name of a cluster's places (``Cluster.pools``),
    ``waiting`` by the latter and by priority, ``drain`` by the latter. ``slots`` are the rows that
    ``in_flight`` and ``affinity`` are kept by; given with them or not at all. ``forecasts``: what a
    worker sees of this very request, by cluster.
    """

    view: str = ASSUMED
    now: float = 0.0
    known: Mapping[str, Known] = {}
    in_flight: Mapping[str, int] = {}
    waiting: Mapping[str, Mapping[int, int]] = {}
    drain: Mapping[str, float] = {}
    slots: Mapping[str, int] | None = None
    affinity: AffinityTable | None = None
    sessions: SessionTable | None = None
    level: Level | None = None
    forecasts: Mapping[str, ForecastSeen] = {}


class _Overlay(AffinityTable):
    """Reads another table and keeps what is put to itself."""

    __slots__ = ("_below", "_put")

    def __init__(self, below: AffinityTable) -> None:
        self._below = below
        self._put: dict[int, int] = {}

    def get(self, key: int) -> int | None:
        return self._put[key] if key in self._put else self._below.get(key)

    def put(self, key: int, slot: int) -> None:
        self._put[key] = slot


class _SessionOverlay(SessionTable):
    """The same for sessions."""

    __slots__ = ("_below", "_put")

    def __init__(self, below: SessionTable) -> None:
        self._below = below
        self._put: dict[int, int] = {}
        self.forgotten = 0

    def get(self, key: int, now: float) -> int | None:
        return self._put[key] if key in self._put else self._below.get(key, now)

    def put(self, key: int, slot: int, now: float, ttl: float) -> None:
        self._put[key] = slot


class _Levels:
    """Says what a bucket would say, and takes nothing; implements ``BucketStore``."""

    def __init__(self, level: Level) -> None:
        self._level = level

    def take(self, draws: Sequence[Draw], now: float) -> tuple[Verdict, ...]:
        return tuple(judge(self._level(draw.key, draw.spec, now), draw) for draw in draws)

    def charge(self, draws: Sequence[Draw], now: float) -> float:
        return 0.0

    def owe(self, key: int, spec: BucketSpec, amount: float, now: float) -> None:
        return None

    def flush(self, now: float) -> float:
        return 0.0


def _full(key: int, spec: BucketSpec, now: float) -> float:
    return spec.capacity


def refused(error: RouterError, view: str = ASSUMED) -> Explanation:
    """The explanation of a request that is refused before any route is looked at."""
    return Explanation(view=view, request=None, error=ClientSees.of(error))


def explain(
    snapshot: Snapshot, request: LlmRequest, rng: Rng, world: World | None = None
) -> Explanation:
    """Explain one request; a dry run.

    Args:
        rng: draws the arm and whatever the balancer draws.
        world: what is known of endpoints and load; a router that just started by default.
    """
    world = world if world is not None else World()
    request = in_the_name_of(request, snapshot.access)
    director = _director(snapshot, rng, world)
    trace = RecordingTrace()
    exchange = director.begin(request, world.now, trace)
    exchange.replayable = request.body_bytes <= snapshot.limits.buffer_body
    traffic = exchange.traffic
    queue = None if traffic is None else queue_seen(exchange, traffic, world)
    seen, scores = candidates(exchange, world)
    session = session_of(exchange, world.now)
    effect = first = after_delay(exchange, exchange.feed(START, world.now), world.now)
    faults = faults_seen(exchange)
    attempts: list[AttemptSeen] = []
    reached: Endpoint | None = None
    hedge: HedgeSeen | None = None
    for following in _followed(exchange, first, world.now):
        effect = following
        if isinstance(effect, Connect):
            hedge = hedge if attempts else hedge_seen(exchange)
            attempts.append(_attempt(effect, exchange))
            reached = reached or effect.endpoint
    end = ClientSees.of(effect.error) if isinstance(effect, Reject) else None
    route = exchange.route
    routes = _routes(trace, snapshot, exchange.request)
    told = Explanation(
        view=world.view,
        request=RequestSeen.of(exchange.request, snapshot.estimates.bytes_per_token),
        routes=routes,
        not_looked_at=len(snapshot.routes.routes) - len(routes),
        error=None if attempts else end,
        exhausted=end if attempts else None,
    )
    if isinstance(effect, Answer):
        name = None if route is None else route.name
        return msgspec.structs.replace(told, route=name, answer=answer_seen(effect))
    if route is None or traffic is None:
        return told
    return msgspec.structs.replace(
        told,
        route=route.name,
        arms=_arms(route, traffic),
        faults=faults,
        fallbacks=links_seen(exchange),
        admission=_admission(exchange, queue, world, first),
        mirrors=mirrors_seen(exchange),
        panic=traffic.hosts.panic,
        levels=levels(traffic.hosts),
        session=session,
        candidates=seen,
        balancer=BalancerSeen(
            type=str(traffic.cluster.balancer.__struct_config__.tag), notes=scores.notes
        ),
        attempts=tuple(attempts),
        changes=changes(exchange, reached),
        hedge=hedge,
        retry=rules(exchange, trace),
        timeouts=dataclasses.asdict(route.timeouts),
    )


def _director(snapshot: Snapshot, rng: Rng, world: World) -> Director:
    slots = world.slots
    counts = {} if slots is None else {slots[key]: n for key, n in world.in_flight.items()}
    below = world.affinity if world.affinity is not None else AffinityTable.of_size(4)
    sessions = world.sessions if world.sessions is not None else SessionTable.of_size(4)
    fleet = Fleet(KnownLoad(counts), _Overlay(below), sessions=_SessionOverlay(sessions))
    buckets = _Levels(world.level if world.level is not None else _full)
    director = Director(snapshot, fleet, rng, slots, buckets)
    director.limiter.dry = True
    for cluster, seen in world.forecasts.items():
        fleet.memory(cluster).keep(Forecast, partial(Recalled, seen))
    for id_, known in world.known.items():
        endpoint = EndpointId(id_)
        fleet.set_admin(endpoint, known.admin)
        fleet.set_health(endpoint, known.healthy)
        fleet.set_ejected(endpoint, known.ejected)
        if known.weight is not None:
            fleet.set_weight(endpoint, known.weight)
        fleet.set_load(endpoint, known.load if known.load_fresh else None)
        if known.pushed_until > world.now:
            fleet.set_pushed(endpoint, known.pushed_until)
    for _, _, places in director.all_places():
        if (rate := world.drain.get(places.name)) is not None:
            places.drain.assume(rate, world.now)
    return director


# --- the way in -------------------------------------------------------------------------------


def _routes(
    trace: RecordingTrace, snapshot: Snapshot, request: LlmRequest
) -> tuple[RouteTried, ...]:
    by_name = {route.name: route for route in snapshot.routes.routes}
    return tuple(
        RouteTried(
            name=name,
            failed=tuple(by_name[name].match.words(failed, request) for failed in conditions),
        )
        for name, conditions in trace.routes
    )


def _arms(route: Route, traffic: ClusterTraffic) -> tuple[Arm, ...]:
    total = sum(arm.weight for arm in route.destinations)
    return tuple(
        Arm(
            cluster=arm.cluster,
            subset=dict(arm.subset),
            weight=arm.weight,
            share=arm.weight / total,
            drawn=(arm.cluster, arm.subset) == (traffic.cluster.name, traffic.subset),
        )
        for arm in route.destinations
    )


def _admission(
    exchange: Exchange, queue: QueueSeen | None, world: World, first: Effect
) -> Admission:
    assert exchange.route is not None and queue is not None
    waits = isinstance(first, Wait)
    return Admission(
        verdict="waits" if waits else "admitted" if _starts(first) else "refused",
        limits=_limits(exchange, world),
        priority=exchange.request.priority.name.lower(),
        queue=queue,
        queue_timeout=exchange.route.timeouts.queue,
    )


def _limits(exchange: Exchange, world: World) -> tuple[LimitSeen, ...]:
    request, limiter = exchange.request, exchange.director.limiter
    level = world.level if world.level is not None else _full
    found = []
    for limit in limiter.limits(exchange):
        key = limit.key(request)
        # What other routers' store holds is not known here; a dry run asks nobody.
        known = key is not None and limit.scope == "machine"
        found.append(
            LimitSeen(
                name=limit.name,
                unit=limit.unit,
                per=tuple(map(str, limit.per)),
                scope=limit.scope,
                enforce=limit.enforce,
                capacity=limit.bucket.capacity,
                applies=key is not None,
                remaining=level(key, limit.bucket, world.now)
                if known and key is not None
                else None,
                needs=None if key is None else limiter.amount(limit, request),
            )
        )
    return tuple(found)


def _starts(effect: Effect) -> bool:
    # Where there is no endpoint the request was admitted, and had nowhere to go.
    return not isinstance(effect, Reject) or effect.error.flag == "UH"


# --- attempts ---------------------------------------------------------------------------------


def _followed(exchange: Exchange, effect: Effect, now: float) -> Iterator[Effect]:
    """The effect and those after it, each attempt failing in a way that is retried."""
    if isinstance(effect, Wait):
        effect = exchange.feed(GRANTED, now)  # as if a place became free
    yield effect
    while isinstance(effect, Connect) and effect.attempt < MAX_ATTEMPTS:
        assert exchange.route is not None
        failed = failure(exchange.route.retry)
        if failed is None:
            return
        if failed[1] is not CONNECT_FAILED:
            exchange.feed(CONNECTED, now)
        effect = exchange.feed(failed[1], now)
        if isinstance(effect, Wait):
            effect = exchange.feed(GRANTED if exchange.queued else _BACKED_OFF, now)
        yield effect


def _attempt(effect: Connect, exchange: Exchange) -> AttemptSeen:
    return AttemptSeen(
        attempt=effect.attempt,
        endpoint=effect.endpoint.id,
        reason=exchange.reason,
        wait=longest_wait(exchange),
        connect_timeout=effect.connect_timeout,
        first_byte_timeout=effect.first_byte_timeout,
    )

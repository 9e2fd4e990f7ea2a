"""What ``explain`` answers with: plain structures that become JSON as they are.

Durations are seconds, shares are 0 to 1, an endpoint is named by its id (``cluster/host:port``).
"""

import math
from collections.abc import Mapping

import msgspec

from router.core.admission.breaker import Thresholds
from router.core.errors import RouterError
from router.core.model import LlmRequest


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all parts of an explanation."""


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """A request in words. ``body``: the very bytes; without it, one is made of the other fields.

    ``prompt`` becomes the first user message; its beginning decides where affinity sends it.
    ``priority``: low, normal or high.
    """

    method: str = "POST"
    path: str = "/v1/chat/completions"
    headers: tuple[tuple[str, str], ...] = ()
    client: str = "127.0.0.1"
    model: str | None = None
    user: str | None = None
    prompt: str | None = None
    max_tokens: int | None = None
    tenant: str | None = None
    priority: str = "normal"
    body: bytes | None = None


class BadDescription(Exception):
    """No request can be as it is described. ``param``: the word at fault."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class OwnAnswer(Exception):
    """The router answers requests for this path itself, whatever the routes say."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is answered by the router itself: no route takes it")


class RequestSeen(Part, frozen=True, kw_only=True):
    """What the router knows of the request.

    ``path`` has its query; ``alias`` is what the client wrote for ``model``; ``prompt_tokens`` are
    estimated from ``body_bytes``; ``prefix_hash``: 16 hexadecimal digits.
    """

    method: str
    path: str
    host: str
    model: str | None
    alias: str | None
    user: str | None
    stream: bool
    max_tokens: int | None
    prompt_tokens: int
    tenant: str | None
    priority: str
    prefix_hash: str | None
    body_bytes: int

    @classmethod
    def of(cls, request: LlmRequest, bytes_per_token: float) -> "RequestSeen":
        key = request.prefix_hash
        return cls(
            method=request.method,
            path=request.target.decode("latin-1") or request.path,
            host=request.authority,
            model=request.model,
            alias=request.alias,
            user=request.user,
            stream=request.stream,
            max_tokens=request.max_tokens,
            prompt_tokens=request.estimated_prompt(bytes_per_token),
            tenant=request.tenant,
            priority=request.priority.name.lower(),
            prefix_hash=None if key is None else f"{key:016x}",
            body_bytes=request.body_bytes,
        )


class RouteTried(Part, frozen=True, kw_only=True):
    """One route that was looked at; ``failed`` is empty for the one that matched."""

    name: str
    failed: tuple[str, ...]


class Arm(Part, frozen=True, kw_only=True):
    """One destination of the route. ``drawn``: the one that this seed drew."""

    cluster: str
    subset: Mapping[str, str]
    weight: int
    share: float
    drawn: bool


class LimitSeen(Part, frozen=True, kw_only=True):
    """One rate limit. ``needs``: what it would take for this request, in its unit; ``remaining``
    before that. None where it does not apply or, of the latter, where other routers share it."""

    name: str
    unit: str
    per: tuple[str, ...]
    scope: str
    enforce: bool
    capacity: float
    applies: bool
    remaining: float | None
    needs: float | None


class QueueSeen(Part, frozen=True, kw_only=True):
    """A cluster's places and its queue, before this request.

    Attributes:
        places: the cluster's name, with ``!high`` where high priority has places of its own.
        per_endpoint: attempts in flight from which an endpoint takes no more; 0: no limit.
        share_of: whose share of the queue it counts on.
        cost: what it would cost, in estimated tokens or as one request.
        position: its place in line if it had to wait, from 1.
        predicted_wait: seconds until then; None where nothing was measured.
        shed_above: a longer wait is refused at once; None: no wait is.
    """

    places: str
    in_flight: int
    waiting: int
    limits: Thresholds
    per_endpoint: int
    share_of: str
    cost: float
    position: int
    predicted_wait: float | None
    shed_above: float | None


class Admission(Part, frozen=True, kw_only=True):
    """Whether the request may start. ``verdict``: admitted, waits or refused."""

    verdict: str
    priority: str
    limits: tuple[LimitSeen, ...]
    queue: QueueSeen
    queue_timeout: float


class LoadSeen(Part, frozen=True, kw_only=True):
    """An engine's own report. ``age`` in seconds; one that is not ``fresh`` is not used."""

    running: int
    waiting: int
    kv_usage: float | None
    age: float
    fresh: bool


class Candidate(Part, frozen=True, kw_only=True):
    """One endpoint of the cluster. ``removed``: what keeps it from being picked, or None.

    ``scores`` are the balancer's, where it has some.
    """

    endpoint: str
    removed: str | None
    labels: Mapping[str, str]
    priority: int
    locality: str
    weight: int
    in_flight: int
    load: LoadSeen | None
    scores: Mapping[str, float | str]


class LevelSeen(Part, frozen=True, kw_only=True):
    """One priority. ``load``: percent of the requests. ``localities``: shares of the level, 0 to 1.

    ``wanted`` endpoints are neither drained nor in maintenance; ``free`` ones are healthy and did
    not push back.
    """

    priority: int
    wanted: int
    healthy: int
    free: int
    load: int
    panic: bool
    localities: Mapping[str, float]


class SessionSeen(Part, frozen=True, kw_only=True):
    """What keeps a client at one endpoint. ``type`` and ``name`` as configured.

    ``known``: the request has a session. ``remembered``: its endpoint, usable or not; None if none
    is known, or it is gone.
    """

    type: str
    name: str
    known: bool
    remembered: str | None


class BalancerSeen(Part, frozen=True, kw_only=True):
    """``type`` as in the configuration; ``notes``: what the balancer says of this request."""

    type: str
    notes: Mapping[str, float | str]


class FaultSeen(Part, frozen=True, kw_only=True):
    """One fault of the route: what it ``does`` to which ``percent`` of the requests it concerns.

    ``concerned``: this request is one of those. ``drawn``: this seed drew it; None where that is
    only known when a stream begins.
    """

    kind: str
    does: str
    percent: float
    concerned: bool
    drawn: bool | None


class LinkSeen(Part, frozen=True, kw_only=True):
    """One of the route's fallbacks. ``taken``: why the request is sent on to it, as things stand.

    Where it is None the request does not get there, unless attempts fail that are not shown.
    """

    cluster: str
    subset: Mapping[str, str]
    model: str | None
    taken: str | None


class MirrorSeen(Part, frozen=True, kw_only=True):
    """Who gets copies of ``percent`` of the requests. ``cost``: tokens that one may come to."""

    cluster: str
    subset: Mapping[str, str]
    percent: float
    cost: int
    per_minute: float | None


class AttemptSeen(Part, frozen=True, kw_only=True):
    """Where an attempt goes, and why. Attempts after the first assume that those before failed.

    ``wait``: the longest back-off before it; 0 where it is made at once.
    """

    attempt: int
    endpoint: str
    reason: str
    wait: float
    connect_timeout: float
    first_byte_timeout: float


class RetryRules(Part, frozen=True, kw_only=True):
    """``assumed``: the failure by which the attempts after the first come about, if any.

    ``heeds``: the fields of a response that may name a wait. ``max_retries``: of the cluster, in
    place of the budget. ``refused``: why there is no attempt after the last one shown.
    """

    attempts: int
    on: tuple[str, ...]
    per_try_timeout: float
    per_try_idle_timeout: float
    budget_percent: float
    max_retries: int | None
    heeds: tuple[str, ...]
    replayable: bool
    assumed: str | None
    refused: str | None


class HedgeSeen(Part, frozen=True, kw_only=True):
    """A second attempt beside a slow one.

    ``after``: seconds, as far as they are known here; 0 where only a per-try time-out leads to
    one. ``endpoint``: where it would go, None if there is no other. ``refused``: why there is none.
    """

    after: float
    quantile: float | None
    max: int
    budget_percent: float
    on_per_try_timeout: bool
    endpoint: str | None
    refused: str | None


class ClientSees(Part, frozen=True, kw_only=True):
    """An error answer: ``error`` as in its body, ``flag`` as in the access log."""

    status: int
    flag: str
    error: Mapping[str, str | None]
    retry_after: int | None

    @classmethod
    def of(cls, error: RouterError) -> "ClientSees":
        wait = error.retry_after
        return cls(
            status=error.status,
            flag=error.flag,
            error={
                "message": error.message,
                "type": error.kind,
                "param": error.param,
                "code": error.code,
            },
            retry_after=max(1, math.ceil(wait or 0))
            if wait is not None or error.status == 503
            else None,
        )


class Changes(Part, frozen=True, kw_only=True):
    """What the route changes. Headers as ``+ name: value`` and ``- name``; ``host``, ``path`` and
    ``model`` as the engine gets them, None where they stay as they are."""

    path: str | None
    host: str | None
    model: str | None
    request: tuple[str, ...]
    response: tuple[str, ...]


class AnswerSeen(Part, frozen=True, kw_only=True):
    """What a route answers by itself. ``body``: its beginning."""

    status: int
    headers: tuple[str, ...]
    body: str


class Explanation(Part, frozen=True, kw_only=True):
    """The whole answer.

    Attributes:
        view: what was assumed of endpoints and load.
        answer: what the route answers, where no engine is asked.
        error: what the client gets instead of an attempt; None where there is one.
        exhausted: what the client gets when every attempt fails; None without attempts, or where
            the last endpoint's own answer is passed on.
        panic: too few endpoints are healthy, so health is ignored.
        levels: where endpoints have priorities or weighted localities; else there is one, not told.
    """

    view: str
    request: RequestSeen | None
    routes: tuple[RouteTried, ...] = ()
    not_looked_at: int = 0
    route: str | None = None
    arms: tuple[Arm, ...] = ()
    faults: tuple[FaultSeen, ...] = ()
    fallbacks: tuple[LinkSeen, ...] = ()
    hedge: HedgeSeen | None = None
    mirrors: tuple[MirrorSeen, ...] = ()
    admission: Admission | None = None
    panic: bool = False
    levels: tuple[LevelSeen, ...] = ()
    session: SessionSeen | None = None
    candidates: tuple[Candidate, ...] = ()
    balancer: BalancerSeen | None = None
    attempts: tuple[AttemptSeen, ...] = ()
    retry: RetryRules | None = None
    timeouts: Mapping[str, float] = {}
    changes: Changes | None = None
    answer: AnswerSeen | None = None
    error: ClientSees | None = None
    exhausted: ClientSees | None = None

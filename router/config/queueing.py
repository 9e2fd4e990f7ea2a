"""Circuit breakers and the queue in the configuration file. Names are Envoy's where it has them."""
# ruff: noqa: RUF012 -- an empty mapping as a default is copied by msgspec

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import msgspec

from router.config.findings import Path, Problem
from router.config.section import Count, Section, Text, doc
from router.config.units import Duration, Interval
from router.core.admission import breaker as core

MAX_PENDING = 1_000_000
SHORTEST_COMMENT = 0.5
"""Seconds between two comments of one stream; they cost as much as tokens do."""

Pending = Annotated[int, msgspec.Meta(ge=0, le=MAX_PENDING)]
Retries = Annotated[int, msgspec.Meta(ge=0, le=MAX_PENDING)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
Source = Annotated[str, msgspec.Meta(pattern=r"^(tenant|user|address|model|header:[!-9;-~]+)$")]


class Thresholds(Section, frozen=True, kw_only=True):
    """Limits of one priority, over all workers of the machine."""

    max_connections: Annotated[Count, doc("Requests in flight; more of them wait.")] = 1024
    max_pending: Annotated[Pending, doc("Requests that may wait; more are refused.")] = 1024
    max_requests: Annotated[
        Count, doc("Requests in flight beyond which more are refused at once.")
    ] = 1024
    max_retries: Annotated[
        Retries | None,
        doc(
            "Retries at one time, waiting ones included, in place of the routes' budgets; without "
            "it those hold."
        ),
    ] = None


class EndpointLimits(Section, frozen=True, kw_only=True):
    """Limits on each endpoint, over all workers of the machine; at least one of them."""

    max_connections: Annotated[
        Count | None,
        doc("Requests in flight from which it takes no more; when all are there, requests wait."),
    ] = None
    max_requests: Annotated[
        Count | None,
        doc("The same, but when all are there, requests are refused at once."),
    ] = None


class CircuitBreaker(Thresholds, frozen=True, kw_only=True):
    """Limits on the whole cluster, over all workers of the machine."""

    high: Annotated[
        Thresholds | None,
        doc(
            "Places, queue and limits of their own for requests of high priority. Without it "
            "these share, and go first in the queue."
        ),
    ] = None
    per_endpoint: Annotated[EndpointLimits | None, doc("Limits on each endpoint.")] = None


class Shed(Section, frozen=True, kw_only=True):
    """Refusing at once who would wait too long. A plain duration stands for the first field."""

    shorthand: ClassVar[str | None] = "when_wait_exceeds"

    when_wait_exceeds: Annotated[
        Interval,
        doc(
            "The longest wait that is promised, and never more than the route's timeouts.queue. "
            "It is predicted from the place in line and the rate at which places become free, so "
            "low priorities, who stand behind all others, are refused first."
        ),
    ]


class Queue(Section, frozen=True, kw_only=True):
    """How requests that wait share the places that become free."""

    fair_by: Annotated[
        tuple[Source, ...],
        doc(
            "Whose share it is: the first of `tenant`, `user` (the body's field), `address` (the "
            "client's), `model` and `header:NAME` that a request has. Empty: one line for all.",
            single=True,
            max_length=8,
        ),
    ] = ("tenant", "address")
    weights: Annotated[
        dict[Text, Share], doc("Shares by the name of whose they are; 1 for those not named.")
    ] = {}
    cost: Annotated[
        Literal["tokens", "requests"],
        doc("What is shared: estimated tokens of prompt and answer, or numbers of requests."),
    ] = "tokens"
    max_per_tenant: Annotated[
        Count | None, doc("Requests of one of them that may wait. Unset: all of max_pending.")
    ] = None
    age_after: Annotated[
        Interval, doc("Who waited longer may have every fourth place, whatever its priority.")
    ] = Interval(5)
    refuse_with: Annotated[
        Literal[503, 429], doc("The status of refusals, which always carry Retry-After.")
    ] = 503
    max_retry_after: Annotated[
        Interval, doc("The longest Retry-After; it is computed from how fast the queue moves.")
    ] = Interval(60)
    shed: Annotated[Shed | None, doc("Refuse at once who would wait too long.")] = None
    comments: Annotated[
        Duration,
        doc(
            "How often a waiting stream is told its place in line, in SSE comments; 0 for never. "
            "Its answer then begins at once with status 200: what fails later is an event."
        ),
    ] = Duration(0)


def breaker(spec: CircuitBreaker) -> core.CircuitBreaker:
    """The core's form."""
    fields = msgspec.structs.asdict(spec)
    if spec.high is not None:
        fields["high"] = core.Thresholds(**msgspec.structs.asdict(spec.high))
    if spec.per_endpoint is not None:
        fields["per_endpoint"] = core.EndpointLimits(**msgspec.structs.asdict(spec.per_endpoint))
    return core.CircuitBreaker(**fields)


def policy(spec: Queue) -> core.QueuePolicy:
    return core.QueuePolicy(
        fair_by=spec.fair_by,
        weights=spec.weights,
        by_tokens=spec.cost == "tokens",
        max_per_tenant=spec.max_per_tenant,
        age_after=float(spec.age_after),
        refuse_with=spec.refuse_with,
        max_retry_after=float(spec.max_retry_after),
        shed_above=None if spec.shed is None else float(spec.shed.when_wait_exceeds),
        comments=float(spec.comments),
    )


def problems(limits: CircuitBreaker, queue: Queue, path: Path) -> Iterator[Problem]:
    """What is wrong with the breaker and the queue of the cluster at ``path``."""
    each = limits.per_endpoint
    if each is not None and each.max_connections is None and each.max_requests is None:
        yield Problem(
            (*path, "circuit_breaker", "per_endpoint"),
            "no limit: give max_connections, max_requests or both",
        )
    most = max(limits.max_pending, 0 if limits.high is None else limits.high.max_pending)
    if queue.max_per_tenant is not None and queue.max_per_tenant > most:
        yield Problem(
            (*path, "queue", "max_per_tenant"),
            f"{queue.max_per_tenant} of one tenant cannot wait where {most} may wait in all",
        )
    if queue.weights and not queue.fair_by:
        yield Problem((*path, "queue", "weights"), "fair_by is empty: there are no shares")
    if 0 < queue.comments < SHORTEST_COMMENT:
        yield Problem((*path, "queue", "comments"), f"must be at least 500ms, not {queue.comments}")

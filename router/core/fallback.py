"""Another cluster, or another model, for a request whose destination cannot take it.

Every refusal of an exchange passes through ``Exchange.reject``; on a route with fallbacks it asks
here first. The chain is tried in order, each link as a destination of its own: with its queue, its
retries and its retry budget. Nothing of it happens once a response head has been passed on, nor for
what no other cluster could mend: the client's own errors, a limit, the end of the total time-out.
"""

from collections import Counter
from typing import TYPE_CHECKING, Literal

import msgspec

from router.core import errors
from router.core.actions import UNCHANGED, Actions, named
from router.core.events import Effect
from router.core.model import AdminState
from router.core.states import State

if TYPE_CHECKING:
    from router.core.director import Director
    from router.core.exchange import Exchange
    from router.core.traffic import ClusterTraffic

Reason = Literal["unavailable", "saturated", "failed"]

MAX_COUNTED = 4096
"""Different steps that are counted one by one; further ones are counted together."""


class Fallback(msgspec.Struct, frozen=True):
    """One link. ``model``: what its engines are told instead of the request's own."""

    cluster: str
    subset: tuple[tuple[str, str], ...] = ()
    model: str | None = None


class Detour:
    """How far an exchange has gone down its route's chain.

    Attributes:
        taken: links left behind, the present one included.
        attempts_before: attempts made before the present link; each link counts its own.
        why: (cluster, why it was left) of the destination and of each link left since.
        link: the present one.
    """

    __slots__ = ("attempts_before", "link", "taken", "why")

    def __init__(self, link: Fallback) -> None:
        self.taken = 0
        self.attempts_before = 0
        self.why: list[tuple[str, Reason]] = []
        self.link = link

    def __str__(self) -> str:
        return " -> ".join([*(f"{name} ({why})" for name, why in self.why), self.link.cluster])


class Steps:
    """Counts the steps of all exchanges by route, cluster, next cluster and reason."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str, str]] = Counter()

    def add(self, route: str, cluster: str, following: str, reason: Reason) -> None:
        key = (route, cluster, following, reason)
        if key not in self.counts and len(self.counts) >= MAX_COUNTED:
            key = ("other", "other", "other", reason)
        self.counts[key] += 1


def reason_of(error: errors.RouterError) -> Reason | None:
    """Why the present destination is left for this error; None: the error is final."""
    if isinstance(error, errors.NoHealthyUpstream):
        return "unavailable"
    if isinstance(error, errors.TotalTimeout):
        return None
    if isinstance(error, errors.UpstreamError):
        return "failed"
    return "saturated" if isinstance(error, (errors.Overflow, errors.QueueTimeout)) else None


def instead(exchange: "Exchange", error: errors.RouterError, now: float) -> Effect | None:
    """What is done instead of refusing the request; None if nothing is left to try."""
    reason = reason_of(error)
    if reason is None or not exchange.replayable:
        return None
    return _step(exchange, reason, now)


def after_answer(exchange: "Exchange", status: int, now: float) -> Effect | None:
    """What is done instead of passing an error answer on; the attempt is over then.

    429 and any 5xx are failures here, whatever the route retries. Unless a link could take the
    request as things stand, the client gets the answer that there is.
    """
    assert exchange.route is not None and exchange.lease is not None
    detour = exchange.detour
    left = exchange.route.fallbacks[detour.taken if detour is not None else 0 :]
    if (status != 429 and status < 500) or not exchange.replayable:
        return None
    if not any(_open(exchange.director, link) for link in left):
        return None
    assert exchange.lease.verdict is not None
    exchange.end_attempt(exchange.lease.verdict, now)
    return _step(exchange, "failed", now)


def hopeless(exchange: "Exchange") -> bool:
    """Whether nothing here is healthy while something further down the chain is.

    Without it a cluster in panic would be asked first, all of it known to be down.
    """
    assert exchange.route is not None and exchange.traffic is not None
    if _healthy(exchange.traffic):
        return False
    detour = exchange.detour
    left = exchange.route.fallbacks[detour.taken if detour is not None else 0 :]
    return any(_healthy(exchange.director.traffic(link.cluster, link.subset)) for link in left)


def _step(exchange: "Exchange", reason: Reason, now: float) -> Effect | None:
    assert exchange.route is not None and exchange.traffic is not None
    chain, detour, director = exchange.route.fallbacks, exchange.detour, exchange.director
    taken = 0 if detour is None else detour.taken
    # A reload may have taken a cluster away from under an exchange that keeps its route.
    while taken < len(chain) and chain[taken].cluster not in director.snapshot.clusters:
        taken += 1
    if taken == len(chain):
        return None
    link, left = chain[taken], exchange.traffic.cluster.name
    if detour is None:
        exchange.detour = detour = Detour(link)
    director.left(exchange)
    exchange.state = State.NEW
    exchange.traffic = director.traffic(link.cluster, link.subset)
    exchange.queued_since = now
    exchange.refusal, exchange.flag = "", "-"
    exchange.actions = _actions(exchange, link)
    detour.link = link
    detour.taken = taken + 1
    detour.attempts_before = exchange.attempt
    detour.why.append((left, reason))
    director.steps.add(exchange.route.name, left, link.cluster, reason)
    return director.admit(exchange, now)


def _actions(exchange: "Exchange", link: Fallback) -> Actions | None:
    """What is done to the request: what the route says, without what its destination said."""
    assert exchange.route is not None
    actions = exchange.route.actions
    if link.model is not None:
        return msgspec.structs.replace(actions or UNCHANGED, model=link.model)
    if exchange.request.alias is not None:
        return named(actions, exchange.request.model)
    return actions


def _open(director: "Director", link: Fallback) -> bool:
    """Whether a link could take a request at this moment."""
    if link.cluster not in director.snapshot.clusters:
        return False
    traffic = director.traffic(link.cluster, link.subset)
    return _healthy(traffic) and traffic.places.active < traffic.cluster.breaker.max_requests


def _healthy(traffic: "ClusterTraffic") -> bool:
    return any(
        host.healthy and not host.ejected and host.admin is AdminState.READY
        for host in traffic.hosts.all
    )

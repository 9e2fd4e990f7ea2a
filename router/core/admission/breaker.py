"""What a cluster bears, and what becomes of requests beyond it. All frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

HIGH: Final = "!high"
"""After the cluster's name: the board's row of its places for high priority."""
PENDING: Final = "!pending"
"""After that: the row in which workers tell how many wait."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Limits on one cluster, machine-wide. Defaults are Envoy's, but for ``max_retries``.

    ``max_connections`` bounds attempts in flight: HTTP/1.1 needs a connection for each. Requests
    beyond it wait, at most ``max_pending`` of them. ``max_requests`` bounds in-flight attempts
    too, but requests beyond it are refused at once (503, flag UO). ``max_retries`` bounds retries
    in flight, in place of the routes' budgets; None leaves it to those.
    """

    max_connections: int = 1024
    max_pending: int = 1024
    max_requests: int = 1024
    max_retries: int | None = None


@dataclass(frozen=True, kw_only=True)
class EndpointLimits:
    """Limits on each endpoint, machine-wide; None: none.

    An endpoint at either of them takes no further request. When all are, requests wait; when all
    are at ``max_requests``, they are refused at once.
    """

    max_connections: int | None = None
    max_requests: int | None = None

    @property
    def lowest(self) -> int:
        """Attempts in flight from which an endpoint is full; 0: never."""
        given = [n for n in (self.max_connections, self.max_requests) if n is not None]
        return min(given, default=0)


@dataclass(frozen=True, kw_only=True)
class CircuitBreaker(Thresholds):
    """The limits of one cluster.

    ``high``: requests of a priority above 0 have places, a queue and limits of their own, as
    Envoy's priority HIGH has; None: they share, and go first in the queue.
    """

    high: Thresholds | None = None
    per_endpoint: EndpointLimits | None = None


@dataclass(frozen=True, kw_only=True)
class QueuePolicy:
    """How those that wait share what becomes free. Durations in seconds.

    Attributes:
        fair_by: tenants are told apart by the first of these that a request has, see
            ``router.core.admission.tenancy``.
        weights: shares of tenants by name; 1 for those not named.
        by_tokens: a request costs its estimated tokens, or else each the same.
        max_per_tenant: how many of one tenant may wait; None: all of ``max_pending``.
        age_after: waiting after which a request may go out of turn, see ``fair_queue``.
        refuse_with: the status of refusals, 503 or 429.
        max_retry_after: the longest that a client is told to stay away.
        shed_above: refused at once is who would wait longer; None: nobody is.
        comments: interval of the comments that waiting streams get; 0: none.
    """

    fair_by: tuple[str, ...] = ("tenant", "address")
    weights: Mapping[str, float] = field(default_factory=dict)
    by_tokens: bool = True
    max_per_tenant: int | None = None
    age_after: float = 5.0
    refuse_with: int = 503
    max_retry_after: float = 60.0
    shed_above: float | None = None
    comments: float = 0.0

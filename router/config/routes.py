"""The configuration of routes: which requests they take, where these go and under which terms."""
# ruff: noqa: RUF012 -- an empty mapping as a default is copied by msgspec

from typing import Annotated, ClassVar, Literal

import msgspec

from router.config.matches import Match
from router.config.retry import Retry
from router.config.section import Count, Name, Section, Weight, doc
from router.config.units import Duration, Interval


class DestinationSpec(Section, frozen=True, kw_only=True):
    """A cluster, or a subset of it. A plain name stands for the cluster."""

    shorthand: ClassVar[str | None] = "cluster"

    cluster: Annotated[str, doc("Its name.")]
    subset: Annotated[dict[str, str], doc("Only endpoints that carry all these labels.")] = {}
    weight: Annotated[Weight, doc("Relative to the other destinations of the route.")] = 1


class RouteTimeouts(Section, frozen=True, kw_only=True):
    """Limits on the stages of a request; 0 switches one off."""

    connect: Annotated[Duration, doc("TCP connection of one attempt.")] = Duration(5)
    first_byte: Annotated[
        Duration, doc("From the sent request to the response head, per attempt.")
    ] = Duration(300)
    idle: Annotated[Duration, doc("Silence of the response body.")] = Duration(120)
    total: Annotated[Duration, doc("The whole exchange with all its attempts.")] = Duration(0)
    queue: Annotated[Duration, doc("Waiting for a place in the cluster.")] = Duration(30)


class RateLimitSpec(Section, frozen=True, kw_only=True):
    """A token bucket, filled continuously; a request takes one token (429 when there is none).

    It holds for all workers of the machine together and survives reloads.
    """

    max_tokens: Annotated[Count, doc("What the bucket holds: the largest burst.")]
    tokens_per_fill: Annotated[Count, doc("Tokens that are added in one fill interval.")]
    fill_interval: Annotated[Interval, doc("At least 50ms.")] = Interval(1)
    per: Annotated[
        tuple[
            Annotated[str, msgspec.Meta(pattern=r"^(model|user|address|header:[!-9;-~]+)$")], ...
        ],
        doc(
            "A bucket for each value of these: `model`, `user` (the body's field), `address` (the "
            "client's) or `header:NAME`. Requests without one of them are not limited. Empty: one "
            "bucket for the route.",
            single=True,
            max_length=8,
        ),
    ] = ()


class RouteSpec(Section, frozen=True, kw_only=True):
    """Requests that match go to these destinations; the first route that matches wins."""

    planned: ClassVar[tuple[str, ...]] = ("mirror", "rewrite", "fault", "fallbacks")

    name: Annotated[Name, doc("Unique among routes; appears in logs and metrics.")]
    match: Match = Match()
    to: Annotated[tuple[DestinationSpec, ...], doc("At least one.", single=True, min_length=1)]
    split: Annotated[
        Literal["conversation", "request"],
        doc(
            "How one of several destinations is drawn: by the prompt's prefix, so that a "
            "conversation never changes its version half-way, or anew for each request."
        ),
    ] = "conversation"
    timeouts: RouteTimeouts = RouteTimeouts()
    retry: Retry | None = Retry()
    limits: Annotated[
        tuple[RateLimitSpec, ...],
        doc("Drawn on in order; the first that is empty refuses the request.", max_length=16),
    ] = ()

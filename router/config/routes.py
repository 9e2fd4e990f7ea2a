"""The configuration of routes: which requests they take, where these go and under which terms."""
# ruff: noqa: RUF012 -- an empty mapping as a default is copied by msgspec

from typing import Annotated, ClassVar

import msgspec

from router.config.actions import (
    CorsSpec,
    DirectResponseSpec,
    HeadersSpec,
    RedirectSpec,
    Rewrite,
)
from router.config.fault import FaultSpec
from router.config.hedge import Hedge
from router.config.limits import RateLimitSpec
from router.config.matches import Match
from router.config.retry import Retry
from router.config.section import Count, Name, Section, Text, Weight, doc
from router.config.units import Amount, Duration, Interval, Percent

SPLIT_PATTERN = r"^(conversation|request|user|tenant|source_ip|(header|cookie):[!-9;<>-~]+)$"


class Target(Section, frozen=True, kw_only=True):
    """A cluster, or a subset of it. A plain name stands for the cluster."""

    shorthand: ClassVar[str | None] = "cluster"

    cluster: Annotated[str, doc("Its name.")]
    subset: Annotated[dict[str, str], doc("Only endpoints that carry all these labels.")] = {}


class DestinationSpec(Target, frozen=True, kw_only=True):
    """A cluster, or a subset of it. A plain name stands for the cluster."""

    weight: Annotated[Weight, doc("Relative to the other destinations of the route.")] = 1
    model: Annotated[
        Text | None, doc("What the engines here are told as the model; see rewrite.")
    ] = None
    headers: HeadersSpec = HeadersSpec()


class FallbackSpec(Target, frozen=True, kw_only=True):
    """A cluster, or a subset of it, for what the destination cannot take."""

    model: Annotated[
        Text | None, doc("The model that its engines are asked for instead of the request's.")
    ] = None


class MirrorSpec(Target, frozen=True, kw_only=True):
    """A cluster, or a subset of it, that gets copies of requests; their answers are dropped."""

    percent: Annotated[Percent, doc("How many of the requests, drawn at random.")] = Percent(100)
    max_tokens_per_minute: Annotated[
        Amount | None,
        doc("What copies may come to, prompt and answer together; without it, anything."),
    ] = None
    assumed_tokens: Annotated[
        Count, doc("The answer's part of that where a request has no max_tokens.")
    ] = 1024
    max_in_flight: Annotated[Count, doc("Copies under way at one time, for each worker.")] = 100
    timeout: Annotated[Interval, doc("For all of a copy; then it is given up.")] = Interval(300)
    host_suffix: Annotated[bool, doc("The copy's Host ends with -shadow, as in Envoy.")] = True
    log: Annotated[bool, doc("A line in the access log for each copy, with shadow: true.")] = False


class RouteTimeouts(Section, frozen=True, kw_only=True):
    """Limits on the stages of a request; 0 switches one off."""

    connect: Annotated[Duration, doc("TCP connection of one attempt.")] = Duration(5)
    first_byte: Annotated[
        Duration, doc("From the sent request to the response head, per attempt.")
    ] = Duration(300)
    idle: Annotated[Duration, doc("Silence of the response body.")] = Duration(120)
    total: Annotated[Duration, doc("The whole exchange with all its attempts.")] = Duration(0)
    queue: Annotated[Duration, doc("Waiting for a place in the cluster.")] = Duration(30)


class RouteSpec(Section, frozen=True, kw_only=True):
    """Requests that match go to these destinations; the first route that matches wins."""

    name: Annotated[Name, doc("Unique among routes; appears in logs and metrics.")]
    match: Match = Match()
    to: Annotated[
        tuple[DestinationSpec, ...],
        doc("At least one, unless the route answers itself.", single=True),
    ] = ()
    redirect: RedirectSpec | None = None
    direct_response: DirectResponseSpec | None = None
    rewrite: Rewrite = Rewrite()
    headers: HeadersSpec = HeadersSpec()
    cors: Annotated[
        CorsSpec | None,
        doc("Instead of the policy for all routes; without origins, no page may call."),
    ] = None
    split: Annotated[
        Annotated[str, msgspec.Meta(pattern=SPLIT_PATTERN)],
        doc(
            "How one of several destinations is drawn: by `conversation`, that is by the prompt's "
            "prefix, so that none changes its version half-way; by a session: `user` (the body's "
            "field), `tenant`, `source_ip`, `header:NAME` or `cookie:NAME`, and by the "
            "conversation where a request lacks that; or anew for each `request`."
        ),
    ] = "conversation"
    timeouts: RouteTimeouts = RouteTimeouts()
    retry: Retry | None = Retry()
    fallbacks: Annotated[
        tuple[FallbackSpec, ...],
        doc(
            "Tried in order where the destination has nothing healthy, is saturated, or fails "
            "before the first byte after its retries.",
            single=True,
            max_length=8,
        ),
    ] = ()
    hedge: Hedge | None = None
    mirror: Annotated[
        tuple[MirrorSpec, ...],
        doc("Who gets copies of its requests.", single=True, max_length=8),
    ] = ()
    limits: Annotated[
        tuple[RateLimitSpec, ...],
        doc(
            "All must allow a request; where one does not, nothing is taken from any.",
            single=True,
            max_length=16,
        ),
    ] = ()
    fault: Annotated[
        FaultSpec | None, doc("Delays and errors on purpose, to see how clients take them.")
    ] = None

    def targets(self) -> tuple[Target, ...]:
        """All places that its requests may go to."""
        return (*self.to, *self.fallbacks, *self.mirror)

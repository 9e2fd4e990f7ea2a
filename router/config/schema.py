"""The configuration file as types. Every field has its description, unit and default here, and the
JSON Schema and the reference are generated from this file.

A value of these types is resolved: variables replaced, secrets read, quantities parsed. It
travels to the workers as MessagePack (without the admin token, which they have no use for).
"""
# ruff: noqa: RUF012 -- an empty mapping as a default is copied by msgspec

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

import msgspec

from router.config.discovery import SPECS, DiscoverySpec
from router.config.outlier import Outlier
from router.config.section import Count, Name, Path, Section, Status, Text, Weight, doc
from router.config.units import QUANTITIES, Address, Duration, Interval, Percent, Secret, Size
from router.core.balancers import REGISTRY
from router.core.balancers.base import BalancerSpec
from router.core.balancers.prefix_hash import PrefixHash

if TYPE_CHECKING:
    AnyBalancer = BalancerSpec
    AnyDiscovery = DiscoverySpec
else:
    AnyBalancer = Union[tuple(balancer.Spec for balancer in REGISTRY)]  # noqa: UP007
    AnyDiscovery = Union[SPECS]  # noqa: UP007


class Listener(Section, frozen=True, kw_only=True):
    """An address on which clients are served."""

    planned: ClassVar[tuple[str, ...]] = ("tls",)

    name: Annotated[Name, doc("Unique among listeners.")] = "api"
    address: Annotated[Address, doc("Where to listen.")]


class ClientTimeouts(Section, frozen=True, kw_only=True):
    """How long a client may take; 0 switches a limit off."""

    head: Annotated[Duration, doc("First byte to the end of the request head (408).")] = Duration(
        15
    )
    body: Annotated[Duration, doc("Silence while a request body arrives (408).")] = Duration(30)
    idle: Annotated[Duration, doc("A kept connection without a request.")] = Duration(300)


class Limits(Section, frozen=True, kw_only=True):
    """What clients may send, on all listeners."""

    max_head: Annotated[Size, doc("Request line and headers together (431 beyond).")] = Size(65536)
    max_headers: Annotated[int, doc("Header lines of a request (431 beyond).", ge=1, le=10_000)] = (
        100
    )
    max_body: Annotated[Size, doc("Request body (413 beyond).")] = Size(64 << 20)
    buffer_body: Annotated[
        Size,
        doc(
            "Up to here a body is kept whole and can be sent to another endpoint; beyond, it is "
            "streamed and the request is not retried."
        ),
    ] = Size(1 << 20)
    max_buffered: Annotated[
        Size, doc("Request bytes held by one worker for all its clients (503 beyond).")
    ] = Size(512 << 20)
    write_high: Annotated[
        Size, doc("Response bytes a slow reader may leave unread before its engine is paused.")
    ] = Size(64 << 10)
    timeouts: ClientTimeouts = ClientTimeouts()
    expose_decision: Annotated[
        bool,
        doc("Answer with x-warmpath-endpoint and x-warmpath-reason: who served, and why."),
    ] = False


class Admin(Section, frozen=True, kw_only=True):
    """The admin API, the web page and /metrics."""

    planned: ClassVar[tuple[str, ...]] = ("tls",)

    address: Annotated[Address, doc("Any bind but loopback needs a token.")] = Address(
        "127.0.0.1:9901"
    )
    token: Annotated[
        Secret | None, doc("Bearer token that every call must carry; file:/path or ${ENV}.")
    ] = None


class Metrics(Section, frozen=True, kw_only=True):
    """A listener with /metrics, /livez and /readyz alone: safe to expose to a scraper."""

    address: Annotated[Address, doc("Where to listen.")]


class Drain(Section, frozen=True, kw_only=True):
    """What happens on SIGTERM: readiness fails, listeners close, streams finish."""

    min_drain: Annotated[
        Duration, doc("Keep accepting for so long, for load balancers to notice.")
    ] = Duration(5)
    timeout: Annotated[
        Interval, doc("Streams still open after so long are ended with an error.")
    ] = Interval(600)


class AccessLog(Section, frozen=True, kw_only=True):
    """One line for each request."""

    path: Annotated[Text, doc("stdout, stderr, off, or a file to append to.")] = "stdout"
    format: Annotated[Literal["json"], doc("json: one object a line.")] = "json"


class EndpointSpec(Section, frozen=True, kw_only=True):
    """One engine replica. A plain host:port stands for its address."""

    shorthand: ClassVar[str | None] = "address"
    planned: ClassVar[tuple[str, ...]] = ("locality", "priority", "role")

    address: Annotated[Address, doc("Unique within the cluster.")]
    weight: Annotated[Weight, doc("Relative to the other endpoints of the cluster.")] = 1
    labels: Annotated[
        dict[Name, Annotated[str, msgspec.Meta(max_length=256)]], doc("What subsets select by.")
    ] = {}
    drain: Annotated[bool, doc("It takes no new request, and finishes those it has.")] = False
    uid: Annotated[
        Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None,
        doc("Who it is: another uid at a known address is a new endpoint that learns anew."),
    ] = None


class ActiveHealth(Section, frozen=True, kw_only=True):
    """HTTP health checks; off switches them off."""

    path: Annotated[Path, doc("What to GET.")] = "/health"
    interval: Annotated[Interval, doc("Between the checks of one endpoint.")] = Interval(2)
    timeout: Annotated[Interval, doc("A check without an answer for so long has failed.")] = (
        Interval(1)
    )
    rise: Annotated[int, doc("Passes in a row that make it healthy.", ge=1, le=1000)] = 2
    fall: Annotated[int, doc("Failures in a row that make it unhealthy.", ge=1, le=1000)] = 3
    jitter: Annotated[
        Percent, doc("Each interval is lengthened at random by up to this share.")
    ] = Percent(10)
    expected: Annotated[
        tuple[Status, ...],
        doc(
            "The status that means healthy, or the first and last of a range.",
            single=True,
            min_length=1,
            max_length=2,
        ),
    ] = (200, 299)


class Health(Section, frozen=True, kw_only=True):
    """When an endpoint counts as able to serve."""

    active: ActiveHealth | None = ActiveHealth()
    outlier: Outlier | None = Outlier()
    panic_threshold: Annotated[
        Percent,
        doc("With a smaller share of healthy endpoints health is ignored; 0% disables this."),
    ] = Percent(50)


class Scrape(Section, frozen=True, kw_only=True):
    """Reading of the engines' own metrics; off switches it off."""

    path: Annotated[Path, doc("What to GET.")] = "/metrics"
    interval: Annotated[Interval, doc("Between the scrapes of one endpoint.")] = Interval(1)
    timeout: Annotated[Interval, doc("A scrape without an answer for so long has failed.")] = (
        Interval(1)
    )
    stale_after: Annotated[Interval, doc("An older report counts as unknown, never as zero.")] = (
        Interval(5)
    )


class CircuitBreaker(Section, frozen=True, kw_only=True):
    """Limits on the whole cluster, over all workers of the machine."""

    max_connections: Annotated[Count, doc("Requests in flight; more of them wait.")] = 1024
    max_pending: Annotated[
        int, doc("Requests that may wait; more are refused (503).", ge=0, le=1_000_000)
    ] = 1024
    max_requests: Annotated[
        Count, doc("Requests in flight beyond which more are refused at once (503).")
    ] = 1024


class ClusterSpec(Section, frozen=True, kw_only=True):
    """Endpoints that serve the same models, and how to choose among them."""

    planned: ClassVar[tuple[str, ...]] = ("limits", "tls")

    name: Annotated[Name, doc("Unique among clusters.")]
    endpoints: Annotated[
        tuple[EndpointSpec, ...],
        doc("At least one, unless they are discovered.", max_length=10_000),
    ] = ()
    discovery: Annotated[
        AnyDiscovery | None, doc("Where endpoints are looked up, instead of `endpoints`.")
    ] = None
    engine: Annotated[Literal["vllm"], doc("Dialect of the engines' metrics.")] = "vllm"
    models: Annotated[
        tuple[Text, ...],
        doc("The models that the cluster declares to serve.", single=True),
    ] = ()
    balancer: Annotated[AnyBalancer, doc("How an endpoint is chosen.")] = PrefixHash.Spec()
    health: Health = Health()
    scrape: Scrape | None = Scrape()
    circuit_breaker: CircuitBreaker = CircuitBreaker()


class StringCondition(Section, frozen=True, kw_only=True):
    """A condition on a text: exactly one of the fields, and invert. A plain text means exact."""

    shorthand: ClassVar[str | None] = "exact"

    exact: Annotated[str, msgspec.Meta(max_length=4096)] | None = None
    prefix: Text | None = None
    suffix: Text | None = None
    contains: Text | None = None
    regex: Annotated[Text | None, doc("Must match the whole text; Python's syntax.")] = None
    present: Annotated[bool | None, doc("true: is there at all; false: is absent.")] = None
    invert: Annotated[bool, doc("Negate the condition.")] = False


class Match(Section, frozen=True, kw_only=True):
    """Conditions that must all hold; without any, every request matches."""

    planned: ClassVar[tuple[str, ...]] = ("query", "size")

    model: Annotated[Text | None, doc("The request's model; * and ? are wildcards.")] = None
    host: Annotated[
        Text | None, doc("The Host header, with or without its port; * and ? are wildcards.")
    ] = None
    path: Annotated[StringCondition | None, doc("The path without its query.")] = None
    methods: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern="^[A-Z]{1,32}$")], ...],
        doc("HTTP methods, in capitals.", single=True),
    ] = ()
    headers: Annotated[dict[Text, StringCondition], doc("By name, in any case.")] = {}


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


RetryCause = Literal["connect-failure", "reset", "gateway-error", "5xx", "retriable-status-codes"]


class Retry(Section, frozen=True, kw_only=True):
    """When to try another endpoint, always before the response head; off switches it off."""

    attempts: Annotated[int, doc("Retries after the first try.", ge=0, le=100)] = 2
    per_try_timeout: Annotated[
        Duration, doc("From the connection to the response head; 0 for none.")
    ] = Duration(0)
    on: Annotated[
        tuple[RetryCause | Status, ...],
        doc("Causes with Envoy's meaning, and bare status codes.", single=True),
    ] = ("connect-failure", "reset")
    budget: Annotated[
        Percent, doc("Share of the cluster's active requests that may be retries.")
    ] = Percent(20)
    min_concurrency: Annotated[
        int, doc("Retries that may always run at one time.", ge=0, le=1_000_000)
    ] = 3


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


class Config(Section, frozen=True, kw_only=True):
    """A router's whole configuration."""

    planned: ClassVar[tuple[str, ...]] = ("tenants", "telemetry", "tls")

    version: Annotated[Literal[1], doc("Version of this format.")]
    workers: Annotated[
        Literal["auto"] | Annotated[int, msgspec.Meta(ge=1, le=256)],
        doc("Data plane processes; auto is one per core."),
    ] = "auto"
    listeners: Annotated[tuple[Listener, ...], doc("At least one.", min_length=1)] = (
        Listener(address=Address("0.0.0.0:8080")),
    )
    limits: Limits = Limits()
    admin: Annotated[Admin | None, doc("off: no admin API.")] = Admin()
    metrics: Metrics | None = None
    drain: Drain = Drain()
    access_log: AccessLog = AccessLog()
    clusters: Annotated[tuple[ClusterSpec, ...], doc("At least one.", min_length=1)]
    routes: Annotated[
        tuple[RouteSpec, ...], doc("At least one, in order of precedence.", min_length=1)
    ]


PLANNED_BALANCERS = (
    "predicted_ttft",
    "scored",
)  # fmt: skip
"""Named by the design; refused as not supported, not as a slip of the pen."""


# --- on the wire to workers -----------------------------------------------------------------


def _to_wire(value: Any) -> Any:
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, Size):
        return int(value)
    if isinstance(value, Duration | Percent):
        return float(value)
    raise TypeError(f"{type(value).__name__} does not travel to workers")


def _from_wire(kind: type, value: Any) -> Any:
    if kind in QUANTITIES:
        return kind(value)
    raise TypeError(f"{kind.__name__} does not travel to workers")


def encode(config: Config) -> bytes:
    """For workers, as MessagePack; the admin token stays behind."""
    if config.admin is not None:
        admin = msgspec.structs.replace(config.admin, token=None)
        config = msgspec.structs.replace(config, admin=admin)
    return msgspec.msgpack.encode(config, enc_hook=_to_wire)


def decode(data: bytes) -> Config:
    """Raises msgspec.DecodeError for bytes that ``encode`` did not make."""
    return msgspec.msgpack.decode(data, type=Config, dec_hook=_from_wire)


def _to_text(value: Any) -> Any:
    return str(value) if not isinstance(value, Secret) else "<redacted>"


def redacted(config: Config) -> dict[str, Any]:
    """Plain data for people: quantities with their units, every default, no secret."""
    plain: dict[str, Any] = redacted_value(config)
    return plain


def redacted_value(value: Any) -> Any:
    """Any part of a configuration as plain data for people."""
    return msgspec.to_builtins(value, enc_hook=_to_text)

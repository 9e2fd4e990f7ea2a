"""The configuration file as types. Every field has its description, unit and default here, and the
JSON Schema and the reference are generated from this file.

A value of these types is resolved: variables replaced, secrets read, quantities parsed. It
travels to the workers as MessagePack (without what they have no use for: see ``encode``).
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from router.config.access import Auth, AuthMode, Network, TenantSpec, hashed
from router.config.accesslog import AccessLog, TraceContext
from router.config.actions import CorsSpec
from router.config.clusters import ClusterSpec
from router.config.gossip import GossipSpec
from router.config.limits import RedisSpec, TokenEstimatesSpec
from router.config.locality import LocalitySpec
from router.config.matches import SizeSpec
from router.config.routes import RouteSpec
from router.config.section import Name, Section, Text, doc
from router.config.tls import ServerTls
from router.config.units import (
    QUANTITIES,
    Address,
    Amount,
    Duration,
    Interval,
    Percent,
    Rate,
    Secret,
    Size,
)


class Listener(Section, frozen=True, kw_only=True):
    """An address on which clients are served."""

    name: Annotated[Name, doc("Unique among listeners.")] = "api"
    address: Annotated[Address, doc("Where to listen.")]
    tls: Annotated[ServerTls | None, doc("off: in the clear.")] = None
    auth: Annotated[AuthMode | None, doc("For this listener, in the place of auth.mode.")] = None
    allow: Annotated[
        tuple[Network, ...],
        doc("Networks (CIDR) that may connect; empty: all.", single=True, max_length=1000),
    ] = ()
    deny: Annotated[
        tuple[Network, ...],
        doc("Networks that may not, whatever `allow` says.", single=True, max_length=1000),
    ] = ()
    trusted_hops: Annotated[
        int,
        doc(
            "Proxies of yours in front: the client's address is that many entries from the end of "
            "X-Forwarded-For, as with Envoy's xff_num_trusted_hops.",
            ge=0,
            le=32,
        ),
    ] = 0
    trusted_proxies: Annotated[
        tuple[Network, ...],
        doc(
            "Networks of your proxies, instead of their number: the client's address is the last "
            "entry of X-Forwarded-For that is in none of them.",
            single=True,
            max_length=1000,
        ),
    ] = ()


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


class AdminToken(Section, frozen=True, kw_only=True):
    """Somebody who may use the admin API."""

    name: Annotated[Name, doc("Appears in the log of what was changed.")]
    role: Annotated[
        Literal["read", "operate"], doc("`read`: look at everything and change nothing.")
    ] = "read"
    token: Annotated[Secret, doc("Bearer token; file:/path or ${ENV}.")]


class Admin(Section, frozen=True, kw_only=True):
    """The admin API, the web page and /metrics."""

    address: Annotated[Address, doc("Any bind but loopback needs a token or tls.client_ca.")] = (
        Address("127.0.0.1:9901")
    )
    token: Annotated[
        Secret | None,
        doc("Bearer token that every call must carry, with the role `operate`; file: or ${ENV}."),
    ] = None
    tokens: Annotated[
        tuple[AdminToken, ...], doc("Further tokens, each with its role.", max_length=100)
    ] = ()
    tls: Annotated[
        ServerTls | None,
        doc("off: in the clear. A required client certificate alone gives the role `operate`."),
    ] = None
    allow: Annotated[
        tuple[Network, ...],
        doc("Networks (CIDR) that may call; empty: all.", single=True, max_length=1000),
    ] = ()
    deny: Annotated[
        tuple[Network, ...],
        doc("Networks that may not, whatever `allow` says.", single=True, max_length=1000),
    ] = ()

    @property
    def guarded(self) -> bool:
        """Whether a caller has to show something."""
        return self.token is not None or bool(self.tokens) or self.by_certificate

    @property
    def by_certificate(self) -> bool:
        """Whether nobody gets in without a certificate."""
        tls = self.tls
        return tls is not None and tls.client_ca is not None and tls.require_client_cert


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


class Config(Section, frozen=True, kw_only=True):
    """A router's whole configuration."""

    planned: ClassVar[Mapping[str, str]] = {
        "telemetry": "metrics are read from /metrics, and no spans are sent"
    }

    version: Annotated[Literal[1], doc("Version of this format.")]
    workers: Annotated[
        Literal["auto"] | Annotated[int, msgspec.Meta(ge=1, le=256)],
        doc("Data plane processes; auto is one per core."),
    ] = "auto"
    locality: Annotated[
        LocalitySpec | None, doc("Where this router runs, for clusters' localities.")
    ] = None
    listeners: Annotated[tuple[Listener, ...], doc("At least one.", min_length=1)] = (
        Listener(address=Address("0.0.0.0:8080")),
    )
    limits: Limits = Limits()
    admin: Annotated[Admin | None, doc("off: no admin API.")] = Admin()
    metrics: Metrics | None = None
    drain: Drain = Drain()
    access_log: AccessLog = AccessLog()
    cors: Annotated[
        CorsSpec | None,
        doc("For all routes without a policy of their own, and the router's own paths."),
    ] = None
    aliases: Annotated[
        dict[Text, Text],
        doc(
            "Other names of models: a request for one is routed as for the model, and the engine "
            "is told the model's name."
        ),
    ] = msgspec.field(default_factory=dict)
    trace: TraceContext = TraceContext()
    sizes: Annotated[
        dict[Name, SizeSpec],
        doc("Classes of requests for routes' `size`, in order: the first that fits counts."),
    ] = msgspec.field(default_factory=dict)
    auth: Auth = Auth()
    tenants: Annotated[tuple[TenantSpec, ...], doc("Who uses the models.", max_length=10_000)] = ()
    clusters: Annotated[tuple[ClusterSpec, ...], doc("At least one.", min_length=1)]
    routes: Annotated[
        tuple[RouteSpec, ...], doc("At least one, in order of precedence.", min_length=1)
    ]
    token_estimates: TokenEstimatesSpec = TokenEstimatesSpec()
    redis: Annotated[
        RedisSpec | None,
        doc("Where limits of `scope: global` are kept, and routers on other machines are told."),
    ] = None
    gossip: GossipSpec = GossipSpec()


SHOWN_DIGITS = 12
"""Of a key's digest: enough to tell keys apart, too few to try guesses at a weak one."""


# --- on the wire to workers -----------------------------------------------------------------


def _to_wire(value: Any) -> Any:
    if isinstance(value, Address | Rate):
        return str(value)
    if isinstance(value, Size | Amount):
        return int(value)
    if isinstance(value, Duration | Percent):
        return float(value)
    if isinstance(value, Secret):  # those that are left are the workers' business, see ``encode``
        return value.reveal()
    raise TypeError(f"{type(value).__name__} does not travel to workers")


def _from_wire(kind: type, value: Any) -> Any:
    if kind in QUANTITIES:
        return kind(value)
    raise TypeError(f"{kind.__name__} does not travel to workers")


def encode(config: Config) -> bytes:
    """For workers, as MessagePack; admin tokens, tenants' keys and the log's salt stay behind.

    The credentials that engines want go along: workers send them.
    """
    admin = config.admin
    if admin is not None:
        admin = msgspec.structs.replace(admin, token=None, tokens=())
    tenants = tuple(hashed(tenant) for tenant in config.tenants)
    log = msgspec.structs.replace(config.access_log, salt=None)
    config = msgspec.structs.replace(config, admin=admin, tenants=tenants, access_log=log)
    return msgspec.msgpack.encode(config, enc_hook=_to_wire)


def decode(data: bytes) -> Config:
    """Raises msgspec.DecodeError for bytes that ``encode`` did not make."""
    return msgspec.msgpack.decode(data, type=Config, dec_hook=_from_wire)


def _to_text(value: Any) -> Any:
    return str(value) if not isinstance(value, Secret) else "<redacted>"


def redacted(config: Config) -> dict[str, Any]:
    """Plain data for people: quantities with their units, every default, no secret."""
    tenants = tuple(hashed(tenant) for tenant in config.tenants)
    plain: dict[str, Any] = redacted_value(msgspec.structs.replace(config, tenants=tenants))
    for tenant in plain["tenants"]:
        for key in tenant["keys"]:
            key["sha256"] = key["sha256"][:SHOWN_DIGITS] + "..."
    return plain


def redacted_value(value: Any) -> Any:
    """Any part of a configuration as plain data for people."""
    return msgspec.to_builtins(value, enc_hook=_to_text)

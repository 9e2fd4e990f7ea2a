"""What control and its workers say to each other, as a tagged union in MessagePack.

Control speaks first: a worker listens only once it has a snapshot. A worker never reads the
configuration file or the environment; what it must know comes through here.
"""

from typing import Any

import msgspec

from router.config.tls_material import ServerPem, UpstreamPem
from router.core.engine_cache.news import CacheNews, TipSeen
from router.core.forecast.seen import ForecastSeen
from router.core.load import LoadReport
from router.telemetry.totals import Totals


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all messages; the class name is the tag."""


# --- to a worker ----------------------------------------------------------------------------


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """Certificates and keys: of the listeners in their order, towards engines by cluster."""

    listeners: tuple[ServerPem | None, ...] = ()
    clusters: dict[str, UpstreamPem] = {}


class SnapshotUpdate(Message, frozen=True, kw_only=True):
    """A validated configuration. ``slots``: board rows by endpoint id and by cluster name.

    ``revision`` counts the changes of discovered endpoints since the generation came in force.
    ``explain_to``: SHA-256 of the tokens whose holders may have decisions told in answers.
    """

    generation: int
    revision: int = 0
    config: bytes
    slots: dict[str, int]
    explain_to: tuple[bytes, ...] = ()
    material: Material = Material()


class HostUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """What control knows of one endpoint.

    ``ejected``: by outlier detection. ``weight`` None: as configured. ``load`` None: unknown.
    ``load.at`` and ``pushed_until``, before which it wants no new request: monotonic seconds,
    which all processes of a machine share.
    """

    id: str
    admin: int = 0
    healthy: bool = True
    ejected: bool = False
    weight: int | None = None
    load: LoadReport | None = None
    pushed_until: float = 0.0


class HostStates(Message, frozen=True, kw_only=True):
    hosts: tuple[HostUpdate, ...]


class Models(Message, frozen=True, kw_only=True):
    """The body of ``GET /v1/models``; ``names``: which of them may be labels of metrics."""

    body: bytes
    names: tuple[str, ...] = ()


class KeySets(Message, frozen=True, kw_only=True):
    """The JWK sets of token issuers, as fetched, by issuer."""

    sets: dict[str, bytes]


class Announce(Message, frozen=True, kw_only=True):
    """Shutting down soon: answer ``Connection: close``, still accept. ``on`` False: no more."""

    on: bool = True


class Drain(Message, frozen=True, kw_only=True):
    """Close listeners and idle connections, finish what is under way, then exit.

    ``timeout``: seconds after which what remains is ended with an error.
    """

    timeout: float


class AbortAll(Message, frozen=True, kw_only=True):
    """End every exchange with an error, then exit."""

    reason: str


class Cancel(Message, frozen=True, kw_only=True):
    serial: int
    query: int


class CancelAt(Message, frozen=True, kw_only=True):
    """End every exchange whose attempt is under way at an endpoint."""

    endpoint: str
    reason: str


class RequestsQuery(Message, frozen=True, kw_only=True):
    """``endpoint``: only those whose attempt is under way there."""

    query: int
    endpoint: str | None = None


class ForecastQuery(Message, frozen=True, kw_only=True):
    """What do these clusters' forecasts say of a prompt?"""

    query: int
    clusters: tuple[str, ...]
    checkpoints: tuple[int, ...]
    prompt_bytes: int
    conversation: int


class CachesChanged(Message, frozen=True, kw_only=True):
    """What engines that are listened to said of their caches."""

    caches: tuple[CacheNews, ...]


# --- to control -----------------------------------------------------------------------------


class Ack(Message, frozen=True, kw_only=True):
    """The worker serves this revision of this generation, or why it does not."""

    generation: int
    revision: int = 0
    error: str | None = None


class RequestsReply(Message, frozen=True, kw_only=True):
    query: int
    requests: list[dict[str, Any]]


class ForecastReply(Message, frozen=True, kw_only=True):
    """By cluster; those that do not predict are left out."""

    query: int
    clusters: dict[str, ForecastSeen]


class CancelReply(Message, frozen=True, kw_only=True):
    query: int
    found: bool


class StatsReport(Message, frozen=True, kw_only=True):
    """Everything the worker counted since it started. Also the sign that its loop runs."""

    totals: Totals


class Suspected(Message, frozen=True, kw_only=True):
    """An endpoint's failures in a row met the threshold of this outlier detector."""

    id: str
    detector: str


class PushedBack(Message, frozen=True, kw_only=True):
    """An endpoint wants no new request until then, monotonic seconds."""

    id: str
    until: float


class TipsSeen(Message, frozen=True, kw_only=True):
    """Answers said which blocks their prompts have."""

    tips: tuple[TipSeen, ...]


class AccessLines(Message, frozen=True, kw_only=True):
    """Records of exchanges that ended, in order, one JSON line each."""

    data: bytes


ToWorker = (
    SnapshotUpdate
    | HostStates
    | Models
    | KeySets
    | Announce
    | Drain
    | AbortAll
    | Cancel
    | CancelAt
    | RequestsQuery
    | ForecastQuery
    | CachesChanged
)
ToControl = (
    Ack
    | RequestsReply
    | ForecastReply
    | CancelReply
    | StatsReport
    | Suspected
    | PushedBack
    | TipsSeen
    | AccessLines
)

encode = msgspec.msgpack.Encoder().encode
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_to_control = msgspec.msgpack.Decoder(ToControl).decode

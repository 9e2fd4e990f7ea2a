"""The nouns that every part of the core shares: endpoints and requests. All frozen."""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NewType

from router.core.access.names import NameSet

EndpointId = NewType("EndpointId", str)
"""``cluster/host:port``: one address in two clusters is two endpoints, as in Envoy. Where the
source of an endpoint knows who it is, ``#uid`` follows: an address may pass to another pod."""

Role = Literal["prefill", "decode", "both"]

BYTES_PER_TOKEN: Final = 4
"""Of a JSON body. English in a Llama or GPT vocabulary has 4 to 4.5 bytes a token, other languages
and code have fewer, and the JSON around the text adds some: so it is rather too high than too low,
and much too high where a body carries images or audio."""


class AdminState(enum.IntEnum):
    """What the operator wants of an endpoint, apart from its health (HAProxy's three words)."""

    READY = 0
    DRAIN = 1  # takes no new request, finishes what it has
    MAINT = 2  # as DRAIN, and neither probed nor scraped


class Priority(enum.IntEnum):
    """How much a request matters beside others; an engine that is short of room asks."""

    LOW = -1
    NORMAL = 0
    HIGH = 1


@dataclass(frozen=True)
class Locality:
    """Where an endpoint is; written ``region/zone/subzone``."""

    region: str = ""
    zone: str = ""
    subzone: str = ""

    def __str__(self) -> str:
        return "/".join((self.region, self.zone, self.subzone)).rstrip("/")


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One engine replica. ``weight`` is relative within its cluster, at least 1.

    ``draining``: it takes no new request, and finishes those it has.
    """

    id: EndpointId
    cluster: str
    host: str
    port: int
    weight: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    locality: Locality = Locality()
    priority: int = 0
    role: Role = "both"
    draining: bool = False

    address: str = field(init=False)
    """``host:port``, IPv6 in brackets; made from the two."""

    def __post_init__(self) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        object.__setattr__(self, "address", f"{host}:{self.port}")


_NORMAL: Final = Priority.NORMAL
_ATTRIBUTES: Final = (
    "alias",
    "authority",
    "body_bytes",
    "checkpoints",
    "client",
    "headers",
    "id",
    "max_tokens",
    "method",
    "model",
    "path",
    "permitted",
    "prefix_hash",
    "priority",
    "prompt_bytes",
    "scheme",
    "stream",
    "target",
    "tenant",
    "user",
)


class LlmRequest:
    """What a face knows of a request once its head and a peek of its body are read.

    ``headers`` have lower-case names in arrival order. ``target`` is the path with its query, as
    sent. ``prefix_hash`` is a 64-bit hash of the part of the prompt that identifies a conversation
    (see ``router.proxy.peek``), or None where the body has no prompt. ``tenant`` is who pays for
    the request, None where nobody said; ``scheme`` is how the client came. ``permitted``: the
    models that it may ask for, None for any. ``alias`` is the name that the client used where
    ``model`` is what it stands for. ``checkpoints`` name the beginnings of the prompt (see
    ``router.core.prefix.blocks``), ``prompt_bytes`` is its length; both are empty unless the face
    was asked for them.

    No dataclass, as one is made for each request: see ADR 14.
    """

    __slots__ = _ATTRIBUTES

    def __init__(
        self,
        *,
        id: str,  # noqa: A002 - keyword of every caller
        method: str,
        path: str,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        authority: str = "",
        client: str = "",
        model: str | None = None,
        stream: bool = False,
        max_tokens: int | None = None,
        user: str | None = None,
        prefix_hash: int | None = None,
        body_bytes: int = 0,
        target: bytes = b"",
        tenant: str | None = None,
        priority: Priority = _NORMAL,
        scheme: str = "http",
        permitted: NameSet | None = None,
        alias: str | None = None,
        checkpoints: tuple[int, ...] = (),
        prompt_bytes: int = 0,
    ) -> None:
        self.id: Final = id
        self.method: Final = method
        self.path: Final = path
        self.headers: Final = headers
        self.authority: Final = authority
        self.client: Final = client
        self.model: Final = model
        self.stream: Final = stream
        self.max_tokens: Final = max_tokens
        self.user: Final = user
        self.prefix_hash: Final = prefix_hash
        self.body_bytes: Final = body_bytes
        self.target: Final = target
        self.tenant: Final = tenant
        self.priority: Final = priority
        self.scheme: Final = scheme
        self.permitted: Final = permitted
        self.alias: Final = alias
        self.checkpoints: Final = checkpoints
        self.prompt_bytes: Final = prompt_bytes

    def __repr__(self) -> str:
        return f"<LlmRequest {self.id} {self.method} {self.path} model={self.model}>"

    def but(self, **changes: Any) -> "LlmRequest":
        """The same request save for these attributes."""
        return LlmRequest(**{name: getattr(self, name) for name in _ATTRIBUTES} | changes)

    @property
    def prompt_tokens(self) -> int:
        """An estimate: a token for every ``BYTES_PER_TOKEN`` bytes of the body, rounded up."""
        return self.estimated_prompt(BYTES_PER_TOKEN)

    def estimated_prompt(self, bytes_per_token: float) -> int:
        """As ``prompt_tokens``, at so many bytes a token."""
        return math.ceil(self.body_bytes / bytes_per_token)

    @property
    def query(self) -> str:
        """What stands behind the ``?`` of the target, as sent."""
        return self.target.partition(b"?")[2].decode("latin-1")

    def header(self, name: bytes) -> bytes | None:
        """All lines of a header joined by a comma, as Envoy matches them; None if absent."""
        found: bytes | None = None
        for key, value in self.headers:
            if key == name:
                found = value if found is None else found + b"," + value
        return found

    def cookie(self, name: bytes) -> bytes | None:
        header = self.header(b"cookie")
        size = len(name)
        if header is None or len(header) <= size:
            return None
        # `name in header` would first try it as a number, which costs ten times as much.
        if header.find(b";") < 0:  # the only one, as most clients of an API send it
            only = header[size] == 0x3D and header[:size] == name
            return header[size + 1 :] if only else None
        for pair in header.split(b";"):
            key, _, value = pair.strip().partition(b"=")
            if key == name:
                return value
        return None

"""Which buckets a request draws on, and what it is told.

A limit counts requests or LLM tokens for all its requests together, or per value of descriptors:
``tenant``, ``key``, ``model``, ``user``, ``address`` or ``header:NAME``, each narrowed to one
value by ``=VALUE``. A request that lacks one of a limit's descriptors is not subject to it, as in
Envoy. All limits that apply must allow a request; if one does not, nothing is taken from any.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

import xxhash

from router.core.admission.token_bucket import BucketSpec, Draw, Verdict
from router.core.errors import RateLimited
from router.core.model import LlmRequest

Unit = Literal["requests", "tokens"]
Scope = Literal["machine", "global"]
DescriptorKind = Literal["tenant", "key", "model", "user", "address", "header"]

_KINDS: Final[dict[str, DescriptorKind]] = {kind: kind for kind in get_args(DescriptorKind)}
CREDENTIALS: Final = (b"authorization", b"x-api-key", b"api-key")
"""Headers in which clients of OpenAI, Anthropic and Azure send their key."""


@dataclass(frozen=True)
class Descriptor:
    """What of a request has a bucket of its own. ``value``: only requests that have this one."""

    kind: DescriptorKind
    header: bytes = b""
    value: bytes | None = None

    @classmethod
    def parse(cls, text: str) -> "Descriptor":
        """From ``model``, ``tenant=gold`` or ``header:x-team=red``.

        Raises:
            ValueError: there is no such descriptor.
        """
        word, equals, value = text.partition("=")
        kind, _, header = word.partition(":")
        wanted = value.encode() if equals else None
        found = _KINDS.get(kind)
        if found is None or (kind == "header") is not bool(header):
            raise ValueError(f"unknown descriptor {text!r}")
        return cls(found, header.lower().encode(), wanted)

    def of(self, request: LlmRequest) -> bytes | None:
        """The request's value; None if it has none, or another than is wanted."""
        kind, found = self.kind, None
        if kind == "header":
            found = request.header(self.header)
        elif kind == "key":
            found = _credential(request)
        elif (text := _field(kind, request)) is not None:
            found = text.encode()
        return found if self.value is None or found == self.value else None

    def __str__(self) -> str:
        name = f"header:{self.header.decode()}" if self.kind == "header" else self.kind
        return name if self.value is None else f"{name}={self.value.decode()}"


def _field(kind: DescriptorKind, request: LlmRequest) -> str | None:
    if kind == "tenant":
        return request.tenant
    if kind == "model":
        return request.model
    return request.user if kind == "user" else request.client


def _credential(request: LlmRequest) -> bytes | None:
    for name in CREDENTIALS:
        found = request.header(name)
        if found is not None:
            return found
    return None


@dataclass(frozen=True, kw_only=True)
class RateLimit:
    """One limit.

    Attributes:
        per: descriptors whose values each have a bucket of their own.
        scope: whether the workers of this machine share the buckets, or all routers do.
        enforce: whether it refuses; one that does not is drawn on and reported all the same.
    """

    name: str
    bucket: BucketSpec
    per: tuple[Descriptor, ...] = ()
    unit: Unit = "requests"
    scope: Scope = "machine"
    enforce: bool = True

    own_key: int = field(init=False)
    """The bucket's key where there is one for all; made from the name."""
    begin: bytes = field(init=False)
    """Of what is hashed for a key; made from the name."""

    def __post_init__(self) -> None:
        begin = _part(self.name.encode())
        object.__setattr__(self, "begin", begin)
        object.__setattr__(self, "own_key", xxhash.xxh3_64_intdigest(begin))

    def key(self, request: LlmRequest) -> int | None:
        """The bucket of this request, None if the limit does not apply to it."""
        per = self.per
        if not per:
            return self.own_key
        found = self.begin
        for descriptor in per:
            value = descriptor.of(request)
            if value is None:
                return None
            found += b"%d:%b" % (len(value), value)
        return xxhash.xxh3_64_intdigest(found)


def _part(value: bytes) -> bytes:
    # Lengths go in, or ("ab", "c") and ("a", "bc") would share a bucket.
    return b"%d:%b" % (len(value), value)


class Held:
    """What one limit said to a request that asked for ``amount``."""

    __slots__ = ("amount", "limit", "verdict")

    def __init__(self, limit: RateLimit, verdict: Verdict, amount: float = 1.0) -> None:
        self.limit: Final = limit
        self.verdict: Final = verdict
        self.amount: Final = amount

    @property
    def refuses(self) -> bool:
        return self.limit.enforce and not self.verdict.allowed


class Standing:
    """How a request stands with the limits that apply to it, in their order: what was asked of
    each, and what it said."""

    __slots__ = ("draws", "limits", "verdicts")

    def __init__(
        self,
        limits: tuple[RateLimit, ...],
        draws: tuple[Draw, ...],
        verdicts: tuple[Verdict, ...],
    ) -> None:
        self.limits: Final = limits
        self.draws: Final = draws
        self.verdicts: Final = verdicts

    @property
    def held(self) -> tuple[Held, ...]:
        return tuple(
            Held(limit, verdict, draw.amount)
            for limit, draw, verdict in zip(self.limits, self.draws, self.verdicts, strict=True)
        )

    def with_more(self, other: "Standing") -> "Standing":
        """With further limits behind these."""
        return Standing(
            self.limits + other.limits,
            self.draws + other.draws,
            self.verdicts + other.verdicts,
        )

    @property
    def decisive(self) -> Held:
        """The first that refuses, else the tightest: the one with least left."""
        held = self.held
        return next((one for one in held if one.refuses), None) or _tightest(held)

    def headers(self) -> tuple[bytes, ...]:
        """``x-ratelimit-*``: of the decisive limit as Envoy (draft version 03) sends them, and of
        the tightest of each unit as OpenAI does."""
        held = self.held
        one = held[0] if len(held) == 1 else self.decisive
        remaining = max(0.0, one.verdict.remaining)
        # Zero while tokens remain, else whole seconds until the next one.
        missing = 1.0 - one.verdict.remaining
        reset = math.ceil(missing / one.limit.bucket.fill_rate - 1e-9) if missing > 1e-9 else 0
        lines = [
            b"x-ratelimit-limit: %d" % one.limit.bucket.capacity,
            b"x-ratelimit-remaining: %d" % (remaining + 1e-9),
            b"x-ratelimit-reset: %d" % reset,
        ]
        if len(held) == 1:
            return (*lines, *_openai(one))
        for unit in ("requests", "tokens"):
            if of_unit := [one for one in held if one.limit.unit == unit]:
                lines += _openai(_tightest(of_unit))
        return tuple(lines)


def _tightest(held: Iterable[Held]) -> Held:
    return min(held, key=lambda one: one.verdict.remaining)


def _openai(one: Held) -> tuple[bytes, bytes, bytes]:
    """What OpenAI's API says of a limit; its reset is when the bucket will be full."""
    bucket, unit = one.limit.bucket, one.limit.unit.encode()
    remaining = one.verdict.remaining
    full = (bucket.capacity - remaining) / bucket.fill_rate
    return (
        b"x-ratelimit-limit-%b: %d" % (unit, bucket.capacity),
        b"x-ratelimit-remaining-%b: %d" % (unit, max(0.0, remaining) + 1e-9),
        b"x-ratelimit-reset-%b: %b" % (unit, span(full)),
    )


def span(seconds: float) -> bytes:
    """A duration as OpenAI writes it: ``20ms``, ``1s``, ``6m0s``, ``1h0m0s``."""
    if seconds < 1:
        return b"%dms" % math.ceil(seconds * 1000 - 1e-6)
    whole = math.ceil(seconds - 1e-6)
    if whole < 60:
        return b"%ds" % whole
    if whole < 3600:
        return b"%dm%ds" % divmod(whole, 60)
    return b"%dh%dm%ds" % (whole // 3600, whole % 3600 // 60, whole % 60)


def refusal(standing: Standing) -> RateLimited:
    """The error for a standing that was not allowed."""
    held: Sequence[Held] = [one for one in standing.held if one.refuses]
    wait = max(one.verdict.wait for one in held)
    one = held[0]
    limit, remaining = one.limit, one.verdict.remaining
    message = f"rate limit {limit.name!r} of {limit.bucket.capacity:g} {limit.unit} is used up"
    if limit.unit == "tokens":
        message += (
            f": the request may need {one.amount:.0f}, {max(0, math.floor(remaining))} are left"
        )
    return RateLimited(
        f"{message}; try again in {wait:.1f} s",
        retry_after=math.ceil(wait),
        headers=standing.headers(),
    )

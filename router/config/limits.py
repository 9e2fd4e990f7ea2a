"""The configuration of rate limits: of routes, of tenants, and what they are counted with."""
# ruff: noqa: RUF012 -- an empty mapping as a default is copied by msgspec

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Annotated, ClassVar

import msgspec

from router.config.findings import Path, Problem
from router.config.section import Count, Section, Text, doc
from router.config.units import Address, Amount, Duration, Interval, Rate, Secret
from router.core.admission.estimates import TokenEstimates
from router.core.admission.rate_limit import Descriptor, RateLimit, Scope, Unit
from router.core.admission.shared_store import OnFailure, SharedStore
from router.core.admission.token_bucket import BucketSpec
from router.core.model import BYTES_PER_TOKEN

SHORTEST_FILL = 0.05
"""Seconds; Envoy's bound."""

PER = r"^(tenant|key|model|user|address|header:[!-9;<>-~]+)(=.+)?$"
ENVOYS = ("max_tokens", "tokens_per_fill", "fill_interval")

_RATE = "What is added in a time, continuously, and unless `burst` says otherwise held at most."
_BURST = "The most that can be used at once: what the bucket holds."
_DEBT = (
    "How far below zero what was used beyond the estimate may take the bucket; as much as it "
    "holds if not given."
)
_SCOPE = (
    "`machine`: for all workers of this machine together. `global`: for all routers that share "
    "the `redis`."
)
_ENFORCE = "false: count and report what would have been refused, and let it pass."


class RateLimitSpec(Section, frozen=True, kw_only=True):
    """A token bucket, filled continuously; what finds too little in it is refused (429).

    A plain rate limits requests. A limit of requests takes one for each. One of LLM tokens
    reserves what the request may come to, and is settled by what it came to. It survives reloads.
    """

    shorthand: ClassVar[str | None] = "rate"

    unit: Annotated[Unit, doc("What is counted: `requests`, or LLM `tokens` in and out.")] = (
        "requests"
    )
    rate: Annotated[Rate | None, doc(_RATE)] = None
    burst: Annotated[Amount | None, doc(_BURST)] = None
    debt: Annotated[Amount | None, doc(_DEBT)] = None
    max_tokens: Annotated[
        Count | None, doc("Envoy's words, in place of `rate`: what the bucket holds.")
    ] = None
    tokens_per_fill: Annotated[
        Count | None, doc("Envoy's words: what is added in one fill interval.")
    ] = None
    fill_interval: Annotated[Interval | None, doc("At least 50ms; 1s if not given.")] = None
    per: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=PER)], ...],
        doc(
            "A bucket for each value of these: `tenant`, `key` (the credential that was sent), "
            "`model`, `user` (the body's field), `address` (the client's) or `header:NAME`. "
            "`NAME=VALUE`: only for requests with this value. Requests without one of them are not "
            "limited. Empty: one bucket for all.",
            single=True,
            max_length=8,
        ),
    ] = ()
    scope: Annotated[Scope, doc(_SCOPE)] = "machine"
    enforce: Annotated[bool, doc(_ENFORCE)] = True

    def faults(self) -> Iterator[tuple[str, str]]:
        """What is wrong with the fields together: field (or none) and message."""
        words = [name for name in ENVOYS if getattr(self, name) is not None]
        if self.rate is not None and words:
            yield words[0], f"rate and {words[0]} together: give one or the other"
        elif self.rate is None and not (self.max_tokens and self.tokens_per_fill):
            yield "", "give a rate such as 100/min, or max_tokens with tokens_per_fill"
        elif self.rate is None and self.burst is not None:
            yield "burst", "burst goes with rate; here max_tokens is the burst"
        if self.fill_interval is not None and self.fill_interval < SHORTEST_FILL:
            yield "fill_interval", f"must be at least 50ms, not {self.fill_interval}"
        yield from _debt_faults(self.unit, self.debt)

    def build(self, name: str) -> RateLimit:
        """The core's limit."""
        if self.rate is not None:
            bucket = _bucket(self.rate, self.burst, self.debt, self.unit)
        else:
            assert self.max_tokens is not None and self.tokens_per_fill is not None
            seconds = 1.0 if self.fill_interval is None else float(self.fill_interval)
            capacity = float(self.max_tokens)
            bucket = BucketSpec(
                capacity, self.tokens_per_fill / seconds, _debt(capacity, self.debt, self.unit)
            )
        return RateLimit(
            name=name,
            bucket=bucket,
            per=tuple(Descriptor.parse(text) for text in self.per),
            unit=self.unit,
            scope=self.scope,
            enforce=self.enforce,
        )


class Allowance(Section, frozen=True, kw_only=True):
    """One limit of a tenant; a plain rate will do."""

    shorthand: ClassVar[str | None] = "rate"

    rate: Annotated[Rate, doc(_RATE)]
    burst: Annotated[Amount | None, doc(_BURST)] = None
    debt: Annotated[Amount | None, doc(_DEBT)] = None
    scope: Annotated[Scope, doc(_SCOPE)] = "machine"
    enforce: Annotated[bool, doc(_ENFORCE)] = True


class Allowances(Section, frozen=True, kw_only=True):
    """What a tenant may use of one model."""

    requests: Annotated[Allowance | None, doc("A rate such as 100/min.")] = None
    tokens: Annotated[Allowance | None, doc("A rate such as 200k/min.")] = None


class TenantLimits(Section, frozen=True, kw_only=True):
    """What a tenant may use on all routes together, beside what the routes themselves limit."""

    requests: Annotated[Allowance | None, doc("A rate such as 100/min.")] = None
    tokens: Annotated[Allowance | None, doc("A rate such as 200k/min: LLM tokens in and out.")] = (
        None
    )
    models: Annotated[
        dict[Text, Allowances], doc("Further limits for requests that name this model.")
    ] = {}

    def each(self) -> Iterator[tuple[Path, Allowance]]:
        """All that are given, and where."""
        sets: list[tuple[Path, TenantLimits | Allowances]] = [((), self)]
        sets += [(("models", name), found) for name, found in self.models.items()]
        for path, found in sets:
            for unit in _UNITS:
                if (one := getattr(found, unit)) is not None:
                    yield (*path, unit), one

    def faults(self) -> Iterator[tuple[Path, str]]:
        """What is wrong with fields together: path and message."""
        for path, one in self.each():
            unit: Unit = "tokens" if path[-1] == "tokens" else "requests"
            for field, message in _debt_faults(unit, one.debt):
                yield (*path, field), message

    def build(self, tenant: str) -> tuple[RateLimit, ...]:
        """The core's limits."""
        found = _allowances(f"tenant {tenant}", self.requests, self.tokens, ())
        for model, own in self.models.items():
            only = (Descriptor("model", value=model.encode()),)
            found += _allowances(f"tenant {tenant} model {model}", own.requests, own.tokens, only)
        return tuple(found)


_UNITS: tuple[Unit, ...] = ("requests", "tokens")


def _allowances(
    name: str,
    requests: Allowance | None,
    tokens: Allowance | None,
    per: tuple[Descriptor, ...],
) -> list[RateLimit]:
    return [
        RateLimit(
            name=f"{name} {unit}",
            bucket=_bucket(one.rate, one.burst, one.debt, unit),
            per=per,
            unit=unit,
            scope=one.scope,
            enforce=one.enforce,
        )
        for unit, one in zip(_UNITS, (requests, tokens), strict=True)
        if one is not None
    ]


def _bucket(rate: Rate, burst: Amount | None, debt: Amount | None, unit: Unit) -> BucketSpec:
    capacity = float(rate.amount if burst is None else burst)
    return BucketSpec(capacity, rate.amount / rate.period, _debt(capacity, debt, unit))


def _debt(capacity: float, debt: Amount | None, unit: Unit) -> float:
    # A request is known to be one: nothing can come beyond it.
    return 0.0 if unit == "requests" else capacity if debt is None else float(debt)


def _debt_faults(unit: Unit, debt: Amount | None) -> Iterator[tuple[str, str]]:
    if unit == "requests" and debt is not None:
        yield "debt", "only limits of tokens can have debt: a request is never more than one"


class TokenEstimatesSpec(Section, frozen=True, kw_only=True):
    """How many LLM tokens a request is taken to need before its engine has counted them."""

    bytes_per_token: Annotated[
        float, doc("Bytes of a request's body for each token of its prompt.", ge=0.5, le=64)
    ] = float(BYTES_PER_TOKEN)
    output: Annotated[Amount, doc("Tokens of an answer whose request has no max_tokens.")] = Amount(
        256
    )
    context: Annotated[
        Amount, doc("A prompt is never taken to be longer, however large its body (images).")
    ] = Amount(131072)
    learn: Annotated[
        bool, doc("Correct the first two for each model by the usage in the engines' answers.")
    ] = True

    def build(self) -> TokenEstimates:
        return TokenEstimates(
            bytes_per_token=self.bytes_per_token,
            output=float(self.output),
            context=float(self.context),
            learn=self.learn,
        )


class RedisSpec(Section, frozen=True, kw_only=True):
    """The Redis in which all routers keep the limits of `scope: global`, and through which they
    tell each other of prompts (`gossip`)."""

    shorthand: ClassVar[str | None] = "address"

    address: Annotated[Address, doc("One server, or a proxy in front of several.")]
    username: Annotated[Text | None, doc("For servers with access lists.")] = None
    password: Annotated[Secret | None, doc("file:/path or ${ENV}.")] = None
    database: Annotated[int, doc("Its number.", ge=0, le=65535)] = 0
    tls: Annotated[bool, doc("Encrypt; the server's certificate is verified.")] = False
    prefix: Annotated[
        str,
        msgspec.Meta(pattern=r"^[A-Za-z0-9_.:-]{0,64}$"),
        doc("Begins every key; routers that share limits have the same."),
    ] = "warmpath:"
    timeout: Annotated[Interval, doc("How long a request waits for an answer.")] = Interval(0.05)
    on_failure: Annotated[
        OnFailure,
        doc(
            "Without an answer: `local_share` draws on a bucket of this machine, with its part of "
            "the limit; `allow` lets pass; `deny` refuses (503, flag RLSE)."
        ),
    ] = "local_share"
    machines: Annotated[
        int, doc("Routers that share the limits; a local share is one of so many.", ge=1, le=10_000)
    ] = 1
    retry_interval: Annotated[
        Duration, doc("After a failure, between two attempts to reach it again.")
    ] = Duration(1)

    def build(self) -> SharedStore:
        return SharedStore(
            timeout=float(self.timeout), on_failure=self.on_failure, machines=self.machines
        )


def redis_problems(redis: RedisSpec | None) -> Iterator[Problem]:
    """What is wrong with the section ``redis``."""
    if redis is not None and find_spec("redis") is None:
        yield Problem(("redis",), "needs the extra: pip install 'warmpath[redis]'", at_key=True)


def limit_problems(
    limits: Sequence[RateLimitSpec], path: Path, redis: RedisSpec | None
) -> Iterator[Problem]:
    """What is wrong with the field ``limits`` of the part at ``path``."""
    for number, limit in enumerate(limits):
        here: Path = (*path, "limits", number)
        for field, message in limit.faults():
            yield Problem((*here, field) if field else here, message)
        if limit.scope == "global" and redis is None:
            yield Problem((*here, "scope"), NO_REDIS)


def tenant_limit_problems(
    limits: TenantLimits, path: Path, redis: RedisSpec | None
) -> Iterator[Problem]:
    """What is wrong with the field ``limits`` of the tenant at ``path``."""
    for where, message in limits.faults():
        yield Problem((*path, "limits", *where), message)
    for where, one in limits.each():
        if one.scope == "global" and redis is None:
            yield Problem((*path, "limits", *where, "scope"), NO_REDIS)


NO_REDIS = "limits of all routers are kept in Redis: give redis: {address: host:port}"

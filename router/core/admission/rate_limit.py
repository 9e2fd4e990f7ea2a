"""Which bucket a request draws on, and what it is told.

A limit counts requests per route, or per value of descriptors: ``model``, ``user``, ``address``
or ``header:NAME``. A request that lacks one of a limit's descriptors is not subject to it, as in
Envoy. Limits are drawn in their order; the first that refuses ends it, and what the ones before
it gave is not given back.
"""

import math
from collections.abc import Sequence

import msgspec
import xxhash

from router.core.admission.token_bucket import BucketSpec, BucketStore, Verdict
from router.core.errors import RateLimited
from router.core.model import LlmRequest


class RateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """One limit of a route. ``per``: descriptors whose values each have a bucket of their own."""

    name: str
    bucket: BucketSpec
    per: tuple[str, ...] = ()

    def key(self, request: LlmRequest) -> int | None:
        """The bucket of this request, None if the limit does not apply to it."""
        parts = [self.name.encode()]
        for descriptor in self.per:
            value = _descriptor(descriptor, request)
            if value is None:
                return None
            parts.append(value)
        # Lengths go in, or ("ab", "c") and ("a", "bc") would share a bucket.
        return xxhash.xxh3_64_intdigest(b"".join(b"%d:%b" % (len(p), p) for p in parts))


class Standing(msgspec.Struct, frozen=True, gc=False):
    """How a request stands with the tightest limit that applied to it."""

    limit: RateLimit
    verdict: Verdict

    def headers(self) -> tuple[bytes, ...]:
        """The ``x-ratelimit-*`` lines, as Envoy's (draft version 03) sends them."""
        verdict = self.verdict
        # Zero while tokens remain, else whole seconds until the next one.
        missing = 1.0 - verdict.remaining
        reset = math.ceil(missing / self.limit.bucket.fill_rate - 1e-9) if missing > 1e-9 else 0
        return (
            b"x-ratelimit-limit: %d" % self.limit.bucket.capacity,
            b"x-ratelimit-remaining: %d" % (verdict.remaining + 1e-9),
            b"x-ratelimit-reset: %d" % reset,
        )


def draw_all(
    limits: Sequence[RateLimit], request: LlmRequest, store: BucketStore, now: float
) -> Standing | None:
    """Draw on every limit that applies; None if none does.

    The standing returned is the refusing one, or the one with the fewest requests left.
    """
    tightest: Standing | None = None
    for limit in limits:
        key = limit.key(request)
        if key is None:
            continue
        verdict = store.take(key, limit.bucket, 1.0, now)
        if not verdict.allowed:
            return Standing(limit, verdict)
        if tightest is None or verdict.remaining < tightest.verdict.remaining:
            tightest = Standing(limit, verdict)
    return tightest


def refusal(standing: Standing) -> RateLimited:
    """The error for a standing that was not allowed."""
    wait = standing.verdict.wait
    return RateLimited(
        f"rate limit {standing.limit.name!r} of {standing.limit.bucket.capacity:g} requests "
        f"is used up; try again in {wait:.1f} s",
        retry_after=math.ceil(wait),
        headers=standing.headers(),
    )


def _descriptor(name: str, request: LlmRequest) -> bytes | None:
    kind, _, field = name.partition(":")
    value: str | None
    match kind:
        case "header":
            return request.header(field.lower().encode())
        case "model":
            value = request.model
        case "user":
            value = request.user
        case "address":
            value = request.client
        case _:
            raise ValueError(f"unknown descriptor {name!r}")
    return None if value is None else value.encode()

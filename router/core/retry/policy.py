"""Which failures are worth another attempt. Terms and meaning are Envoy's ``retry_on``.

An attempt is repeated only before the response head went to the client. POST is repeated too:
inference has no side effect. What each cause covers was compared with Envoy 1.40, case by case
(``tests/oracle``).
"""

import enum
from typing import Protocol

import msgspec

from router.core.clock import Rng
from router.core.model import LlmRequest
from router.core.retry.back_off import GRAIN, BackOff, RateLimited
from router.core.retry.fields import field


class RetryOn(enum.Flag):
    """The causes; a policy is a union of them."""

    NONE = 0
    CONNECT_FAILURE = enum.auto()
    RESET = enum.auto()  # any failure without a response head, time-outs included
    RESET_BEFORE_REQUEST = enum.auto()  # the endpoint cannot have seen the request
    GATEWAY_ERROR = enum.auto()  # 502, 503, 504, and what RESET covers
    FIVE_XX = enum.auto()  # any 5xx, and what RESET covers
    RETRIABLE_4XX = enum.auto()  # 409 alone, as in Envoy
    RETRIABLE_STATUS_CODES = enum.auto()
    RETRIABLE_HEADERS = enum.auto()
    ENVOY_RATELIMITED = enum.auto()  # a response with x-envoy-ratelimited
    CANCELLED = enum.auto()  # this and the four below: grpc-status in the response head
    DEADLINE_EXCEEDED = enum.auto()
    RESOURCE_EXHAUSTED = enum.auto()
    INTERNAL = enum.auto()
    UNAVAILABLE = enum.auto()
    REFUSED_STREAM = enum.auto()  # of HTTP/2: never happens over HTTP/1.1
    HTTP3_POST_CONNECT_FAILURE = enum.auto()  # of HTTP/3: likewise


RETRY_ON_NAMES: dict[str, RetryOn] = {
    "connect-failure": RetryOn.CONNECT_FAILURE,
    "reset": RetryOn.RESET,
    "reset-before-request": RetryOn.RESET_BEFORE_REQUEST,
    "gateway-error": RetryOn.GATEWAY_ERROR,
    "5xx": RetryOn.FIVE_XX,
    "retriable-4xx": RetryOn.RETRIABLE_4XX,
    "retriable-status-codes": RetryOn.RETRIABLE_STATUS_CODES,
    "retriable-headers": RetryOn.RETRIABLE_HEADERS,
    "envoy-ratelimited": RetryOn.ENVOY_RATELIMITED,
    "cancelled": RetryOn.CANCELLED,
    "deadline-exceeded": RetryOn.DEADLINE_EXCEEDED,
    "internal": RetryOn.INTERNAL,
    "resource-exhausted": RetryOn.RESOURCE_EXHAUSTED,
    "unavailable": RetryOn.UNAVAILABLE,
    "refused-stream": RetryOn.REFUSED_STREAM,
    "http3-post-connect-failure": RetryOn.HTTP3_POST_CONNECT_FAILURE,
}

_NO_RESPONSE = RetryOn.RESET | RetryOn.GATEWAY_ERROR | RetryOn.FIVE_XX
_NOT_SEEN = RetryOn.CONNECT_FAILURE | RetryOn.RESET_BEFORE_REQUEST | _NO_RESPONSE

# https://grpc.io/docs/guides/status-codes
_GRPC = {
    "1": RetryOn.CANCELLED,
    "4": RetryOn.DEADLINE_EXCEEDED,
    "8": RetryOn.RESOURCE_EXHAUSTED,
    "13": RetryOn.INTERNAL,
    "14": RetryOn.UNAVAILABLE,
}
_ANY_GRPC = (
    RetryOn.CANCELLED
    | RetryOn.DEADLINE_EXCEEDED
    | RetryOn.RESOURCE_EXHAUSTED
    | RetryOn.INTERNAL
    | RetryOn.UNAVAILABLE
)
_IN_ANY_RESPONSE = RetryOn.RETRIABLE_HEADERS | RetryOn.ENVOY_RATELIMITED | _ANY_GRPC


class Condition(Protocol):
    """A condition on one text; ``core.routing.StringMatch`` is one."""

    def matches(self, text: str | None) -> bool: ...


Conditions = tuple[tuple[str, Condition], ...]
"""By header name, in lower case."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and why to try again.

    ``attempts`` counts retries, not tries. ``per_try_timeout`` (seconds, 0 = none) runs from the
    connection to the response head, ``per_try_idle_timeout`` is silence at any time of an attempt.
    ``budget_percent`` of the cluster's active requests may be retries at one time, but always
    ``min_retry_concurrency``. ``headers``: of responses that are retried, any of them.
    ``request_headers``: of requests that are retried at all, any of them; empty: every request.
    ``reselections``: how often the balancer is asked again for an endpoint that this request has
    not been to; with ``previous_hosts`` False it may name one again.

    ``any_status`` follows from the rest: responses below 400 have to be looked at, too.
    """

    attempts: int = 2
    on: RetryOn = RetryOn.CONNECT_FAILURE | RetryOn.RESET
    status_codes: frozenset[int] = frozenset()
    headers: Conditions = ()
    request_headers: Conditions = ()
    per_try_timeout: float = 0.0
    per_try_idle_timeout: float = 0.0
    back_off: BackOff | None = BackOff()
    rate_limited: RateLimited | None = RateLimited()
    previous_hosts: bool = True
    reselections: int = 5
    budget_percent: float = 20.0
    min_retry_concurrency: int = 3
    any_status: bool = False

    def __post_init__(self) -> None:
        below = any(code < 400 for code in self.status_codes)
        looks = below or bool(self.on & _IN_ANY_RESPONSE)
        msgspec.structs.force_setattr(self, "any_status", looks)

    def takes(self, request: LlmRequest) -> bool:
        """Whether requests such as this one are retried at all."""
        if not self.request_headers:
            return True
        return any(
            condition.matches(None if raw is None else raw.decode("latin-1"))
            for name, condition in self.request_headers
            for raw in (request.header(name.encode("latin-1")),)
        )

    def retries_connect_failure(self) -> bool:
        return bool(self.on & _NOT_SEEN)

    def retries_reset(self) -> bool:
        """A reset or a time-out before the response head."""
        return bool(self.on & _NO_RESPONSE)

    def retries_status(self, status: int) -> bool:
        """A response with nothing remarkable in its head but the status."""
        on = self.on
        if status >= 500 and on & RetryOn.FIVE_XX:
            return True
        if status in (502, 503, 504) and on & RetryOn.GATEWAY_ERROR:
            return True
        if status == 409 and on & RetryOn.RETRIABLE_4XX:
            return True
        return bool(on & RetryOn.RETRIABLE_STATUS_CODES) and status in self.status_codes

    def retries_response(self, status: int, lines: bytes) -> bool:
        """Whether a response is worth another attempt.

        Args:
            lines: of its head, each with its CRLF, the status line first.
        """
        on = self.on
        if field(lines, "x-envoy-ratelimited") is not None:
            # Envoy: who is limited on purpose is not broken, whatever the status.
            return bool(on & RetryOn.ENVOY_RATELIMITED)
        if self.retries_status(status):
            return True
        if on & RetryOn.RETRIABLE_HEADERS and any(
            condition.matches(field(lines, name)) for name, condition in self.headers
        ):
            return True
        code = field(lines, "grpc-status") if on & _ANY_GRPC else None
        return code is not None and bool(on & _GRPC.get(code, RetryOn.NONE))

    def wait(self, retry: int, lines: bytes, elsewhere: bool, rng: Rng) -> tuple[float, bool]:
        """Seconds to wait before retry number ``retry``, and whether the endpoint named them.

        Args:
            lines: of the response that is retried; empty if there was none.
            elsewhere: an endpoint that this request has not been to can be asked.
        """
        if elsewhere and not (self.back_off is not None and self.back_off.always):
            return 0.0, False
        if lines and self.rate_limited is not None:
            asked = self.rate_limited.asked(lines)
            if asked is not None:
                return asked * (1.0 + 0.5 * rng.random()), True
        if self.back_off is None:
            return 0.0, False
        drawn = rng.random() * self.back_off.ceiling(retry)
        return (drawn if drawn >= GRAIN else 0.0), False

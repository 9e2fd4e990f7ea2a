"""Which failures are worth another attempt. Terms and meaning are Envoy's ``retry_on``.

An attempt is repeated only before the response head went to the client. POST is repeated too:
inference has no side effect.
"""

import enum

import msgspec


class RetryOn(enum.Flag):
    """The causes that this build knows; a policy is a union of them."""

    NONE = 0
    CONNECT_FAILURE = enum.auto()
    RESET = enum.auto()  # any failure without a response head, time-outs included
    GATEWAY_ERROR = enum.auto()  # 502, 503, 504, and what RESET covers
    FIVE_XX = enum.auto()  # any 5xx, and what RESET covers
    RETRIABLE_STATUS_CODES = enum.auto()


RETRY_ON_NAMES: dict[str, RetryOn] = {
    "connect-failure": RetryOn.CONNECT_FAILURE,
    "reset": RetryOn.RESET,
    "gateway-error": RetryOn.GATEWAY_ERROR,
    "5xx": RetryOn.FIVE_XX,
    "retriable-status-codes": RetryOn.RETRIABLE_STATUS_CODES,
}

_NO_RESPONSE = RetryOn.RESET | RetryOn.GATEWAY_ERROR | RetryOn.FIVE_XX


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and why to try again.

    ``attempts`` counts retries, not tries. ``per_try_timeout`` (seconds, 0 = none) runs from the
    connection to the response head. ``budget_percent`` of the cluster's active requests may be
    retries at one time, but always ``min_retry_concurrency``.
    """

    attempts: int = 2
    on: RetryOn = RetryOn.CONNECT_FAILURE | RetryOn.RESET
    status_codes: frozenset[int] = frozenset()
    per_try_timeout: float = 0.0
    budget_percent: float = 20.0
    min_retry_concurrency: int = 3

    def retries_connect_failure(self) -> bool:
        return bool(self.on & (RetryOn.CONNECT_FAILURE | _NO_RESPONSE))

    def retries_reset(self) -> bool:
        """A reset or a time-out before the response head."""
        return bool(self.on & _NO_RESPONSE)

    def retries_status(self, status: int) -> bool:
        on = self.on
        if status in (502, 503, 504) and on & (RetryOn.GATEWAY_ERROR | RetryOn.FIVE_XX):
            return True
        if status >= 500 and on & RetryOn.FIVE_XX:
            return True
        return bool(on & RetryOn.RETRIABLE_STATUS_CODES) and status in self.status_codes

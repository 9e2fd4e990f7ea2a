"""One tree of errors, each carrying what a client and an operator need.

``status`` is the HTTP status, ``flag`` the Envoy response flag for logs and metrics, ``kind`` and
``code`` the ``type`` and ``code`` of OpenAI's error object, ``origin`` who is at fault. The HTTP
body is rendered in exactly one place, ``router.proxy.respond``.
"""

from typing import ClassVar, Literal

Origin = Literal["client", "router", "upstream"]


class RouterError(Exception):
    """Base of all errors that end an exchange.

    Args:
        message: one sentence for the client; names the field and the limit where there is one.
        param: the request field at fault, if any.
        retry_after: seconds after which a retry makes sense, sent as ``Retry-After``.
        headers: further response header lines, without CRLF.
    """

    status: int = 500
    flag: ClassVar[str] = "-"
    kind: ClassVar[str] = "api_error"
    code: ClassVar[str | None] = None
    origin: ClassVar[Origin] = "router"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        headers: tuple[bytes, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.headers = headers

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status} {self.flag} {self.message!r}>"


# --- the client's ---------------------------------------------------------------------------


class ClientError(RouterError):
    origin = "client"
    kind = "invalid_request_error"


class BadRequest(ClientError):
    """Malformed HTTP or JSON."""

    status = 400


class Unauthorized(ClientError):
    """No credential, or one that is nobody's. ``reason``: a word for metrics and the access log;
    a client is told nothing that would help it guess.
    """

    status = 401
    flag = "UAEX"
    code = "invalid_api_key"

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message, headers=(b"www-authenticate: Bearer",))
        self.reason = reason


class ModelForbidden(ClientError):
    """The model is not among those that the client's tenant may use."""

    status = 403
    flag = "UAEX"
    code = "model_not_found"  # OpenAI's word, with this status, for a model of other projects


class NoRoute(ClientError):
    status = 404
    flag = "NR"
    code = "route_not_found"


class ModelNotFound(ClientError):
    """No route takes this model."""

    status = 404
    flag = "NR"
    code = "model_not_found"


class MethodNotAllowed(ClientError):
    """``allow`` lists the methods that the path takes."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allow = allow


class RequestTimeout(ClientError):
    """The request did not arrive in time."""

    status = 408
    flag = "DT"
    kind = "timeout_error"
    code = "request_timeout"


class BodyTooLarge(ClientError):
    status = 413
    code = "request_too_large"


class UnsupportedCoding(ClientError):
    """The body is compressed; engines do not decompress."""

    status = 415


class ExpectationFailed(ClientError):
    status = 417


class RateLimited(ClientError):
    """A token bucket is empty."""

    status = 429
    flag = "RL"
    kind = "rate_limit_error"
    code = "rate_limit_exceeded"


class HeadTooLarge(ClientError):
    status = 431
    code = "request_head_too_large"


class NotImplementedByRouter(ClientError):
    """A transfer coding or method the router does not speak."""

    status = 501


class VersionNotSupported(ClientError):
    status = 505


# --- ours -----------------------------------------------------------------------------------


class NoHealthyUpstream(RouterError):
    """The model is known, but nothing that serves it is up."""

    status = 503
    flag = "UH"
    kind = "service_unavailable_error"
    code = "no_healthy_upstream"


class Overflow(RouterError):
    """A circuit breaker or the pending queue is full."""

    status = 503
    flag = "UO"
    kind = "overloaded_error"
    code = "overloaded"


class Saturated(Overflow):
    """The same, for clients that know 429 as the word for "later"."""

    status = 429
    kind = "rate_limit_error"


class LimitsUnknown(RouterError):
    """The store of the rate limits does not answer, and none may pass without it."""

    status = 503
    flag = "RLSE"
    kind = "service_unavailable_error"
    code = "rate_limits_unknown"


class QueueTimeout(RouterError):
    """Waited in the pending queue for as long as the route allows."""

    status = 503
    flag = "UT"
    kind = "overloaded_error"
    code = "queue_timeout"


class WaitedTooLong(QueueTimeout):
    """The same, for clients that know 429 as the word for "later"."""

    status = 429
    kind = "rate_limit_error"


class Draining(RouterError):
    """The router is shutting down."""

    status = 503
    flag = "LR"
    kind = "service_unavailable_error"
    code = "draining"


class Cancelled(RouterError):
    """An operator ended the request through the admin API."""

    status = 503
    flag = "LR"
    kind = "service_unavailable_error"
    code = "cancelled"


class InjectedAbort(RouterError):
    """The route's fault injection answers in place of an endpoint."""

    flag = "FI"
    code = "fault_injected"

    def __init__(self, status: int) -> None:
        super().__init__("the route's fault.abort answers this request with an error on purpose")
        self.status = status


# --- upstream's -----------------------------------------------------------------------------


class UpstreamError(RouterError):
    origin = "upstream"
    kind = "upstream_error"


class ConnectFailure(UpstreamError):
    status = 503
    flag = "UF"
    code = "upstream_connect_failure"


class UpstreamReset(UpstreamError):
    """The endpoint closed or reset the connection before the response was complete."""

    status = 503
    flag = "UC"
    code = "upstream_reset"


class InjectedCut(UpstreamReset):
    """The route's fault injection ends a stream as if the endpoint had."""

    flag = "FI"

    def __init__(self) -> None:
        super().__init__("the route's fault.cut ends this stream on purpose")


class UpstreamProtocolError(UpstreamError):
    """The endpoint answered something that is not HTTP/1.1."""

    status = 502
    flag = "UPE"
    code = "upstream_protocol_error"


class UpstreamTimeout(UpstreamError):
    """No first byte, or no end, within the route's timeout."""

    status = 504
    flag = "UT"
    kind = "timeout_error"
    code = "upstream_timeout"


class TotalTimeout(UpstreamTimeout):
    """The exchange with all its attempts took longer than the route allows."""

    def __init__(self) -> None:
        super().__init__("the request exceeded the route's total timeout")


class StreamIdle(UpstreamError):
    """The stream was silent for longer than the route's idle timeout."""

    status = 504
    flag = "SI"
    kind = "timeout_error"
    code = "stream_idle_timeout"


# --- nobody's: bugs -----------------------------------------------------------------------------


class ReservationError(RuntimeError):
    """A reservation was settled twice: a request was charged twice."""


class LeaseError(RuntimeError):
    """A lease was released twice: an attempt was accounted for twice."""

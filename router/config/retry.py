"""The configuration of retries. Fields have Envoy's names and meaning where Envoy has them."""
# ruff: noqa: RUF012 -- an empty mapping as a default is copied by msgspec

from typing import Annotated, ClassVar, Literal

from router.config.matches import StringCondition
from router.config.section import Section, Status, Text, doc
from router.config.units import Duration, Interval, Percent
from router.core.retry.back_off import ResetFormat

RetryCause = Literal[
    "connect-failure",
    "reset",
    "reset-before-request",
    "gateway-error",
    "5xx",
    "retriable-4xx",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
    "refused-stream",
    "http3-post-connect-failure",
]
NEVER_OVER_HTTP1 = ("refused-stream", "http3-post-connect-failure")
"""Taken, since Istio's default names the first, and never met."""


class BackOff(Section, frozen=True, kw_only=True):
    """Before retry n, wait for a random part of base_interval x 2^(n-1); off: never wait."""

    base_interval: Annotated[Interval, doc("The longest wait before the first retry.")] = Interval(
        0.025
    )
    max_interval: Annotated[
        Interval | None, doc("No wait is longer; 10 times the base without it.")
    ] = None
    always: Annotated[
        bool,
        doc(
            "Wait before an endpoint that this request has not been to, too, as Envoy does; "
            "otherwise the request goes there at once."
        ),
    ] = False


class ResetHeader(Section, frozen=True, kw_only=True):
    """A field in which a response says when to come again. A plain text stands for its name."""

    shorthand: ClassVar[str | None] = "name"

    name: Annotated[Text, doc("In any case.")]
    format: Annotated[
        ResetFormat,
        doc(
            "`seconds` may be an HTTP date, too; that and `unix_timestamp` are compared with the "
            "response's Date."
        ),
    ] = "seconds"


class RateLimitedBackOff(Section, frozen=True, kw_only=True):
    """Wait for as long as the endpoint asks for, and up to half as long again; off: do not."""

    reset_headers: Annotated[
        tuple[ResetHeader, ...],
        doc("The first that names a wait holds.", single=True, min_length=1, max_length=8),
    ] = (ResetHeader(name="retry-after"),)
    max_interval: Annotated[Interval, doc("What is longer is not heeded.")] = Interval(300)


class Retry(Section, frozen=True, kw_only=True):
    """When to try another endpoint, always before the response head; off switches it off."""

    attempts: Annotated[int, doc("Retries after the first try.", ge=0, le=100)] = 2
    per_try_timeout: Annotated[
        Duration, doc("From the connection to the response head; 0 for none.")
    ] = Duration(0)
    per_try_idle_timeout: Annotated[
        Duration, doc("Silence of an attempt, before the response head or after; 0 for none.")
    ] = Duration(0)
    on: Annotated[
        tuple[RetryCause | Status, ...],
        doc(
            "Causes with Envoy's meaning, and bare status codes; a text with commas, as Istio "
            "writes it, will do.",
            single=True,
            commas=True,
        ),
    ] = ("connect-failure", "reset")
    retriable_headers: Annotated[
        dict[Text, StringCondition],
        doc("Responses that `retriable-headers` means: any of these conditions holds."),
    ] = {}
    retriable_request_headers: Annotated[
        dict[Text, StringCondition],
        doc("Only requests for which any of these holds are retried; without it, all are."),
    ] = {}
    back_off: BackOff | None = BackOff()
    rate_limited_back_off: RateLimitedBackOff | None = RateLimitedBackOff()
    previous_hosts: Annotated[
        bool, doc("Avoid endpoints that this request has been to; false: the balancer decides.")
    ] = True
    host_selection_retry_max_attempts: Annotated[
        int,
        doc(
            "How often the balancer is asked again for such an endpoint; then the least loaded of "
            "them is taken.",
            ge=0,
            le=100,
        ),
    ] = 5
    budget: Annotated[
        Percent, doc("Share of the cluster's active requests that may be retries.")
    ] = Percent(20)
    min_concurrency: Annotated[
        int, doc("Retries that may always run at one time.", ge=0, le=1_000_000)
    ] = 3

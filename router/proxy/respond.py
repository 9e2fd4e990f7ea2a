"""Answers that the router gives itself. The only place where an error becomes HTTP."""

import math
from http import HTTPStatus
from typing import Final

import msgspec

from router.core import errors, told
from router.core.exchange import Exchange
from router.core.trace import NO_TRACE
from router.proxy import date
from router.proxy.headers import RequestHead

_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
_JSON: Final = b"application/json"


def error_body(error: errors.RouterError) -> bytes:
    """OpenAI's error object."""
    return msgspec.json.encode(
        {
            "error": {
                "message": error.message,
                "type": error.kind,
                "param": error.param,
                "code": error.code,
            }
        }
    )


def too_large(limit: int) -> errors.BodyTooLarge:
    """The error for a request body of more bytes than are allowed."""
    return errors.BodyTooLarge(f"the request body is larger than max_body = {limit} bytes")


def error_event(error: errors.RouterError) -> bytes:
    """The error as the last event of a broken stream. The blank line ends what was cut off."""
    return b"\n\ndata: " + error_body(error) + b"\n\n"


def status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b" % (status, _REASONS.get(status, "Unknown").encode())


def answer(
    status: int, body: bytes, request: RequestHead | None, *, extra: bytes = b"", close: bool
) -> bytes:
    """A whole response.

    Args:
        request: whose answer it is; None if no head could be read.
        extra: more header lines, each with its CRLF.
        close: the connection ends after it.
    """
    connection = b"connection: close\r\n" if close else b""
    if not close and request is not None and not request.http11:
        connection = b"connection: keep-alive\r\n"
    return b"%b\r\n%b\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b%b%b\r\n%b" % (
        status_line(status),
        date.line(),
        _JSON,
        len(body),
        b"" if request is None else b"x-request-id: " + request.request_id + b"\r\n",
        extra,
        connection,
        b"" if request is not None and request.method == b"HEAD" else body,
    )


def error_answer(
    error: errors.RouterError,
    request: RequestHead | None,
    exchange: Exchange | None = None,
    *,
    close: bool,
) -> bytes:
    """The response that tells a client of ``error``, with Retry-After and Allow where due.

    Args:
        request: whose answer it is; None if no head could be read.
        exchange: what became of it; None if it never got so far.
        close: the connection ends after it.
    """
    extra = b""
    if exchange is not None and exchange.trace is not NO_TRACE:
        extra = told.line(exchange) + b"\r\n"
    if error.retry_after is not None or error.status == 503:
        extra += b"retry-after: %d\r\n" % max(1, math.ceil(error.retry_after or 0))
    for line in error.headers:
        extra += line + b"\r\n"
    if isinstance(error, errors.MethodNotAllowed):
        extra += b"allow: " + ", ".join(error.allow).encode() + b"\r\n"
    return answer(error.status, error_body(error), request, extra=extra, close=close)

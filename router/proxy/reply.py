"""How one response goes on to its client: its head, and what becomes of its framing.

Chunks and lengths pass as they are. What ends with the engine's connection is chunked anew; for
HTTP/1.0 chunks are taken apart, and the end of the connection is the end of the body.
"""

from collections import deque
from typing import TYPE_CHECKING

from router.core import errors, told
from router.core.exchange import Exchange
from router.core.trace import NO_TRACE
from router.proxy import date, respond, truncation
from router.proxy.chunked import LAST_CHUNK, ChunkedDecoder, chunk
from router.proxy.headers import RequestHead
from router.proxy.response_head import ResponseHead

if TYPE_CHECKING:
    from router.proxy.upstream import Upstream


class Reply:
    """One response's way to its client.

    Args:
        keep_alive: the client's connection could be used again.
        extra: header lines to add, without CRLF.

    Attributes:
        keep_alive: it can, this response's framing being what it is.
        head: for the client.
        verbatim: reads pass as they are; otherwise through ``reframe``.
        last: to be written when the response is complete.
        response: the engine's head.
        tells_usage: the body may end with a ``usage`` object.
    """

    __slots__ = ("_decoder", "head", "keep_alive", "last", "response", "tells_usage", "verbatim")

    def __init__(
        self, response: ResponseHead, request: RequestHead, keep_alive: bool, extra: list[bytes]
    ) -> None:
        self.response = response
        self._decoder: ChunkedDecoder | None = None
        self.verbatim = True
        self.last = b""
        self.tells_usage = response.tells_usage
        self.keep_alive = keep_alive
        ready = response.ready
        if keep_alive and ready and not extra and request.http11 and request.method != b"HEAD":
            ending = b"\r\n\r\n" if response.shape.dated else date.ending()
            self.head = b"%b%b%b" % (ready, request.request_id, ending)
        else:
            self.head = response.shape.start + b"\r\n".join(self._lines(request, extra))

    def _lines(self, request: RequestHead, extra: list[bytes]) -> list[bytes]:
        """What comes after the response's own lines; decides on framing and connection."""
        response = self.response
        lines = []
        if bodiless(request, response):
            if response.length is not None and response.status != 204:
                lines.append(b"content-length: %d" % response.length)
        elif response.length is not None:
            lines.append(b"content-length: %d" % response.length)
        elif request.http11:
            lines.append(b"transfer-encoding: chunked")
            if not response.chunked:
                self.verbatim = False
                self.last = LAST_CHUNK
        else:
            self.keep_alive = False
            if response.chunked:
                self.verbatim = False
                self._decoder = ChunkedDecoder()
        if not self.keep_alive:
            lines.append(b"connection: close")
        elif not request.http11:
            lines.append(b"connection: keep-alive")
        if not response.shape.dated:
            lines.append(date.line())
        lines += extra
        lines.append(b"x-request-id: %b\r\n\r\n" % request.request_id)
        return lines

    def reframe(self, data: bytes) -> bytes:
        """One read of the engine's, in the client's framing."""
        if self._decoder is not None:
            return b"".join(self._decoder.feed(data))
        return chunk(data)

    def ending(self) -> bytes:
        """What to write when the response is complete."""
        return self.last

    def broken_off(
        self, error: errors.RouterError, upstream: "Upstream | None", tail: deque[bytes]
    ) -> bytes:
        """What to write last, so that nobody takes the response for complete.

        Args:
            upstream: the engine's connection if its parser can still be asked where the response
                stopped; None if the engine broke the protocol.
            tail: the last reads that were passed on.
        """
        response = self.response
        if not response.event_stream or response.length is not None or upstream is None:
            return b""
        event = respond.error_event(error)
        if self.last:
            return chunk(event)
        if self._decoder is not None or upstream.until_close:
            return event
        return truncation.close_chunk(upstream, tail, event)

    def __repr__(self) -> str:
        return f"<Reply {self.response.status} verbatim={self.verbatim} keep={self.keep_alive}>"


def decision(exchange: Exchange, exposed: bool) -> list[bytes]:
    """Header lines that say what the router decided.

    Args:
        exposed: also who serves the request, and why, for everybody.
    """
    lines: list[bytes] = []
    if exposed:
        assert exchange.lease is not None
        address = exchange.lease.host.endpoint.address
        lines += [
            b"x-warmpath-endpoint: " + address.encode("ascii", "replace"),
            b"x-warmpath-reason: " + exchange.reason.encode("ascii", "replace"),
        ]
        if exchange.detour is not None:
            lines.append(b"x-warmpath-fallback: " + str(exchange.detour).encode("ascii", "replace"))
    if exchange.standing is not None:
        lines += exchange.standing.headers()
    # An error is no reason to send the client to the same endpoint again.
    if exchange.cookie is not None and exchange.status < 400:
        lines.append(b"set-cookie: " + exchange.cookie)
    if exchange.trace is not NO_TRACE:
        lines.append(told.line(exchange))
    return lines


def bodiless(request: RequestHead, response: ResponseHead) -> bool:
    """Whether this response has no body, whatever its head says."""
    return response.empty or request.method == b"HEAD"

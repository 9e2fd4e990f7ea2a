"""What a stream is told while it waits in the queue: SSE comments with its place and a guess.

Off unless the cluster's ``queue.comments`` says how often. A stream that waits longer than that
gets the head of its answer early, status 200, and from then on a comment at each interval. The
engine's own head is then swallowed, and its body appended in one chunked response. An error that
comes later, the engine's included, can only be an event of the stream: no status tells a client
to try again.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from router.core import errors
from router.core.admission import controller
from router.core.exchange import Exchange
from router.proxy import respond
from router.proxy.chunked import LAST_CHUNK, ChunkedDecoder, chunk
from router.proxy.reply import Reply
from router.proxy.response_head import ResponseHead, ResponseShape

if TYPE_CHECKING:
    from router.proxy.relay import Relay
    from router.proxy.upstream import Upstream

MAX_GATHERED: Final = 64 * 1024
"""Bytes of an answer that is no stream which become one event; of a longer one only its status."""

_STREAM: Final = b"text/event-stream"
_EARLY: Final = ResponseHead(
    ResponseShape(
        200,
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n",
        True,
        _STREAM,
        True,
        None,
    ),
    None,
)


def begin(relay: "Relay") -> "Waiting | None":
    """Told when a request was put in line: whether it is to hear of its place there."""
    exchange = relay.exchange
    assert exchange is not None
    if exchange.traffic is None or not (interval := exchange.traffic.cluster.queue.comments):
        return None
    request, head = exchange.request, relay.head
    wanted = request.stream and request.path.endswith("/completions") and head.http11
    if not wanted or not relay.whole or exchange.injection is not None:
        return None
    return Waiting(relay, interval)


class Waiting:
    """The comments of one stream.

    Attributes:
        begun: the head of the answer has been sent.
    """

    __slots__ = ("_interval", "_relay", "_timer", "begun")

    def __init__(self, relay: "Relay", interval: float) -> None:
        self._relay = relay
        self._interval = interval
        self.begun = False
        self._timer = asyncio.get_running_loop().call_later(interval, self._comment)

    def _comment(self) -> None:
        relay, downstream = self._relay, self._relay.downstream
        exchange = relay.exchange
        assert exchange is not None
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._comment)
        if not exchange.queued or exchange.ticket is None or downstream.write_paused:
            return
        data = chunk(comment(exchange, relay.now()))
        if not self.begun:
            self.begun = True
            early = Reply(_EARLY, relay.head, downstream.may_keep_alive(relay), [])
            relay.closes = not early.keep_alive
            data = early.head + data
        relay.bytes_out += len(data)
        downstream.transport.write(data)

    def stop(self) -> None:
        """No more comments."""
        self._timer.cancel()

    def reply(self, head: ResponseHead) -> Reply:
        """How the engine's answer goes on behind the comments."""
        keep_alive = not self._relay.closes
        if head.status == 200 and head.event_stream:
            return Continued(head, keep_alive)
        return Gathered(head, keep_alive)

    def refuse(self, error: errors.RouterError) -> None:
        """Instead of an answer with a status of its own."""
        data = chunk(respond.error_event(error)) + LAST_CHUNK
        self._relay.bytes_out += len(data)
        self._relay.downstream.transport.write(data)


def comment(exchange: Exchange, now: float) -> bytes:
    """One comment; the guess is left out while there is nothing to base it on."""
    wait = controller.predicted_wait(exchange, now)
    eta = b"" if wait is None else b" eta=%ds" % max(1, round(wait))
    return b": queued position=%d%b\n\n" % (controller.position(exchange), eta)


class Continued(Reply):
    """A stream whose head was sent before the engine's."""

    __slots__ = ()

    def __init__(self, response: ResponseHead, keep_alive: bool) -> None:
        self.response = response
        self._decoder = None
        self.tells_usage = response.tells_usage
        self.keep_alive = keep_alive
        self.head = b""
        self.verbatim = response.chunked and response.length is None
        self.last = b"" if self.verbatim else LAST_CHUNK


class Gathered(Reply):
    """Not the stream that was promised: it becomes one event when it is whole."""

    __slots__ = ("_pieces", "_size")

    def __init__(self, response: ResponseHead, keep_alive: bool) -> None:
        self.response = response
        chunked = response.chunked and response.length is None
        self._decoder = ChunkedDecoder() if chunked else None
        self._pieces: list[bytes] = []
        self._size = 0
        self.last = b""
        self.tells_usage = False
        self.keep_alive = keep_alive
        self.head = b""
        self.verbatim = False

    def reframe(self, data: bytes) -> bytes:
        piece = data if self._decoder is None else b"".join(self._decoder.feed(data))
        self._size += len(piece)
        if self._size <= MAX_GATHERED:
            self._pieces.append(piece)
        return b""

    def ending(self) -> bytes:
        try:
            value = msgspec.json.decode(b"".join(self._pieces))
        except (msgspec.DecodeError, UnicodeDecodeError):
            value = None
        if not isinstance(value, dict) or self._size > MAX_GATHERED:
            words = f"the engine answered {self.response.status}"
            return chunk(respond.error_event(errors.UpstreamProtocolError(words))) + LAST_CHUNK
        return chunk(b"data: " + msgspec.json.encode(value) + b"\n\n") + LAST_CHUNK

    def broken_off(
        self, error: errors.RouterError, upstream: "Upstream | None", tail: deque[bytes]
    ) -> bytes:
        return chunk(respond.error_event(error)) + LAST_CHUNK

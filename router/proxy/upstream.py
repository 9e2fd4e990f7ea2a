"""One connection to an engine, for one exchange at a time.

llhttp checks each head (see ``response_head``) and each chunked body, whose end it finds without
handing the data back: the very bytes object that was read is written to the client. A body with a
length is counted.

A kept connection may be closed by the engine just as a request is being sent. If nothing of a
response has come on a *reused* connection, the engine has not taken the request, and it is sent
once more on a fresh connection to the same endpoint; the core need not know.
"""

import asyncio
import socket
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Final, cast

import httptools

from router.core.engine_cache.news import Tip
from router.core.model import Endpoint
from router.proxy.chunked import LAST_CHUNK
from router.proxy.pool import IDLE_TIMEOUT, Pool
from router.proxy.reply import bodiless
from router.proxy.response_head import ResponseHead, ResponseShape, again, read_head
from router.proxy.timers import NEVER, Timed

if TYPE_CHECKING:
    from router.proxy.client import Client
    from router.proxy.server import ProxyServer

MAX_RESPONSE_HEAD: Final = 64 * 1024
COPIED: Final = 4 * 1024
"""Bytes of a body that are copied behind its head: ``write`` of one buffer saves uvloop a context
and the kernel a vector, which costs more than the copy up to about here."""
# Puts a parser, which always begins with a head, at the beginning of a chunked body.
_CHUNKS: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Upstream(Timed):
    """A connection to an endpoint, dialled for one request and kept for others.

    An asyncio protocol, and llhttp's, by its methods.

    Attributes:
        relay: whose request is on this connection; None while it is idle.
        reused: it has carried a request before.
        heard: something of the response to the present request has come.
        complete: the response has been read to its end.
        until_close: the end of the connection is the end of the response.
        tip: which blocks the prompt has, as the response's head told; None: it did not.
    """

    __slots__ = (
        "_begun",
        "_buffer",
        "_clock",
        "_dialling",
        "_ended",
        "_feed",
        "_in_body",
        "_keep_alive",
        "_left",
        "_parser",
        "_server",
        "_shape",
        "complete",
        "endpoint",
        "heard",
        "on_chunk_complete",
        "on_chunk_header",
        "pool",
        "relay",
        "reused",
        "tip",
        "transport",
        "until_close",
        "write_paused",
    )

    def __init__(self, server: "ProxyServer", endpoint: Endpoint, pool: Pool) -> None:
        super().__init__()
        self._server = server
        self._clock = server.clock
        self.endpoint = endpoint
        self.pool = pool
        self.relay: Client | None = None
        self.transport: asyncio.Transport | None = None
        self.reused = False
        self.heard = False
        self.complete = False
        self.until_close = False
        self.write_paused = False
        self.tip: Tip | None = None
        self._buffer = b""
        self._shape: ResponseShape | None = None
        self._in_body = False
        self._left = -1
        self._keep_alive = False
        self._parser: httptools.HttpResponseParser | None = None
        # The parser's ``feed_data`` while it is in a body.
        self._feed: Callable[[bytes], None] | None = None
        self._dialling: asyncio.Task[None] | None = None
        # The parser calls these; counting in C costs 30 ns where a method would cost 100.
        self._begun = self.on_chunk_header = count().__next__
        self._ended = self.on_chunk_complete = count().__next__

    # --- the connection's life ----------------------------------------------------------------

    def dial(self, relay: "Client") -> None:
        """Connect, then report to ``relay``."""
        self.relay = relay
        self._dialling = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        endpoint = self.endpoint
        loop = asyncio.get_running_loop()
        try:
            context = self._server.contexts.get(endpoint.cluster)
            await loop.create_connection(
                lambda: cast("asyncio.Protocol", self),
                endpoint.host,
                endpoint.port,
                **({} if context is None else context.options(endpoint.host)),
            )
        except (OSError, UnicodeError):  # SSL's errors too; the latter from odd host names
            relay, self.relay = self.relay, None
            if relay is not None:
                relay.connect_failed(self)
        finally:
            self._dialling = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_write_buffer_limits(high=self._server.limits.write_high)
        if self.relay is None:
            transport.abort()
        else:
            self.relay.connected(self)

    def close(self) -> None:
        """End the connection at once, whatever is on it; nobody is told."""
        self.relay = None
        self.deadline = NEVER
        self._parser = self._feed = None  # it holds our methods: a cycle
        if self._dialling is not None:
            self._dialling.cancel()
        if self.transport is not None:
            self.transport.abort()

    def expired(self, now: float) -> None:
        """Idle for too long."""
        self.pool.remove(self)
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.deadline = NEVER
        relay, self.relay = self.relay, None
        if relay is None:
            self.pool.remove(self)
        elif self.until_close and self._in_body and exc is None:
            relay.response_ended(self._clock())
        else:
            relay.upstream_lost(self, False)
        self._parser = self._feed = None

    # --- a request ------------------------------------------------------------------------------

    def send(self, relay: "Client", buffers: list[bytes]) -> None:
        """Start a request; its response will be reported to ``relay``."""
        assert self.transport is not None
        self.relay = relay
        self.deadline = NEVER
        self.heard = self.complete = self.until_close = self._in_body = False
        if len(buffers) == 1:
            self.transport.write(buffers[0])
        elif len(buffers) == 2 and len(buffers[1]) <= COPIED:
            self.transport.write(buffers[0] + buffers[1])
        else:
            self.transport.writelines(buffers)

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def pause_reading(self) -> None:
        if self.transport is not None and self.transport.is_reading():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.transport is not None and not self.transport.is_reading():
            self.transport.resume_reading()

    def missing_of_chunk(self, limit: int) -> int | None:
        """Bytes of data that the present chunk lacks, 0 between chunks; see ``truncation``.

        None if there are more than ``limit``, or no way to tell. Uses the parser up.
        """
        parser, self._parser = self._parser, None
        if parser is None:
            return None
        for missing in range(limit + 1):
            try:
                parser.feed_data(b"?")
            except httptools.HttpParserError:
                return missing
        return None

    def chunks_closed(self) -> bool:
        """Whether every chunk that was begun has ended, with its CRLF."""
        return self._begun() == self._ended()

    def pause_writing(self) -> None:
        self.write_paused = True  # whoever uploads looks after each piece

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.relay is not None:
            self.relay.upload_unblocked()

    # --- its response ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        relay = self.relay
        if relay is None:
            self.close()  # nobody asked
            return
        if self._feed is not None:
            try:
                self._feed(data)
            except httptools.HttpParserError:
                self._broken()
                return
        elif not self._in_body:
            self.heard = True
            self._read_head(self._buffer + data if self._buffer else data)
            return
        elif not self._count(data):
            self._broken()
            return
        now = self._clock()
        relay.body(data, now)
        if self.complete and self.relay is not None:
            self._end(data, now)

    def _count(self, data: bytes) -> bool:
        """Whether the body's length, if it has one, leaves room for ``data``."""
        if not self.until_close:
            self._left = left = self._left - len(data)
            self.complete = left <= 0
            return left >= 0
        return True

    def _read_head(self, data: bytes) -> None:
        """Take the head, after any interim ones, and what is there of the body."""
        relay = self.relay
        assert relay is not None
        head: ResponseHead | None = None
        if self._shape is not None and not self._server.director.reads_heads:
            head, end = again(data, self._shape, relay.head.request_id)
        while head is None:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                self._buffer = data
                if len(data) > MAX_RESPONSE_HEAD:
                    self._broken()
                return
            try:
                head = self._checked(data[:end], relay)
            except ValueError:
                self._broken()
                return
            if head.status < 200:
                data, head = data[end:], None
        self._begin(relay, head, data[end:])

    def _begin(self, relay: "Client", head: ResponseHead, data: bytes) -> None:
        """The response's head has come; ``data`` came behind it."""
        self._shape = head.shape if head.shape.after else None
        self._buffer = b""
        self._keep_alive = head.keep_alive
        self._in_body = True
        self._left = -1
        if bodiless(relay.head, head):
            self._left = 0
        elif head.length is not None:
            self._left = head.length
        elif not head.chunked:
            self.until_close = True
        elif not self._begin_chunks(data):
            self._broken()
            return
        if self._left >= 0 and not self._count(data):
            self._broken()
            return
        now = self._clock()
        relay.response_began(self, head, data, now)
        if self.complete and self.relay is not None:
            self._end(data, now)

    def _checked(self, raw: bytes, relay: "Client") -> ResponseHead:
        """Raises ValueError if it is no head that can be passed on."""
        if self._server.director.reads_heads:
            raw, self.tip = self._server.hear(self.endpoint, relay.head, raw)
        return read_head(raw, relay.head.request_id)

    def _begin_chunks(self, data: bytes) -> bool:
        parser = self._parser
        if parser is None:
            self._parser = parser = httptools.HttpResponseParser(self)
        self._feed = parser.feed_data
        try:
            parser.feed_data(_CHUNKS)
            parser.feed_data(data)
        except httptools.HttpParserError:
            return False
        return True

    def on_message_complete(self) -> None:
        self.complete = True

    def on_message_begin(self) -> None:
        # A second message in the same read: the body was longer than its framing said.
        if self.complete:
            raise ValueError("data after the response")

    def _broken(self) -> None:
        relay, self.relay = self.relay, None
        self.close()
        if relay is not None:
            relay.upstream_lost(self, True)

    def _end(self, last: bytes, now: float) -> None:
        """The response is complete: keep the connection if both sides are in step."""
        relay, self.relay = self.relay, None
        assert relay is not None
        keep = self._keep_alive and relay.uploaded
        if self._feed is not None:
            self._feed = None
            if not last.endswith(LAST_CHUNK):
                # Trailers, or line ends after them that llhttp skips: nobody may be out of step.
                relay.closes = True
                keep = False
        transport = self.transport
        if keep and transport is not None and self.pool.put(self):
            self.reused = True
            if not transport.is_reading():
                transport.resume_reading()
            self.deadline = deadline = now + IDLE_TIMEOUT
            if deadline < self.due:
                self._server.wheel.set(self, deadline)
        else:
            self.close()
        relay.response_ended(now)

    def __repr__(self) -> str:
        state = "idle" if self.relay is None else "body" if self._in_body else "waiting"
        return f"<Upstream {self.endpoint.id} {state} reused={self.reused}>"

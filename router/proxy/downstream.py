"""One client connection: finds requests in its bytes, one at a time, and answers in order.

    HEAD -> BODY -> BUSY -> HEAD ...        LINGER, CLOSED from any of them

While a request is being answered the connection is still read, for that is how a client that has
left is noticed; what a pipelining client sends meanwhile is kept up to a bound. When the framing
of what came cannot be trusted, the answer is the last one: the write side is closed, and what the
client still sends is read and dropped for a moment, or it would get a reset instead of the answer.
"""

import asyncio
import socket
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from router.core import errors
from router.proxy import respond
from router.proxy.bad_head import refuse_early
from router.proxy.chunked import ChunkedDecoder, ChunkError
from router.proxy.cross_origin import permission
from router.proxy.door import Visit
from router.proxy.headers import HeadShape, RequestHead
from router.proxy.known_heads import again, parse_request
from router.proxy.paths import Body, look_up
from router.proxy.phase import Phase
from router.proxy.relay import Relay
from router.proxy.timers import NEVER, Timed

if TYPE_CHECKING:
    from router.proxy.server import ProxyServer

PIPELINE_LIMIT: Final = 64 * 1024
"""Bytes of further requests kept while one is answered; beyond, the client is not read."""

LINGER: Final = 1.0
"""Seconds for which a refused client's bytes are dropped before the connection is closed."""

FLUSH: Final = 10.0
"""Seconds for a client to take the last bytes of a closing connection."""

TAIL_READS: Final = 4
"""The usage of a stream is in its last event, before ``[DONE]`` and the last chunk."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


_HEAD: Final = Phase.HEAD
_BODY: Final = Phase.BODY
_BUSY: Final = Phase.BUSY


class Downstream(Timed):
    """A client's connection: an asyncio protocol, by its methods.

    Attributes:
        relay: the request being read or answered.
        tail: the last reads of the present response.
        visit: who the client is.
        write_paused: more than ``write_high`` bytes wait to be read by the client.
    """

    __slots__ = (
        "_advancing",
        "_buffer",
        "_decoder",
        "_head_begun",
        "_left",
        "_reading",
        "_server",
        "_shape",
        "peer",
        "peer_bytes",
        "phase",
        "relay",
        "tail",
        "transport",
        "visit",
        "write_paused",
    )

    def __init__(self, server: "ProxyServer", visit: Visit) -> None:
        super().__init__()
        self._server = server
        self.visit = visit
        self.transport = cast("asyncio.Transport", None)  # there is one before anything happens
        self.relay: Relay | None = None
        self.phase = _HEAD
        self.peer = "-"
        self.peer_bytes = b"unknown"
        self.tail: deque[bytes] = deque(maxlen=TAIL_READS)
        self.write_paused = False
        self._buffer = b""
        self._shape: HeadShape | None = None
        self._left = 0
        self._head_begun = False
        self._decoder: ChunkedDecoder | None = None
        self._advancing = False
        self._reading = True

    # --- the connection's life ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        sock = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            peername = transport.get_extra_info("peername")
            if peername:
                self.peer = peername[0]
                self.peer_bytes = self.peer.encode("ascii", "replace")
                self.visit.begin(self.peer, transport)
        server = self._server
        transport.set_write_buffer_limits(high=server.limits.write_high)
        server.opened(self)
        self._arm(server.limits.idle_timeout)
        if not self.visit.door.admits(self.peer):
            server.dropped(self.visit.door.name, "address")
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.phase = Phase.CLOSED
        self.deadline = NEVER
        self._server.closed(self)
        relay, self.relay = self.relay, None
        if relay is not None:
            relay.client_gone()

    @property
    def idle(self) -> bool:
        """Between two requests, and nothing of the next has come."""
        return self.phase is _HEAD and not self._buffer

    def eof_received(self) -> bool:
        # Clients of language models do not half-close: who ends its side has gone.
        if self.relay is not None:
            self.abort()
        return False

    def abort(self) -> None:
        """Close at once; a request under way is given up."""
        self.phase = Phase.CLOSED
        relay, self.relay = self.relay, None
        if relay is not None:
            relay.client_gone()
        self.transport.abort()

    def close(self) -> None:
        """Close as soon as the client has read what was written."""
        if self.phase is not Phase.CLOSED:
            self.phase = Phase.CLOSED
            self._arm(FLUSH)
            self.transport.close()

    def _linger(self) -> None:
        """Close after an answer to a request that has not been read to its end."""
        if self.phase in (Phase.CLOSED, Phase.LINGER):
            return
        self.phase = Phase.LINGER
        self._buffer = b""
        self._decoder = None
        self.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._arm(LINGER)

    def _arm(self, timeout: float) -> None:
        server = self._server
        server.wheel.set(self, server.clock() + timeout if timeout else NEVER)

    def expired(self, now: float) -> None:
        relay = self.relay
        if relay is not None and relay.exchange is not None and self._is_engines(relay, now):
            relay.expired(now)
        elif self.phase is _BODY:
            limit = self._server.limits.body_timeout
            error = errors.RequestTimeout(f"no bytes of the request body for {limit:g} s")
            self._give_up(error)
        elif self.phase is _HEAD and self._buffer:
            limit = self._server.limits.head_timeout
            self._give_up(errors.RequestTimeout(f"the request head took more than {limit:g} s"))
        else:
            self.abort()

    def _is_engines(self, relay: Relay, now: float) -> bool:
        """Whether it is not the client that is waited for: it is paused, or has sent all."""
        return self.phase is not _BODY or not self._reading or now >= relay.total_deadline

    def _give_up(self, error: errors.RouterError) -> None:
        if self.relay is not None:
            self.relay.refuse(error)
        else:
            self.refuse(error)

    # --- bytes in -----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        phase = self.phase
        if phase is _HEAD:
            self._buffer = self._buffer + data if self._buffer else data
            self._advance()
        elif phase is _BODY:
            self._read_body(data, self._server.clock())
        elif phase is _BUSY:
            self._buffer += data
            if len(self._buffer) > PIPELINE_LIMIT:
                self.pause_reading()

    def _advance(self) -> None:
        """Read requests until one has to be waited for. Not recursive: answers may be at once."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self.phase is _HEAD and self._buffer and not self.write_paused:
                if not self._read_head():
                    break
        finally:
            self._advancing = False

    def _read_head(self) -> bool:
        """Take one request head; False if it has not all come."""
        data, limits = self._buffer, self._server.limits
        if self._shape is not None:
            head, end = again(data, self._shape, limits.max_head, limits.max_headers)
            if head is not None:
                self._buffer = data[end:]
                return self._take(head)
        end = data.find(b"\r\n\r\n") + 4
        if data[:2] == b"\r\n":  # RFC 9112 2.2: an empty line before a request is ignored
            self._buffer = data[2:]
            return True
        if end < 4:
            return self._await_head(data)
        if end > limits.max_head:
            self._refuse_head(limits.max_head)
            return True
        self._buffer = data[end:]
        try:
            head = parse_request(data[:end], limits.max_headers)
        except errors.RouterError as error:
            self.refuse(error)
            return True
        self._shape = head.shape if head.shape.after else None
        return self._take(head)

    def _take(self, head: RequestHead) -> bool:
        """A request has begun."""
        server = self._server
        limits = server.limits
        has_body = head.chunked or bool(head.length)
        try:
            kind = head.shape.kind
            if kind is None:
                kind = head.shape.kind = look_up(head.path, head.method)
            if self.visit.door.guarded and kind is not Body.HEALTH:
                self.visit.enter(head, self.peer)
        except errors.RouterError as error:
            if server.turned_away(self, head, has_body, error):
                return True
            kind = Body.ANY
        if kind >= Body.MODELS:
            server.answer_locally(self, head, kind, has_body)
            return True
        if head.length is not None and head.length > limits.max_body:
            self.refuse(respond.too_large(limits.max_body), head)
            return True
        now = server.clock()
        self.relay = relay = Relay(server, self, head, kind, now)
        if has_body:
            self._start_body(head, now)
        else:
            self.phase = _BUSY
            relay.finish_request(now)
        return True

    def _await_head(self, data: bytes) -> bool:
        limits = self._server.limits
        if len(data) > limits.max_head:
            self._refuse_head(limits.max_head)
            return True
        error = refuse_early(data) if data != b"\r" else None
        if error is not None:
            self.refuse(error)
            return True
        if not self._head_begun:
            self._head_begun = True  # the clock runs from the first byte, not from each
            self._arm(limits.head_timeout)
        return False

    def _refuse_head(self, limit: int) -> None:
        self.refuse(errors.HeadTooLarge(f"the request head is larger than max_head = {limit}"))

    def _start_body(self, head: RequestHead, now: float) -> None:
        self.phase = _BODY
        if head.chunked:
            self._decoder = ChunkedDecoder()
        else:
            assert head.length is not None
            self._left = head.length
        data, self._buffer = self._buffer, b""
        if data:
            self._read_body(data, now)
            return
        if head.expect:
            self.transport.write(CONTINUE)
        self.await_body(now)

    def await_body(self, now: float) -> None:
        """Let the clock run until the next bytes of the body."""
        timeout = self._server.limits.body_timeout
        deadline = now + timeout if timeout else NEVER
        if self.relay is not None:
            deadline = min(deadline, self.relay.total_deadline)
        self._server.wheel.set(self, deadline)

    def _read_body(self, data: bytes, now: float) -> None:
        relay = self.relay
        assert relay is not None
        if self._decoder is not None:
            self._read_chunked(relay, self._decoder, data, now)
            return
        size = len(data)
        if size > self._left:
            self._buffer = data[self._left :]
            data = data[: self._left]
            size = self._left
        self._left -= size
        relay.take(data)
        if self.phase is not _BODY:
            return
        if self._left:
            self.await_body(now)
        else:
            self._body_complete(relay, now)

    def _read_chunked(self, relay: Relay, decoder: ChunkedDecoder, data: bytes, now: float) -> None:
        limits = self._server.limits
        try:
            pieces = decoder.feed(data)
        except ChunkError as error:
            relay.refuse(errors.BadRequest(f"malformed chunked body: {error}", param="framing"))
            return
        for piece in pieces:
            relay.take(piece)
            if self.phase is not _BODY:
                return
        if relay.bytes_in > limits.max_body:
            relay.refuse(respond.too_large(limits.max_body))
        elif decoder.done:
            self._buffer = decoder.rest
            self._decoder = None
            self._body_complete(relay, now)
        else:
            self.await_body(now)

    def _body_complete(self, relay: Relay, now: float) -> None:
        self.phase = _BUSY
        relay.finish_request(now)

    # --- answers --------------------------------------------------------------------------------

    def may_keep_alive(self, relay: Relay) -> bool:
        """Whether the connection can be used again after the answer to ``relay``."""
        return relay.whole and relay.head.keep_alive and not self._server.draining

    def request_over(self, relay: Relay, now: float) -> None:
        """The answer has been written, as far as it goes."""
        self.relay = None
        self.tail.clear()
        if self.phase is Phase.CLOSED:
            return
        if not relay.whole:
            self._linger()
        elif relay.closes:
            self.close()
        else:
            self._next(now)

    def _next(self, now: float) -> None:
        self.phase = _HEAD
        self._head_begun = False
        server = self._server
        timeout = server.limits.idle_timeout
        server.wheel.set(self, now + timeout if timeout else NEVER)
        if not self._reading:
            self.resume_reading()
        if self._buffer:
            self._advance()

    def refuse(self, error: errors.RouterError, head: RequestHead | None = None) -> None:
        """Answer a request that cannot be taken, and close."""
        self._server.refused(self, head, error, self.relay)
        self.relay = None
        if self.phase in (Phase.CLOSED, Phase.LINGER):
            return
        self.transport.write(respond.error_answer(error, head, close=True))
        self._linger()

    def answer(self, head: RequestHead, status: int, body: bytes) -> None:
        """An answer of the router's own to a request without a body."""
        lines = permission(self._server.director.snapshot, head, self.visit)
        extra = b"".join(line + b"\r\n" for line in lines)
        close = self._closes_after(head)
        self._answer_whole(head, respond.answer(status, body, head, extra=extra, close=close))

    def answer_error(self, head: RequestHead, error: errors.RouterError) -> None:
        """An error that leaves the connection usable; the request has been read to its end."""
        self._server.refused(self, head, error, self.relay)
        self.relay = None
        close = self._closes_after(head)
        self._answer_whole(head, respond.error_answer(error, head, close=close))

    def _closes_after(self, head: RequestHead) -> bool:
        return not head.keep_alive or self._server.draining

    def _answer_whole(self, head: RequestHead, response: bytes) -> None:
        self.transport.write(response)
        if self._closes_after(head):
            self.close()
        else:
            self._next(self._server.clock())

    # --- back-pressure --------------------------------------------------------------------------

    def pause_reading(self) -> None:
        if self._reading and self.phase is not Phase.CLOSED:
            self._reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading and self.phase is not Phase.CLOSED:
            self._reading = True
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self.write_paused = True
        if self.relay is not None:
            self.relay.client_blocked()

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.relay is not None:
            self.relay.client_unblocked()
        elif self.phase is _HEAD and self._buffer:
            self._advance()

    def __repr__(self) -> str:
        return f"<Downstream {self.peer} {self.phase.name} {self.relay!r}>"

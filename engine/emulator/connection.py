"""HTTP/1.1 for the emulator: one `Connection` per socket, one `Exchange` per request.

llhttp (through httptools) parses; requests queue up and are answered in order, so pipelining
works.  Nothing here waits: a handler answers at once or keeps the exchange and answers later from
a timer.  A client that closes its side is gone: the exchange is told, whatever state it is in.
Bytes out go straight to the transport; `paused` says that the client does not read fast enough.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from typing import Final, Protocol, cast

import httptools

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_PIPELINED: Final = 64
LINGER_SECONDS: Final = 1.0
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)
REASONS: Final = {
    200: b"OK",
    204: b"No Content",
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    405: b"Method Not Allowed",
    409: b"Conflict",
    413: b"Content Too Large",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}


class Service(Protocol):
    """What a connection needs from the application."""

    identity: bytes
    max_body_bytes: int
    connections: set[Connection]

    def handle(self, exchange: Exchange) -> None:
        """Answer now or keep the exchange for later; must not raise."""

    def refuse(self, exchange: Exchange, status: int, message: str) -> None:
        """Answer a request that broke the protocol and close."""

    def gone(self, exchange: Exchange) -> None:
        """The client of an exchange in progress has left."""

    def load_line(self, form: bytes) -> bytes:
        """The header line for a request that asks for load in this format."""


class Listener(Protocol):
    """Whoever wants to know that a paused client reads again."""

    def resume(self) -> None:
        """The socket takes bytes again."""


class Exchange:
    """One request and its answer on a connection; `counted` while the books call it active.

    `extra` are header lines of the answer besides what every answer has.
    """

    __slots__ = (
        *("connection", "method", "path", "query", "headers", "body", "keep_alive", "chunked"),
        *("arrival", "job", "broken", "finished", "size", "pieces", "counted", "extra"),
    )

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.method = b"GET"
        self.path = ""
        self.query = b""
        self.headers: dict[bytes, bytes] = {}
        self.pieces: list[bytes] = []
        self.body = b""
        self.size = 0
        self.extra = b""
        self.keep_alive = True
        self.chunked = True
        self.counted = False
        self.arrival = 0.0
        self.job: Listener | None = None
        self.broken: tuple[int, str] | None = None
        self.finished = False

    def respond(
        self,
        status: int,
        body: bytes,
        content_type: bytes = b"application/json",
        headers: bytes = b"",
    ) -> None:
        """Send a whole answer and finish; `headers` are complete lines."""
        self.connection.transport.write(
            b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b"
            % (
                self._status_line(status),
                content_type,
                len(body),
                headers if self.keep_alive else headers + b"connection: close\r\n",
                b"" if self.method == b"HEAD" else body,
            )
        )
        self.finish()

    def head(self, headers: bytes, *, sized: bool = False) -> bytes:
        """Head of an answer sent in pieces: chunked, for HTTP/1.0 clients ended by closing.

        `sized` leaves framing to a content-length among `headers`.
        """
        framing = b"transfer-encoding: chunked\r\n" if self.chunked and not sized else b""
        if not self.keep_alive:
            framing += b"connection: close\r\n"
        return b"%b%b%b\r\n" % (self._status_line(200), headers, framing)

    def _status_line(self, status: int) -> bytes:
        line = b"HTTP/1.1 %d %b\r\n%b%b" % (
            status,
            REASONS.get(status, b"Status"),
            self.connection.service.identity,
            self.extra,
        )
        form = self.headers.get(b"endpoint-load-metrics-format")
        if form is not None:
            line += self.connection.service.load_line(form)
        request_id = self.headers.get(b"x-request-id")
        return line if request_id is None else b"%bx-request-id: %b\r\n" % (line, request_id)

    def write(self, data: bytes) -> None:
        """Send bytes of a streamed answer."""
        self.connection.transport.write(data)

    @property
    def paused(self) -> bool:
        """Whether the client has fallen behind, or is gone without our having been told yet."""
        return self.connection.paused or self.connection.transport.is_closing()

    def finish(self) -> None:
        """The answer is complete: go on with the next request or close."""
        if not self.finished:
            self.finished = True
            self.job = None
            self.connection.next_exchange(close=not self.keep_alive)

    def close(self) -> None:
        """Close in order, whatever was promised in the head."""
        self.finished = True
        self.job = None
        self.connection.next_exchange(close=True)

    def reset(self) -> None:
        """Close by a TCP reset; what is still in the socket's buffer is lost."""
        self.finished = True
        self.job = None
        self.connection.reset()

    def __repr__(self) -> str:
        return f"Exchange({self.method.decode()} {self.path}, finished={self.finished})"


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.paused = False
        self.transport: asyncio.Transport
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._arriving: Exchange | None = None
        self._head_bytes = 0
        self._queue: deque[Exchange] = deque()
        self._current: Exchange | None = None
        self._pumping = False
        self._closing = False
        self._reading = True
        self._deaf = False

    # ------------------------------------------------------------ transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast and no check: uvloop's transports do not inherit from asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.service.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._closing or self._deaf:
            return
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._break(400, "this server does not switch protocols")
        except httptools.HttpParserError as error:
            if not self._deaf:  # otherwise one of our callbacks raised, and said why
                self._break(400, f"malformed HTTP request: {error}")
        if self._current is None:
            self._pump()
        if len(self._queue) > MAX_PIPELINED and self._reading:
            self._reading = False
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self.service.connections.discard(self)
        self._give_up()
        # Parser and connection refer to each other: undo that by hand, the collector is off.
        self._parser = None
        self._arriving = None

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self._current is not None and self._current.job is not None:
            self._current.job.resume()

    # ------------------------------------------------------------ parser

    def on_message_begin(self) -> None:
        self._arriving = Exchange(self)
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        exchange = self._arriving
        assert exchange is not None
        self._count_head(len(url))
        path, _, query = url.partition(b"?")
        exchange.path += path.decode("latin-1")
        exchange.query += query

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._arriving is not None
        self._count_head(len(name) + len(value))
        self._arriving.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        exchange = self._arriving
        assert exchange is not None
        assert self._parser is not None
        exchange.method = self._parser.get_method()
        exchange.keep_alive = self._parser.should_keep_alive()
        exchange.chunked = self._parser.get_http_version() != "1.0"
        exchange.arrival = time.monotonic()
        if exchange.headers.get(b"expect", b"").lower() == b"100-continue":
            self._continue_or_refuse(exchange)

    def _continue_or_refuse(self, exchange: Exchange) -> None:
        length = exchange.headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self.service.max_body_bytes:
            self._too_large()
        if self._current is None and not self._queue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, piece: bytes) -> None:
        exchange = self._arriving
        assert exchange is not None
        exchange.size += len(piece)
        if exchange.size > self.service.max_body_bytes:
            self._too_large()
        exchange.pieces.append(piece)

    def on_message_complete(self) -> None:
        exchange = self._arriving
        assert exchange is not None
        pieces = exchange.pieces
        exchange.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        exchange.pieces = []
        self._arriving = None
        self._queue.append(exchange)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._break(431, f"request head is larger than {MAX_HEAD_BYTES} bytes")
            raise ValueError("head too large")

    def _too_large(self) -> None:
        self._break(413, f"request body is larger than {self.service.max_body_bytes} bytes")
        raise ValueError("body too large")

    # ------------------------------------------------------------ order of answers

    def _break(self, status: int, message: str) -> None:
        exchange = self._arriving or Exchange(self)
        exchange.broken = (status, message)
        exchange.keep_alive = False
        self._arriving = None
        self._deaf = True
        self._queue.append(exchange)

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        while self._current is None and self._queue and not self._closing:
            exchange = self._current = self._queue.popleft()
            if exchange.broken is None:
                self.service.handle(exchange)
            else:
                self.service.refuse(exchange, *exchange.broken)
        self._pumping = False
        if not self._reading and len(self._queue) <= MAX_PIPELINED and not self._closing:
            self._reading = True
            self.transport.resume_reading()

    def next_exchange(self, *, close: bool) -> None:
        """The current answer is complete."""
        self._current = None
        if self._deaf and close:
            # Closing with unread bytes in the socket would reset it and might take the answer
            # along, so only our side is closed; the rest is read and thrown away for a while.
            self._closing = True
            self.transport.write_eof()
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self.transport.abort)
        elif close:
            self._closing = True
            self.transport.close()
        elif self._queue:
            self._pump()

    def _give_up(self) -> None:
        self._queue.clear()
        current, self._current = self._current, None
        if current is not None and not current.finished:
            current.finished = True
            self.service.gone(current)
            current.job = None

    def reset(self) -> None:
        """Close by a TCP reset, whatever is under way."""
        self._give_up()
        self._closing = True
        self.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO
        )
        self.transport.abort()

    def __repr__(self) -> str:
        return f"Connection(current={self._current!r}, queued={len(self._queue)})"

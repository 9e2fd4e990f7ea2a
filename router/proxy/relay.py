"""Carries one request: feeds its exchange what happens, and does what the exchange says.

Knows nothing of policy: that is the exchange's. The client's bytes are read in ``downstream``,
the engine's in ``upstream``. One object per request; when it ends its links are cut, so that no
cycle is left to the garbage collector.
"""

import asyncio
from typing import Final

from router.core import errors, events
from router.core.events import Stage
from router.core.exchange import Exchange
from router.core.trace import NO_TRACE
from router.proxy import fault, load_header, peek, rewrite, shadow, waiting
from router.proxy.carried import Carried
from router.proxy.chunked import LAST_CHUNK, chunk
from router.proxy.credentials import with_credential
from router.proxy.paths import Body
from router.proxy.race import Race
from router.proxy.reply import Reply, decision
from router.proxy.response_head import ResponseHead
from router.proxy.seen import NOTHING, Peek
from router.proxy.timers import NEVER
from router.proxy.upstream import Upstream

TAIL: Final = 2048
"""Bytes kept of each of the last reads of a response, for its usage."""

# Looking a member up in its enum costs five times as much.
_CONNECT_STAGE: Final = Stage.CONNECT
_FIRST_BYTE: Final = Stage.FIRST_BYTE
_IDLE: Final = Stage.IDLE
_TOTAL: Final = Stage.TOTAL


class Relay(Carried):
    """One request on its way, and its answer on the way back."""

    __slots__ = ()

    # --- the request --------------------------------------------------------------------------

    def take(self, piece: bytes) -> None:
        """A piece of the request body. May end the request."""
        size, server = len(piece), self._server
        self.bytes_in += size
        if self._uploading:
            self._upload(piece)
            return
        self._pieces.append(piece)
        self._held += size
        server.buffered += size
        limits = server.limits
        if server.buffered > limits.max_buffered:
            self.refuse(
                errors.Overflow(
                    f"the router holds max_buffered = {limits.max_buffered} bytes of requests",
                    retry_after=1,
                )
            )
        elif self.exchange is None and self._held > limits.buffer_body >= self._held - size:
            if not self._certain:
                self._route_early()
        elif self.exchange is not None and self._held > 2 * limits.buffer_body:
            self.downstream.pause_reading()  # queued or connecting: nobody takes it yet

    def finish_request(self, now: float) -> None:
        """The request is complete."""
        self.whole = True
        if self.exchange is None:
            self._begin(now)
        elif self._uploading:
            assert self.upstream is not None
            if self._upload_chunked:
                self.upstream.write(LAST_CHUNK)
            self._uploading = False
            self.uploaded = True
            if self.reply is None:
                self._arm(_FIRST_BYTE, self._first_byte_timeout(), now)
            else:
                self._arm(_IDLE, 0 if self.idle == NEVER else self.idle, now)

    def _begin(self, now: float) -> None:
        seen = NOTHING
        if self._pieces or self._kind is Body.JSON:
            try:
                server = self._server
                names, hashed = server.prompt_names(), server.director.reads_conversation
                pieces, size, kind, head = self._pieces, self.bytes_in, self._kind, self.head
                seen = peek.peek(pieces, size, kind, head, names, hashed, self._certain)
            except errors.ClientError as error:
                self.refuse(error)
                return
        self._route(seen, now)

    def _route_early(self) -> None:
        """Too large to be held: route it as soon as the model is known."""
        front = b"".join(self._pieces)
        self._pieces = [front]
        seen = peek.front(front, self._kind, self.head, self._server.prompt_names())
        if seen is not None:
            self._route(seen, self._server.clock())

    def _route(self, seen: Peek, now: float) -> None:
        server = self._server
        request = peek.described(self.head, seen, self.downstream.visit, self.bytes_in)
        trace = server.trace(self.head) if self.head.shape.question else NO_TRACE
        self.exchange = exchange = server.director.begin(request, now, trace)
        server.relays[exchange.serial] = self
        if exchange.route is not None and exchange.route.timeouts.total:
            self.total_deadline = self.arrived + exchange.route.timeouts.total
        self.feed(events.START, now)

    def _let_go(self) -> None:
        self._server.buffered -= self._held
        self._held = 0
        self._pieces = []

    # --- effects ------------------------------------------------------------------------------

    def feed(self, event: events.Event, now: float) -> None:
        """Tell the exchange, and do what it says."""
        assert self.exchange is not None
        effect = self.exchange.feed(event, now)
        if isinstance(effect, events.Connect):
            self._connect(effect, now)
            route = self.exchange.route
            if route is not None and route.mirrors and effect.attempt == 1:
                shadow.begin(self, self._server, self._pieces, now)
        elif isinstance(effect, events.Wait):
            if effect is not events.STAND_BY:
                self._drop_upstream()
                self._arm(effect.stage, effect.timeout, now)
                if self.waiting is None and self.exchange.ticket is not None:
                    self.waiting = waiting.begin(self)
                if self._server.director.displaced:
                    self._server.displace()
        elif isinstance(effect, (events.Reject, events.Answer)):
            self._drop_upstream()
            self._answer(effect)
            self.end(now)
        elif isinstance(effect, events.Finish):
            if effect.error is not None:
                self._break_off(effect.error)
            self._drop_upstream()
            self.end(now)
        elif self.race is not None:
            self.race.act(effect, now)
        else:
            fault.act(self, self._server, effect, now)

    def _connect(self, effect: events.Connect, now: float) -> None:
        self._drop_upstream()
        server = self._server
        if effect.race and self.whole:
            self._arm(_TOTAL, 0, now)
            self.race = Race(self, server)
            self.race.start(effect, now)
            return
        self._mended = False  # each attempt may be mended once
        pool = server.pool(effect.endpoint.id)
        upstream = pool.take()
        if upstream is not None:
            self.upstream = upstream
            self.send(upstream)
            self._await_head(effect.first_byte_timeout, now)
            return
        self.upstream = upstream = Upstream(server, effect.endpoint, pool)
        self._arm(_CONNECT_STAGE, effect.connect_timeout, now)
        upstream.dial(self)

    def connected(self, upstream: Upstream) -> None:
        self.send(upstream)
        if not self._mended:  # else the exchange has been told of the first connection
            self._await_head(self._first_byte_timeout(), self._server.clock())

    def _await_head(self, timeout: float, now: float) -> None:
        self.feed(events.CONNECTED, now)
        if self.uploaded:
            self._arm(_FIRST_BYTE, timeout, now)
        else:
            self._stage = _FIRST_BYTE
            self.downstream.await_body(now)
            self.downstream.resume_reading()

    def now(self) -> float:
        return self._server.clock()

    def _first_byte_timeout(self) -> float:
        assert self.exchange is not None and self.exchange.route is not None
        return self.exchange.route.head_limit

    def connect_failed(self, upstream: Upstream) -> None:
        self.upstream = None
        event = events.RESET if self._mended else events.CONNECT_FAILED
        self.feed(event, self._server.clock())

    def send(self, upstream: Upstream) -> None:
        """Write what is there of the request, keeping it if it is whole."""
        assert self.exchange is not None and self.exchange.traffic is not None
        credential, pieces = self.exchange.traffic.cluster.credential, self._pieces
        head = self.head if credential is None else with_credential(self.head, credential)
        if self.exchange.traffic.cluster.asks_load:
            head = load_header.asking(head)
        peer = self.downstream.peer_bytes
        if self.whole:
            length = self.bytes_in if head.chunked or head.length is not None else None
            buffers = [head.upstream(peer, length, False), *pieces]
            self.uploaded = True
        else:
            self._upload_chunked = head.length is None
            buffers = [head.upstream(peer, head.length, self._upload_chunked)]
            buffers += [chunk(piece) for piece in pieces] if self._upload_chunked else pieces
            self.exchange.replayable = False
            self._uploading = True
            self._let_go()
        if self.exchange.actions is not None:
            buffers = rewrite.outgoing(self.exchange, head, peer, pieces, self.whole)
        if (tracing := self._server.tracing) is not None:
            buffers[0] = tracing.prepared(buffers[0], head, self.exchange)
        upstream.send(self, buffers)

    def _upload(self, piece: bytes) -> None:
        assert self.upstream is not None
        self.upstream.write(chunk(piece) if self._upload_chunked else piece)
        if self.upstream.write_paused:
            self.downstream.pause_reading()

    def upload_unblocked(self) -> None:
        self.downstream.resume_reading()

    def _drop_upstream(self) -> None:
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.close()
        elif self.race is not None:
            race, self.race = self.race, None
            race.close()

    # --- the response -------------------------------------------------------------------------

    def response_began(
        self, upstream: Upstream, head: ResponseHead, data: bytes, now: float
    ) -> None:
        """The head, with what came of the body in the same read."""
        exchange, downstream = self.exchange, self.downstream
        assert exchange is not None and exchange.route is not None
        self.feed(
            events.Head(head.status, retry_after=head.retry_after, lines=head.shape.start), now
        )
        if self.upstream is not upstream:
            return  # not good enough: the exchange tries elsewhere
        if upstream.tip is not None:
            tip, upstream.tip = upstream.tip, None
            exchange.prefix_tip(*tip)
        self._let_go()
        if exchange.actions is not None:
            head = rewrite.response_head(head, exchange)
        exposed = self._server.limits.expose_decision
        told = exposed or exchange.standing is not None or exchange.trace is not NO_TRACE
        extra = decision(exchange, exposed) if told or exchange.cookie is not None else []
        if self.waiting is not None and self.waiting.begun:
            self.reply = reply = self.waiting.reply(head)
        else:
            self.reply = reply = Reply(head, self.head, downstream.may_keep_alive(self), extra)
        self.closes = not reply.keep_alive
        idle = exchange.route.silence_limit
        self.idle = idle or NEVER
        self._arm(_IDLE, idle, now)
        if exchange.injection and fault.begin(self, self._server, head, data, now):
            return
        if data:
            self._first_byte(exchange, now)
            self.chunks = 1
            self._keep_tail(data)
            data = reply.head + (data if reply.verbatim else reply.reframe(data))
        else:
            data = reply.head
        self.bytes_out = len(data)
        downstream.transport.write(data)
        if downstream.write_paused:
            self.client_blocked()

    def body(self, data: bytes, now: float) -> None:
        """One read of the response body, in the engine's framing, already checked."""
        downstream, reply = self.downstream, self.reply
        assert reply is not None
        if self.first_body_at is None and self.exchange is not None:
            self._first_byte(self.exchange, now)
        self.chunks += 1
        if reply.tells_usage:
            self._keep_tail(data)
        if not reply.verbatim:
            if isinstance(self.fault, fault.Gate):
                self.fault.take(data)
                return
            data = reply.reframe(data)
        self.bytes_out += len(data)
        downstream.transport.write(data)
        deadline = now + self.idle
        downstream.deadline = deadline if deadline < self.total_deadline else self.total_deadline

    def _first_byte(self, exchange: Exchange, now: float) -> None:
        self.first_body_at = now
        exchange.first_byte(now)
        if self._server.director.lines:
            self._server.grant()  # an endpoint has one prompt less in line

    def _keep_tail(self, data: bytes) -> None:
        self.downstream.tail.append(data if len(data) <= TAIL else data[-TAIL:])

    def response_ended(self, now: float) -> None:
        """The response is complete; the engine's connection is no longer ours."""
        self.upstream = None
        if self.fault is not None and self.fault.ended():
            return
        if self.reply is not None and (last := self.reply.ending()):
            self.downstream.transport.write(last)
        self.feed(events.COMPLETE, now)

    def upstream_lost(self, upstream: Upstream, protocol: bool) -> None:
        """The engine closed, reset or broke the protocol before its response was complete."""
        assert self.exchange is not None
        if upstream.reused and not upstream.heard and not protocol and self.exchange.replayable:
            self._mend(upstream)
            return
        self._protocol_error = protocol
        self.feed(events.Reset(protocol), self._server.clock())

    def _mend(self, lost: Upstream) -> None:
        """Send the request again on a fresh connection to the same endpoint."""
        self._mended = True
        self.upstream = upstream = Upstream(self._server, lost.endpoint, lost.pool)
        upstream.dial(self)

    # --- ends ---------------------------------------------------------------------------------

    def _break_off(self, error: errors.RouterError) -> None:
        """End a response that cannot be completed so that nobody takes it for complete."""
        reply, downstream = self.reply, self.downstream
        assert reply is not None
        self.closes = True
        upstream = None if self._protocol_error else self.upstream
        if last := reply.broken_off(error, upstream, downstream.tail):
            downstream.transport.write(last)

    def _answer(self, effect: events.Reject | events.Answer) -> None:
        """The exchange is over before a response head was sent."""
        if isinstance(effect, events.Reject) and self.waiting is not None and self.waiting.begun:
            self.waiting.refuse(effect.error)
            return
        self.closes = closes = not self.downstream.may_keep_alive(self)
        answer = rewrite.own(effect, self.head, self.exchange, close=closes)
        self.bytes_out = len(answer)
        self.downstream.transport.write(answer)

    def refuse(self, error: errors.RouterError) -> None:
        """What the client sends cannot be taken: answer, whatever has become of the exchange."""
        if self.exchange is None:
            self._let_go()
            if self.whole:
                self.downstream.answer_error(self.head, error)
            else:
                self.downstream.refuse(error, self.head)
        elif self.reply is not None:
            self.client_gone()
            self.downstream.abort()
        else:
            self._refusal = error
            self.client_gone()

    def client_gone(self) -> None:
        """Nobody is left to answer: stop the engine at once."""
        if self.exchange is None:
            self._let_go()
        elif not self.exchange.over:
            self.feed(events.CLIENT_GONE, self._server.clock())

    def cancel(self, reason: str) -> None:
        """End the exchange; the client is told why."""
        if self.exchange is not None and not self.exchange.over:
            self.feed(events.Cancel(reason), self._server.clock())

    def end(self, now: float) -> None:
        """The exchange is over: report it, cut the links, let the connection go on."""
        exchange, server, downstream = self.exchange, self._server, self.downstream
        assert exchange is not None
        server.relays.pop(exchange.serial, None)
        if self.fault is not None:
            self.fault.cancel()
        if self.waiting is not None:
            self.waiting.stop()
        if self._held:
            self._let_go()
        server.journal.add(self, exchange, now)
        if self._refusal is not None:
            downstream.refuse(self._refusal, self.head)
        else:
            downstream.request_over(self, now)
        if server.director.lines:
            server.grant()

    # --- time and back-pressure ---------------------------------------------------------------

    def _arm(self, stage: Stage, timeout: float, now: float) -> None:
        downstream, self._stage = self.downstream, stage
        deadline = min(now + timeout if timeout else NEVER, self.total_deadline)
        downstream.deadline = deadline
        if deadline < downstream.due:
            self._server.wheel.set(downstream, deadline)

    def expired(self, now: float) -> None:
        """The deadline set by ``_arm`` or ``body`` has passed."""
        stage = _TOTAL if now >= self.total_deadline else self._stage
        if stage is _IDLE and self.downstream.write_paused:
            # The client has not read for all that time; the engine is not to blame.
            self.client_gone()
            self.downstream.abort()
        else:
            self.feed(events.TimedOut(stage), now)

    def _answering(self) -> asyncio.Transport | None:
        """The connection that the response comes from."""
        return self.upstream.transport if self.reply and self.upstream else None

    def client_blocked(self) -> None:
        if (transport := self._answering()) is not None:
            transport.pause_reading()

    def client_unblocked(self) -> None:
        if (transport := self._answering()) is not None and not (self.fault and self.fault.closed):
            transport.resume_reading()
            self._arm(_IDLE, 0 if self.idle == NEVER else self.idle, self._server.clock())

    def __repr__(self) -> str:
        return f"<Relay {self.head!r} {self.exchange!r}>"

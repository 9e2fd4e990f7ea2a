"""The data plane of one worker: accepts clients, keeps connections to engines, counts.

It asks the director for everything that needs deciding, and reads the limits from the director's
snapshot for each request, so that ``director.update()`` is all a reload needs.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final, cast
from urllib.parse import unquote

from router.core import errors, events
from router.core.access.names import NameSet
from router.core.director import Director
from router.core.engine_cache.news import Tip
from router.core.listener import ListenerLimits
from router.core.model import Endpoint, EndpointId
from router.core.trace import NO_TRACE, DecisionTrace
from router.proxy import load_header, model_list, tip_header
from router.proxy.accounting import refusal
from router.proxy.cross_origin import is_preflight, permission
from router.proxy.door import Door, Visit, open_door
from router.proxy.downstream import Downstream
from router.proxy.engine_tls import EngineTls
from router.proxy.explainer import Explainer
from router.proxy.headers import RequestHead
from router.proxy.journal import Journal
from router.proxy.log_fields import LogFields
from router.proxy.metering import RelayMeter
from router.proxy.paths import Body
from router.proxy.peek import described
from router.proxy.pool import Pool
from router.proxy.relay import Relay
from router.proxy.seen import NOTHING
from router.proxy.shadow import Copy
from router.proxy.timers import Wheel
from router.proxy.tls_accept import TlsListener
from router.proxy.tracing import Tracing
from router.telemetry.recorder import Recorder

BACKLOG: Final = 4096
_NO_MODELS: Final = b'{"object":"list","data":[]}'
MAX_LISTINGS: Final = 1024
"""Answers to GET /v1/models kept, one for each set of permitted models."""


class ProxyServer:
    """Listens, relays, and ends in good order.

    Args:
        director: decides; its snapshot may be swapped at any time.
        recorder: told of every exchange that ended.
        clock: monotonic seconds.
        wall: Unix seconds.

    Attributes:
        draining: answers close their connections, and /health fails.
        buffered: request bytes held for all clients.
        relays: exchanges under way by serial.
        copies: copies of requests on their way to mirrors.
        explainer: knows who may have decisions told in answers; None: nobody.
        handshakes: connections whose TLS handshake is under way.
        contexts: for connections to engines that speak TLS, by cluster.
        tracing: what becomes of trace contexts; None: they are passed on.
        log_fields: keeps the headers that the access log asks for; None: it asks for none.
        logs_prefixes: the access log names the beginnings of prompts.
    """

    def __init__(
        self,
        director: Director,
        recorder: Recorder,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.director = director
        self.recorder = recorder
        self.clock = clock
        self.wall = wall
        self.draining = False
        self.buffered = 0
        self.explainer: Explainer | None = None
        self.tracing: Tracing | None = None
        self.log_fields: LogFields | None = None
        self.logs_prefixes = False
        self.connections: set[Downstream] = set()
        self.handshakes: set[asyncio.Task[None]] = set()
        self.contexts: Mapping[str, EngineTls] = {}
        self.relays: dict[int, Relay] = {}
        self.copies: set[Copy] = set()
        director.limiter.meter = RelayMeter(self.relays)
        self.journal = Journal(self, recorder)
        self.wheel = Wheel(clock, self._tick)
        self._pools: dict[EndpointId, Pool] = {}
        self._listeners: list[asyncio.Server | TlsListener] = []
        self._granting = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._models = _NO_MODELS
        self._model_by_id: dict[str, bytes] = {}
        self._permitted_models: dict[NameSet, bytes] = {}

    @property
    def limits(self) -> ListenerLimits:
        return self.director.snapshot.limits

    def prompt_names(self) -> Mapping[str | None, str] | None:
        """The aliases of models, with which prompts are named; None where nobody reads them."""
        director = self.director
        read = director.reads_prompt or self.logs_prefixes
        return director.snapshot.routes.aliases if read else None

    @property
    def in_flight(self) -> int:
        """Exchanges under way, queued ones included."""
        return len(self.relays)

    def gauges(self) -> dict[str, int]:
        """Connections, request bytes held, and connections to engines that are kept unused."""
        return {
            "connections": len(self.connections),
            "buffered_bytes": self.buffered,
            "pooled": sum(len(pool.idle) for pool in self._pools.values()),
            "in_flight": len(self.relays),
        }

    # --- listening and stopping -----------------------------------------------------------------

    async def listen(self, sock: socket.socket, door: Door | None = None) -> None:
        """Accept clients from a bound socket.

        Args:
            door: whom it lets in, and as whom; everybody by default.
        """
        door = door if door is not None else open_door()

        if door.context is not None:
            self._listeners.append(TlsListener(self, sock, door, BACKLOG))
            return

        def accept() -> asyncio.Protocol:
            return cast("asyncio.Protocol", Downstream(self, Visit(door)))

        loop = asyncio.get_running_loop()
        self._listeners.append(await loop.create_server(accept, sock=sock, backlog=BACKLOG))

    def close_listeners(self) -> None:
        """Accept no more; connections that are open go on."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def drain(self) -> None:
        """Let each connection end after the answer that it waits for, or now if it is idle."""
        self.draining = True
        self._give_up_copies()
        for connection in list(self.connections):
            if connection.idle:
                connection.close()
        for handshake in list(self.handshakes):
            handshake.cancel()

    def _give_up_copies(self) -> None:
        """Nobody waits for what a mirror answers."""
        now = self.clock()
        for copy in list(self.copies):
            copy.end("cancelled", now)

    async def drained(self, timeout: float) -> bool:
        """Wait until no connection is left; False if some still are after ``timeout`` seconds."""
        try:
            await asyncio.wait_for(self._empty.wait(), timeout)
        except TimeoutError:
            return False
        return True

    def abort_all(self, reason: str) -> None:
        """End all exchanges and connections now; streams are told why."""
        self._give_up_copies()
        for relay in list(self.relays.values()):
            relay.cancel(reason)
        for connection in list(self.connections):
            connection.close()
        for handshake in list(self.handshakes):
            handshake.cancel()

    async def close(self) -> None:
        """Release everything; for the end of the process and for tests."""
        self.close_listeners()
        self._give_up_copies()
        for connection in list(self.connections):
            connection.abort()
        for handshake in list(self.handshakes):
            handshake.cancel()
        for pool in self._pools.values():
            pool.clear()
        self.wheel.stop()
        self.director.limiter.flush(self.clock())
        await asyncio.sleep(0)

    # --- what an operator asks ------------------------------------------------------------------

    def cancel(self, serial: int) -> bool:
        """End one exchange; False if there is none of that number."""
        relay = self.relays.get(serial)
        if relay is None:
            return False
        relay.cancel("cancelled by an operator")
        return True

    # --- answers of its own -----------------------------------------------------------------------

    def set_models(self, body: bytes) -> None:
        """The answer to GET /v1/models, as OpenAI's list object.

        Raises:
            msgspec.DecodeError: if ``body`` is no such list; the former answer stays.
        """
        self._model_by_id = model_list.by_id(body)
        self._models = body
        self._permitted_models.clear()

    def answer_locally(
        self, downstream: Downstream, head: RequestHead, kind: Body, has_body: bool
    ) -> None:
        """Answer /health, /v1/models and /v1/models/{id}."""
        if has_body:
            downstream.refuse(errors.BadRequest(f"{head.path} takes no body"), head)
            return
        status, body = 200, b'{"status":"ok"}'
        if kind is Body.HEALTH:
            if self.draining:
                status, body = 503, b'{"status":"draining"}'
        elif head.path == "/v1/models":
            body = self._listing(downstream.visit.identity.models)
        else:
            # OpenAI's clients write the slash of `org/model` as %2F.
            model = unquote(head.path.removeprefix("/v1/models/"))
            known = self._model_by_id.get(model)
            permitted = downstream.visit.identity.models
            if known is None or (permitted is not None and not permitted.permits(model)):
                downstream.answer_error(head, _no_model(model))
                return
            body = known
        downstream.answer(head, status, body)

    def _listing(self, permitted: NameSet | None) -> bytes:
        """The models that somebody may ask for."""
        if permitted is None:
            return self._models
        body = self._permitted_models.get(permitted)
        if body is None:
            entries = [raw for name, raw in self._model_by_id.items() if permitted.permits(name)]
            body = b'{"object":"list","data":[' + b",".join(entries) + b"]}"
            if len(self._permitted_models) >= MAX_LISTINGS:
                self._permitted_models.clear()
            self._permitted_models[permitted] = body
        return body

    # --- for connections and relays -------------------------------------------------------------

    def opened(self, connection: Downstream) -> None:
        self.connections.add(connection)
        self._empty.clear()
        self.recorder.connection_opened()

    def closed(self, connection: Downstream) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()
        self.recorder.connection_closed()

    def trace(self, head: RequestHead) -> DecisionTrace:
        """For a request that asks to have its decision told."""
        return NO_TRACE if self.explainer is None else self.explainer.trace(head.shape.question)

    def dropped(self, listener: str, reason: str) -> None:
        """A connection ended before any request."""
        self.recorder.denied(listener, reason)

    def refused(
        self,
        downstream: Downstream,
        head: RequestHead | None,
        error: errors.RouterError,
        relay: Relay | None = None,
    ) -> None:
        """Count a request that is answered before it was routed, and log it if it has a head.

        A web page that may call is to read why it was refused.
        """
        record = None
        if head is not None:
            error.headers += tuple(permission(self.director.snapshot, head, downstream.visit))
        if head is not None and (relay is None or relay.exchange is None):
            now = self.clock()
            took, size = (0.0, 0) if relay is None else (now - relay.arrived, relay.bytes_in)
            visit = downstream.visit
            record = refusal(visit, head, error, self.wall() - took, took, size)
            if self.log_fields is not None:
                asked = described(head, NOTHING, visit, size)
                record.fields = self.log_fields.of(asked, None)
        self.recorder.refused(error.status, error.flag, record)

    def turned_away(
        self, downstream: Downstream, head: RequestHead, has_body: bool, error: errors.RouterError
    ) -> bool:
        """Refuse a request for its head, unless it only asks whether one with another may come:
        browsers say neither who they are nor take the method of the path for that."""
        if is_preflight(self.director.snapshot, head, downstream.visit):
            return False
        if isinstance(error, errors.Unauthorized):
            visit = downstream.visit
            self.recorder.denied(visit.door.name, error.reason)
        if has_body:  # unread, it would be in the way of the next request
            downstream.refuse(error, head)
        else:
            downstream.answer_error(head, error)
        return True

    def pool(self, endpoint: EndpointId) -> Pool:
        pool = self._pools.get(endpoint)
        if pool is None:
            pool = self._pools[endpoint] = Pool()
        return pool

    def hear(self, endpoint: Endpoint, asked: RequestHead, raw: bytes) -> tuple[bytes, Tip | None]:
        """Take out of a response head what an endpoint tells the router.

        That is its load, which a client that asked for it gets as well, and the blocks of the
        prompt, which are returned.
        """
        director = self.director
        cluster = director.snapshot.clusters.get(endpoint.cluster)
        host = director.fleet.hosts.get(endpoint.id)
        if cluster is None or host is None:
            return raw, None
        tip = None
        if cluster.kv_events is not None:
            raw, tip = tip_header.heard(raw)
        if cluster.asks_load:
            rest, load = load_header.heard(raw, host.load, self.clock())
            if load is not None:
                director.fleet.hear_load(endpoint.id, load)
            if rest is not raw and not load_header.asks(asked):
                raw = rest
        return raw, tip

    def grant(self) -> None:
        """Give free places to those who wait for them."""
        if self._granting:  # called again from within, by an exchange that ended at once
            return
        self._granting = True
        try:
            while (exchange := self.director.next_granted(self.clock())) is not None:
                self.relays[exchange.serial].feed(events.GRANTED, self.clock())
        finally:
            self._granting = False

    def displace(self) -> None:
        """Refuse those whose place in line went to others."""
        while (exchange := self.director.next_displaced()) is not None:
            self.relays[exchange.serial].feed(events.DISPLACED, self.clock())

    def _tick(self, now: float) -> None:
        self.journal.settle()
        self.grant()
        self.director.limiter.flush(now)
        self.director.limiter.debit(now)
        if len(self._pools) > 2 * len(self.director.fleet.hosts) + 16:
            hosts = self.director.fleet.hosts
            self._pools = {
                id_: pool for id_, pool in self._pools.items() if id_ in hosts or pool.idle
            }

    def __repr__(self) -> str:
        return f"<ProxyServer in_flight={self.in_flight} connections={len(self.connections)}>"


def _no_model(model: str) -> errors.ModelNotFound:
    return errors.ModelNotFound(f"The model `{model}` does not exist.", param="model")

"""The data plane of one worker: accepts clients, keeps connections to engines, counts.

It asks the director for everything that needs deciding, and reads the limits from the director's
snapshot for each request, so that ``director.update()`` is all a reload needs.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Final, cast

from router.core import errors, events
from router.core.director import Director
from router.core.listener import ListenerLimits
from router.core.model import EndpointId
from router.core.trace import NO_TRACE, DecisionTrace
from router.proxy import model_list
from router.proxy.downstream import Downstream
from router.proxy.explainer import Explainer
from router.proxy.headers import RequestHead
from router.proxy.metering import RelayMeter
from router.proxy.paths import Body
from router.proxy.pool import Pool
from router.proxy.relay import Relay
from router.proxy.timers import Wheel
from router.telemetry.record import Recorder

BACKLOG: Final = 4096
_NO_MODELS: Final = b'{"object":"list","data":[]}'


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
        explainer: knows who may have decisions told in answers; None: nobody.
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
        self.connections: set[Downstream] = set()
        self.relays: dict[int, Relay] = {}
        director.limiter.meter = RelayMeter(self.relays)
        self.wheel = Wheel(clock, self._tick)
        self._pools: dict[EndpointId, Pool] = {}
        self._listeners: list[asyncio.Server] = []
        self._granting = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._models = _NO_MODELS
        self._model_by_id: dict[str, bytes] = {}

    @property
    def limits(self) -> ListenerLimits:
        return self.director.snapshot.limits

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

    async def listen(self, sock: socket.socket) -> None:
        """Accept clients from a bound socket."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: cast("asyncio.Protocol", Downstream(self)), sock=sock, backlog=BACKLOG
        )
        self._listeners.append(server)

    def close_listeners(self) -> None:
        """Accept no more; connections that are open go on."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def drain(self) -> None:
        """Let each connection end after the answer that it waits for, or now if it is idle."""
        self.draining = True
        for connection in list(self.connections):
            if connection.idle:
                connection.close()

    async def drained(self, timeout: float) -> bool:
        """Wait until no connection is left; False if some still are after ``timeout`` seconds."""
        try:
            await asyncio.wait_for(self._empty.wait(), timeout)
        except TimeoutError:
            return False
        return True

    def abort_all(self, reason: str) -> None:
        """End all exchanges and connections now; streams are told why."""
        for relay in list(self.relays.values()):
            relay.cancel(reason)
        for connection in list(self.connections):
            connection.close()

    async def close(self) -> None:
        """Release everything; for the end of the process and for tests."""
        self.close_listeners()
        for connection in list(self.connections):
            connection.abort()
        for pool in self._pools.values():
            pool.clear()
        self.wheel.stop()
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

    def answer_locally(
        self, downstream: Downstream, head: RequestHead, kind: Body, has_body: bool
    ) -> None:
        """Answer /health, /v1/models and /v1/models/{id}."""
        if has_body:
            error = errors.BadRequest(f"{head.path} takes no body")
            downstream.refuse(error, head)
            return
        status, body = 200, b'{"status":"ok"}'
        if kind is Body.HEALTH:
            if self.draining:
                status, body = 503, b'{"status":"draining"}'
        elif head.path == "/v1/models":
            body = self._models
        else:
            model = head.path.removeprefix("/v1/models/")
            known = self._model_by_id.get(model)
            if known is None:
                downstream.answer_error(head, _no_model(model))
                return
            body = known
        downstream.answer(head, status, body)

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

    def pool(self, endpoint: EndpointId) -> Pool:
        pool = self._pools.get(endpoint)
        if pool is None:
            pool = self._pools[endpoint] = Pool()
        return pool

    def grant(self) -> None:
        """Give free places to those who wait for them."""
        if self._granting:  # called again from within, by an exchange that ended at once
            return
        self._granting = True
        try:
            while (exchange := self.director.next_granted()) is not None:
                self.relays[exchange.serial].feed(events.GRANTED, self.clock())
        finally:
            self._granting = False

    def _tick(self, now: float) -> None:
        self.grant()
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

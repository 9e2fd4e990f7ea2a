"""A proxy in front of scripted engines, all in one loop, spoken to in bytes."""

import asyncio
import random
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from router.control.messages import Material
from router.core.access.claims import Issuer
from router.core.access.tenants import Access
from router.core.admission.breaker import CircuitBreaker, QueuePolicy
from router.core.balancers.base import BalancerSpec
from router.core.balancers.round_robin import RoundRobin
from router.core.cluster import Cluster, KvEvents, UpstreamTls
from router.core.director import Director
from router.core.fleet import Fleet
from router.core.listener import ListenerLimits, ListenerPolicy
from router.core.model import Endpoint, EndpointId
from router.core.retry.hedge import Hedge
from router.core.retry.policy import RetryPolicy
from router.core.routing import Destination, Matcher, Route, RouteTable, Timeouts
from router.core.session.policy import Session
from router.core.snapshot import Snapshot
from router.proxy import overview
from router.proxy.downstream import Downstream
from router.proxy.journal import Journal
from router.proxy.security import Security
from router.proxy.server import ProxyServer
from router.telemetry.record import ExchangeRecord
from router.telemetry.recorder import NoRecorder

Response = tuple[int, dict[str, str], bytes]
Script = Callable[["EngineConnection"], Awaitable[None]]


class EngineConnection:
    """One connection that the proxy opened to a scripted engine."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        seen: list[tuple[bytes, bytes]],
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._seen = seen

    async def head(self) -> bytes:
        """The next request head, with its empty line."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> tuple[bytes, bytes]:
        """The next request: head and body, de-chunked."""
        request = await self._request()
        self._seen.append(request)
        return request

    async def _request(self) -> tuple[bytes, bytes]:
        head = await self.head()
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            body = b""
            while size := int(await self.reader.readline(), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
            return head, body
        if b"content-length:" in lower:
            length = int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0])
            return head, await self.reader.readexactly(length)
        return head, b""

    async def send(self, data: bytes) -> None:
        if self.writer.transport.is_closing():
            raise ConnectionResetError("the proxy is gone")  # uvloop's write has no name for it
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the proxy closes the connection."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


class Engine:
    """Runs ``script`` for every connection; ``seen`` are the whole requests that were read."""

    def __init__(self, script: Script, context: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.context = context
        self.connections = 0
        self.seen: list[tuple[bytes, bytes]] = []
        self.errors: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self.server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=1 << 20, ssl=self.context
        )
        self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.script(EngineConnection(reader, writer, self.seen))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except BaseException as error:
            # uvloop's word for writing to a connection that the proxy has just reset.
            if not (isinstance(error, RuntimeError) and writer.transport.is_closing()):
                self.errors.append(error)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def stop(self) -> None:
        self.server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.sleep(0)


class Recorder(NoRecorder):
    def __init__(self) -> None:
        self.journal: Journal | None = None
        self._records: list[ExchangeRecord] = []
        self.refusals: list[tuple[int, str]] = []
        self.denials: list[tuple[str, str]] = []
        self.opened = 0

    @property
    def records(self) -> list[ExchangeRecord]:
        if self.journal is not None:
            self.journal.settle()
        return self._records

    def connection_opened(self) -> None:
        self.opened += 1

    def exchange_ended(self, record: ExchangeRecord) -> None:
        self._records.append(record)

    def denied(self, listener: str, reason: str) -> None:
        self.denials.append((listener, reason))

    def refused(self, status: int, flag: str, record: ExchangeRecord | None) -> None:
        self.refusals.append((status, flag))
        if record is not None:
            self._records.append(record)


class Client:
    """A raw connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self, *, head_only: bool = False) -> Response:
        """Status, headers (lower-case) and de-chunked body of the next response."""
        async with asyncio.timeout(5):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status = int(head[9:12])
            headers = parse_headers(head)
            if head_only or status in (204, 304) or status < 200:
                return status, headers, b""
            if headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(await self.reader.readline(), 16):
                    body += await self.reader.readexactly(size)
                    assert await self.reader.readexactly(2) == b"\r\n"
                assert await self.reader.readexactly(2) == b"\r\n"
                return status, headers, body
            if "content-length" in headers:
                return (
                    status,
                    headers,
                    await self.reader.readexactly(int(headers["content-length"])),
                )
            return status, headers, await self.reader.read()

    async def rest(self) -> bytes:
        """Everything until the proxy closes."""
        async with asyncio.timeout(5):
            return await self.reader.read()

    async def read_until(self, what: bytes) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readuntil(what)

    def close(self) -> None:
        self.writer.close()


def parse_headers(head: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in head.decode("latin-1").split("\r\n")[1:-2]:
        name, _, value = line.partition(":")
        assert name.lower() not in headers, f"repeated: {name}"
        headers[name.lower()] = value.strip()
    return headers


class Rig:
    """A proxy with one cluster and one route over the given engines.

    ``terms`` are further fields of the route, ``others`` further clusters of one engine each.
    """

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.engines: list[Engine] = []
        self.clients: list[Client] = []
        self.ports: list[int] = []
        self.processes: list[asyncio.subprocess.Process] = []
        self.timeouts = Timeouts()
        self.retry = RetryPolicy()
        self.hedge: Hedge | None = None
        self.breaker = CircuitBreaker()
        self.asks_load = False
        self.kv_events: KvEvents | None = None
        self.balancer: BalancerSpec = RoundRobin.Spec()
        self.queue = QueuePolicy()
        self.limits = ListenerLimits()
        self.match = Matcher(model="m")
        self.terms: dict[str, Any] = {}
        self.others: dict[str, Script | int] = {}
        self.others_engines: dict[str, Engine] = {}
        self.others_ports: dict[str, int] = {}
        self.policy = ListenerPolicy(name="api")
        self.access: Access | None = None
        self.issuers: tuple[Issuer, ...] = ()
        self.material = Material(listeners=(None,))
        self.tls: UpstreamTls | None = None
        self.credential: bytes | None = None
        self.security = Security()
        self.context: ssl.SSLContext | None = None
        self.engine_context: ssl.SSLContext | None = None
        self.session: Session | None = None
        self.generation = 0

    async def start(self, *scripts: Script | int) -> "Rig":
        """Each argument is an engine's script, or a port where nobody needs to listen."""
        for script in scripts:
            if isinstance(script, int):
                self.ports.append(script)
                continue
            engine = Engine(script, self.engine_context)
            await engine.start()
            self.engines.append(engine)
            self.ports.append(engine.port)
        for name, script in self.others.items():
            self.others_ports[name] = script if isinstance(script, int) else 0
            if not isinstance(script, int):
                self.others_engines[name] = engine = Engine(script)
                await engine.start()
                self.engines.append(engine)
                self.others_ports[name] = engine.port
        self.fleet = Fleet()
        self.director = Director(self.snapshot(), self.fleet, random.Random(7))
        self.server = ProxyServer(self.director, self.recorder)
        self.recorder.journal = self.server.journal
        self.secure()
        sock = socket.create_server(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        await self.server.listen(sock, self.security.doors[0])
        return self

    def secure(self) -> None:
        """Put the snapshot's rules and the certificates in force, as a worker does."""
        self.security = self.security.with_material(self.material)
        self.security.follow(self.director.snapshot, self.server)

    def snapshot(self) -> Snapshot:
        cluster = Cluster(
            name="c",
            endpoints=tuple(_endpoint("c", port) for port in self.ports),
            balancer=self.balancer,
            asks_load=self.asks_load,
            kv_events=self.kv_events,
            breaker=self.breaker,
            tls=self.tls,
            credential=self.credential,
            session=self.session,
            queue=self.queue,
        )
        route = Route(
            name="r",
            match=self.match,
            destinations=(Destination("c"),),
            timeouts=self.timeouts,
            retry=self.retry,
            hedge=self.hedge,
            **self.terms,
        )
        others = {
            name: Cluster(name=name, endpoints=(_endpoint(name, port),), balancer=RoundRobin.Spec())
            for name, port in self.others_ports.items()
        }
        self.generation += 1
        return Snapshot(
            generation=self.generation,
            clusters={"c": cluster} | others,
            routes=RouteTable([route]),
            limits=self.limits,
            listeners=(self.policy,),
            access=self.access,
            issuers=self.issuers,
        )

    async def client(self) -> Client:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, limit=1 << 24, ssl=self.context
        )
        client = Client(reader, writer)
        self.clients.append(client)
        async with asyncio.timeout(10):
            while self.recorder.opened < len(self.clients):
                await asyncio.sleep(0)
        return client

    async def post(self, body: bytes = b'{"model":"m"}', **headers: str) -> Response:
        """One chat completion over a new connection."""
        client = await self.client()
        await client.send(chat(body, **headers))
        return await client.response()

    def states(self) -> list[object]:
        return [request["state"] for request in overview.requests(self.server, 1000)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait, at most ten seconds, for something to become true."""
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.002)

    async def settled(self) -> None:
        """Wait until nothing is in flight, and check that nothing leaked."""
        async with asyncio.timeout(10):
            while self.server.relays or self.director.active:
                await asyncio.sleep(0.005)
        for host in (*self.fleet.hosts.values(), *self.fleet.leaving.values()):
            assert host.in_flight == 0, host
        for name in self.director.snapshot.clusters:
            places = self.director.places(name)
            assert (places.in_flight, places.queue.waiting) == (0, 0)
        assert self.server.buffered == 0

    @property
    def connection(self) -> Downstream:
        """The proxy's side of the only client connection."""
        [connection] = self.server.connections
        return connection

    async def stop(self) -> None:
        for process in self.processes:
            process.kill()
            await process.wait()
        for client in self.clients:
            client.writer.transport.abort()
        await self.server.close()
        for engine in self.engines:
            await engine.stop()
        await asyncio.sleep(0.01)
        for engine in self.engines:
            assert engine.errors == []


def _endpoint(cluster: str, port: int) -> Endpoint:
    id_ = EndpointId(f"{cluster}/127.0.0.1:{port}")
    return Endpoint(id=id_, cluster=cluster, host="127.0.0.1", port=port)


def chat(
    body: bytes = b'{"model":"m"}', path: str = "/v1/chat/completions", **headers: str
) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: proxy", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def whole(body: bytes = b'{"ok":true}', status: str = "200 OK", headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return (head + headers + "\r\n").encode() + body


SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
EVENT = b"9\r\ndata: x\n\n\r\n"


class Watched:
    """An engine that notes when the proxy has closed on it."""

    def __init__(self, before: bytes = b"") -> None:
        self.before = before
        self.arrived = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, connection: EngineConnection) -> None:
        await connection.head()
        if self.before:
            await connection.send(self.before)
        self.arrived.set()
        await connection.gone()
        self.left.set()


def answering(response: bytes = whole()) -> Script:
    """Answer every request on a connection with the same bytes."""

    async def script(connection: EngineConnection) -> None:
        while True:
            await connection.request()
            await connection.send(response)

    return script

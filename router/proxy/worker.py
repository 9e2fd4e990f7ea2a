"""A worker process: the data plane and nothing else.

``python -m router.proxy.worker OPTIONS`` is started by control with its descriptors inherited. It
serves once it has a snapshot, follows what control says over the channel, and reports what it
counts. When the channel ends, control is gone: nobody could reload, drain or replace this worker
any more, so it finishes what it has in a few seconds and goes too. It touches no file and reads
no environment.
"""

import asyncio
import gc
import random
import signal
import socket
import sys
import time
from typing import Any

import msgspec
import uvloop

from router.config.accesslog import TraceContext
from router.config.build import build
from router.config.gossip import beyond
from router.config.schema import decode
from router.control.board import Board, WorkerColumn
from router.control.channel import Channel
from router.control.messages import (
    AbortAll,
    AccessLines,
    Ack,
    Announce,
    CachesChanged,
    Cancel,
    CancelAt,
    CancelReply,
    Drain,
    ForecastQuery,
    ForecastReply,
    HostStates,
    HostUpdate,
    KeySets,
    Message,
    Models,
    PushedBack,
    RequestsQuery,
    RequestsReply,
    SnapshotUpdate,
    StatsReport,
    Suspected,
    decode_to_worker,
)
from router.control.worker_process import WorkerOptions
from router.core.director import Director
from router.core.fleet import Fleet
from router.core.health.outlier import Detector
from router.core.host import Outcome
from router.core.model import AdminState, EndpointId
from router.proxy import overview
from router.proxy.cache_link import CacheLink
from router.proxy.explainer import Explainer
from router.proxy.gossip_link import GossipLink
from router.proxy.limit_counts import add_limits
from router.proxy.log_fields import fields_for
from router.proxy.security import Security
from router.proxy.server import ProxyServer
from router.proxy.shared_limits import SharedLimits, follow
from router.proxy.tracing import Tracing
from router.telemetry.accesslog import AccessRing
from router.telemetry.counting import CountingRecorder
from router.telemetry.fallbacks import add_fallbacks
from router.telemetry.faults import add_faults
from router.telemetry.forecasts import add_forecasts, add_gossip, add_tips
from router.telemetry.log_filter import filtered
from router.telemetry.mirrors import add_mirrors
from router.telemetry.prefixes import add_prefixes
from router.telemetry.queueing import add_queues
from router.telemetry.retries import add_hedges, add_retries
from router.telemetry.sessions import add_sessions
from router.telemetry.totals import Labels, Totals
from router.telemetry.version import VERSION

MAX_LISTED = 1000
"""Requests under way that are told to an operator, the oldest."""
ORPHAN_GRACE = 5.0
"""Seconds to finish exchanges after control is gone."""
LAG_INTERVAL = 0.1
MAX_CHANNEL_BACKLOG = 4 * 1024 * 1024
"""Bytes; access lines are kept back while control is this far behind."""


class Worker:
    """The process's parts and the channel's other end.

    Args:
        options: from the command line.
        board: the mapped board.
    """

    def __init__(self, options: WorkerOptions, board: Board) -> None:
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._fleet = Fleet(
            WorkerColumn(board, options.column),
            board.affinity(),
            board.failure_words,
            self._suspect,
            self._push_back,
            board.sessions(),
        )
        self._buckets = board.buckets()
        self._ring = AccessRing()
        self._security = Security()
        self._rng = random.Random()
        self._tracing = TraceContext()
        self._recorder = CountingRecorder()
        self._director: Director | None = None
        self._served: tuple[str, ...] = ()
        self._server: ProxyServer | None = None
        self._shared: SharedLimits | None = None
        self._gossip = GossipLink(options.seat, time.monotonic)
        self._caches = CacheLink(self._tell_tips)
        self._ending: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._closed = asyncio.Event()
        self._channel = Channel(decode_to_worker, self._received, self._orphaned)

    async def run(self) -> None:
        """Serve until told to end or orphaned."""
        sock = socket.socket(fileno=self._options.channel)
        sock.setblocking(False)
        await self._loop.create_connection(lambda: self._channel, sock=sock)
        lag = self._loop.create_task(self._measure_lag())
        reports = self._loop.create_task(self._report_for_ever())
        await self._over.wait()
        lag.cancel()
        reports.cancel()
        if self._shared is not None:
            await self._shared.close()
        self._gossip.close()
        self._report()
        self._channel.close()
        try:
            async with asyncio.timeout(1.0):
                await self._closed.wait()  # what was queued has been sent
        except TimeoutError:
            return

    # --- what control says ---------------------------------------------------------------

    def _received(self, message: Any) -> None:
        match message:
            case SnapshotUpdate():
                self._take_snapshot(message)
            case HostStates(hosts=hosts):
                for host in hosts:
                    self._take_host(host)
            case Models(body=body, names=names):
                self._served = names
                self._know_models()
                if self._server is not None:
                    self._server.set_models(body)
            case KeySets(sets=sets):
                self._take_key_sets(sets)
            case CachesChanged():
                self._caches.heed(message)
            case _:
                self._obey(message)

    def _obey(self, message: Any) -> None:
        """What an operator wants of the worker."""
        match message:
            case Announce(on=on):
                if self._server is not None:
                    self._server.draining = on
            case Drain(timeout=timeout):
                self._end(timeout, "the router is shutting down")
            case AbortAll(reason=reason):
                self._abort(reason)
            case _:
                self._operate(message)

    def _operate(self, message: Any) -> None:
        """What an operator asks of the exchanges under way."""
        server = self._server
        match message:
            case Cancel(serial=serial, query=query):
                found = server is not None and server.cancel(serial)
                self._channel.send(CancelReply(query=query, found=found))
            case CancelAt(endpoint=endpoint, reason=reason):
                if server is not None:
                    overview.cancel_at(server, endpoint, reason)
            case RequestsQuery(query=query, endpoint=endpoint):
                rows = [] if server is None else overview.requests(server, MAX_LISTED, endpoint)
                self._channel.send(RequestsReply(query=query, requests=rows))
            case ForecastQuery() if self._director is not None:
                seen = overview.forecasts(self._director, message, time.monotonic())
                self._channel.send(ForecastReply(query=message.query, clusters=seen))

    def _take_snapshot(self, message: SnapshotUpdate) -> None:
        try:
            config = decode(message.config)
            snapshot = build(config, message.generation)
            security = self._security.with_material(message.material)
            if self._director is None:
                self._director = Director(
                    snapshot,
                    self._fleet,
                    self._rng,
                    slots=message.slots,
                    buckets=self._buckets,
                )
            else:
                self._director.update(snapshot, message.slots)
        except Exception as error:  # the last good snapshot stays in force, whatever this was
            self._channel.send(
                Ack(generation=message.generation, revision=message.revision, error=repr(error))
            )
            return
        self._security = security
        self._know_models()
        self._caches.follow(self._director)
        self._gossip.follow(self._director, beyond=beyond(config) is not None)
        logged = filtered(self._ring.append, config.access_log, self._rng)
        self._recorder.log = None if config.access_log.path == "off" else logged
        if self._server is None:
            self._server = ProxyServer(
                self._director, self._recorder, clock=time.monotonic, wall=time.time
            )
            self._security.follow(snapshot, self._server)
            self._opening = self._loop.create_task(self._open(message))
            self._shared = follow(config.redis, None, self._server)
        else:
            self._shared = follow(config.redis, self._shared, self._server)
            self._security.follow(snapshot, self._server)
            self._channel.send(Ack(generation=message.generation, revision=message.revision))
        self._server.log_fields = fields_for(config.access_log)
        self._server.logs_prefixes = config.access_log.prefix != "off"
        if self._tracing != config.trace:  # the same policy goes on with its salt
            self._tracing = config.trace
            self._server.tracing = None if config.trace.usual else Tracing(config.trace)
        self._server.explainer = Explainer(message.explain_to) if message.explain_to else None

    def _know_models(self) -> None:
        if self._director is not None:
            self._recorder.know_models(self._director.snapshot.models() + self._served)

    async def _open(self, first: SnapshotUpdate) -> None:
        assert self._server is not None
        try:
            for fd, door in zip(self._options.listen, self._security.doors, strict=True):
                await self._server.listen(socket.socket(fileno=fd), door)
        except OSError as error:
            self._channel.send(
                Ack(generation=first.generation, revision=first.revision, error=str(error))
            )
            return
        # What exists now lives as long as the process: keep the collector away from it.
        gc.collect()
        gc.freeze()
        self._channel.send(Ack(generation=first.generation, revision=first.revision))

    def _take_host(self, host: HostUpdate) -> None:
        id_ = EndpointId(host.id)
        known = self._fleet.hosts.get(id_)
        if known is None:
            return
        self._fleet.set_admin(id_, AdminState(host.admin))
        self._fleet.set_health(id_, host.healthy)
        self._fleet.set_ejected(id_, host.ejected)
        self._fleet.set_weight(id_, known.endpoint.weight if host.weight is None else host.weight)
        if host.pushed_until > time.monotonic():
            self._fleet.set_pushed(id_, host.pushed_until)
        self._fleet.set_load(id_, host.load)

    def _take_key_sets(self, sets: dict[str, bytes]) -> None:
        self._security.take_key_sets(sets)
        if self._director is not None and self._server is not None:
            self._security.follow(self._director.snapshot, self._server)

    # --- ends ----------------------------------------------------------------------------

    def _orphaned(self) -> None:
        self._closed.set()
        self._end(ORPHAN_GRACE, "the router is shutting down")

    def _end(self, timeout: float, reason: str) -> None:
        if self._ending is None:
            self._ending = self._loop.create_task(self._drain(timeout, reason))

    def _abort(self, reason: str) -> None:
        if self._server is not None:
            self._server.close_listeners()
            self._server.abort_all(reason)
        if self._ending is None:
            self._end(1.0, reason)

    async def _drain(self, timeout: float, reason: str) -> None:
        server = self._server
        if server is not None:
            server.close_listeners()
            server.drain()
            if not await server.drained(timeout):
                server.abort_all(reason)
                await server.drained(1.0)
            server.director.limiter.flush(server.clock())
        self._over.set()

    # --- what it reports -----------------------------------------------------------------

    def _suspect(self, id_: EndpointId, detector: Detector) -> None:
        self._channel.send(Suspected(id=id_, detector=detector))

    def _push_back(self, id_: EndpointId, until: float) -> None:
        self._channel.send(PushedBack(id=id_, until=until))

    def _tell_tips(self, message: Message) -> bool:
        if self._channel.backlog >= MAX_CHANNEL_BACKLOG:
            return False
        self._channel.send(message)
        return True

    async def _report_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._options.report_interval)
            self._fleet.prune()
            self._fleet.look(time.monotonic())
            self._gossip.look()
            self._report()

    def _report(self) -> None:
        if self._server is not None:
            self._server.journal.settle()
            self._server.director.limiter.flush(self._server.clock())
        if self._channel.backlog < MAX_CHANNEL_BACKLOG:
            if lines := self._ring.take():
                self._channel.send(AccessLines(data=lines))
            self._channel.send(StatsReport(totals=self._totals()))

    def _totals(self) -> Totals:
        totals = self._recorder.totals()
        totals.counters["access_log_dropped_total"] = {(): self._ring.dropped}
        if self._director is None or self._server is None:
            return totals
        in_flight: dict[Labels, float] = {}
        outcomes: dict[Labels, float] = {}
        first_bytes: dict[Labels, float] = {}
        first_byte_seconds: dict[Labels, float] = {}
        for host in (*self._fleet.hosts.values(), *self._fleet.leaving.values()):
            labels = (host.endpoint.cluster, host.endpoint.address)
            in_flight[labels] = host.in_flight
            first_bytes[labels] = host.first_bytes
            first_byte_seconds[labels] = host.first_byte_seconds
            for outcome, count in zip(Outcome, host.outcomes, strict=True):
                if count:
                    outcomes[*labels, outcome.name.lower()] = count
        totals.gauges["endpoint_in_flight"] = in_flight
        totals.counters["endpoint_requests_total"] = outcomes
        totals.counters["endpoint_first_bytes_total"] = first_bytes
        totals.counters["endpoint_first_byte_seconds_total"] = first_byte_seconds
        places = tuple(self._director.all_places())
        add_queues(totals, places)
        add_faults(totals, self._director.fault_states)
        add_fallbacks(totals, self._director.steps)
        add_retries(totals, ((cluster, place.budget) for cluster, _, place in places))
        add_hedges(totals, ((cluster, place.hedges) for cluster, _, place in places))
        add_mirrors(totals, self._director.mirrors)
        if self._shared is not None:
            self._shared.add_to(totals)
        add_limits(totals, self._director.limiter, self._buckets.forgotten)
        counts = {n: self._director.places(n).sessions for n in self._director.snapshot.clusters}
        add_sessions(totals, counts, self._fleet.sessions.forgotten)
        clusters = self._director.snapshot.clusters
        memories = [(name, self._fleet.memory(name)) for name in clusters]
        add_prefixes(totals, memories)
        add_forecasts(totals, memories, self._fleet.hosts, time.monotonic())
        add_gossip(totals, self._gossip.gossip, self._gossip.missed)
        add_tips(totals, self._caches.told, self._caches.kept_back)
        totals.gauges["buffered_bytes"] = {(): self._server.buffered}
        return totals

    async def _measure_lag(self) -> None:
        while True:
            due = time.monotonic() + LAG_INTERVAL
            await asyncio.sleep(LAG_INTERVAL)
            self._recorder.lag.observe(max(0.0, time.monotonic() - due))


async def _main(options: WorkerOptions) -> None:
    board = Board(options.board, options.rows, options.columns, options.words)
    await Worker(options, board).run()


def main(argument: str) -> None:
    """Run a worker with options as JSON, as ``WorkerProcess.spawn`` writes them.

    Raises:
        SystemExit: the package has been replaced under a router that runs.
    """
    # First of all: another version's options may not even be read.
    version = msgspec.json.decode(argument).get("version")
    if version != VERSION:
        raise SystemExit(
            f"warmpath: a worker of version {VERSION} cannot serve a router of version {version}: "
            "the package was replaced while it ran. Restart the router."
        )
    options = msgspec.json.decode(argument, type=WorkerOptions)
    # Signals to the whole group or service are for control, which then tells us.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Collections walk every live object while streams wait: let them be rare.
    gc.set_threshold(50_000, 20, 50)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(options))


if __name__ == "__main__":
    main(sys.argv[1])

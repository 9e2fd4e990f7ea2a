"""The composition root: the only place that wires control, admin and telemetry together.

``serve`` runs the control process from start to end. Signals: SIGTERM drains (readiness fails,
``drain.min_drain`` of further accepting, listeners close, streams finish, ``drain.timeout`` at
most), SIGINT does so without the wait and with a short limit, a second one of either ends
everything now; SIGHUP reloads; SIGUSR1 reopens the access log.
"""

import asyncio
import os
import secrets
import signal
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import msgspec
from aiohttp import web

from router.admin.access import UnsafeBind, require_safe_bind
from router.admin.app import admin_app, health_app
from router.config.accesslog import AccessLog
from router.config.findings import ConfigError, Finding
from router.config.references import address_clashes
from router.config.schema import Admin, Config
from router.config.tls_material import TlsFault, read_server, server_context
from router.config.units import Address
from router.control.config_watch import ConfigWatch
from router.control.descriptors import FEW, raise_limit
from router.control.notify import notify
from router.control.plane import ControlPlane
from router.control.slots import BoardFull
from router.control.sockets import AddressInUse, ReservedAddress
from router.control.store import ConfigStore
from router.control.supervisor import StartFailed
from router.proxy.describe import describe
from router.telemetry.access_text import line_writer
from router.telemetry.access_writer import AccessWriter
from router.telemetry.accesslog import Line, json_line
from router.telemetry.logs import logger
from router.telemetry.prompt_names import salted

INTERRUPT_GRACE = 5.0
"""Seconds that streams have to end after Ctrl-C."""
ABORT_REASON = "the router is shutting down"


class CannotServe(Exception):
    """The router does not start; the message says why."""


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line sets over the configuration. None: as configured."""

    listen: str | None = None
    admin: str | None = None
    workers: int | None = None

    def apply(self, config: Config) -> Config:
        if self.listen is not None:
            first, *rest = config.listeners
            listener = msgspec.structs.replace(first, address=Address.parse(self.listen))
            config = msgspec.structs.replace(config, listeners=(listener, *rest))
        if self.admin is not None:
            admin = config.admin if config.admin is not None else Admin()
            admin = msgspec.structs.replace(admin, address=Address.parse(self.admin))
            config = msgspec.structs.replace(config, admin=admin)
        if self.workers is not None:
            config = msgspec.structs.replace(config, workers=self.workers)
        if self.listen is not None or self.admin is not None:
            clashes = [Finding(message=one.message) for one in address_clashes(config)]
            if clashes:
                raise ConfigError(clashes)
        return config


class Ending:
    """Which signal asked for the end, and that it was asked for twice."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.forced = asyncio.Event()
        self.interrupted = False

    def ask(self, signum: signal.Signals) -> None:
        if self.asked.is_set():
            self.forced.set()
        self.interrupted = signum is signal.SIGINT
        self.asked.set()


async def serve(
    read: Callable[[], Config],
    source: str,
    overrides: Overrides,
    say: Callable[[str], None],
    watch: ConfigWatch | None = None,
) -> None:
    """Run the router until a signal ends it.

    Args:
        read: reads the configuration from its source; raises ConfigError.
        source: what operators know that source by.
        overrides: from the command line.
        say: prints a line for whoever started the router.
        watch: whose ``read`` it is, if its files are to be watched.

    Raises:
        ConfigError: the configuration is not usable.
        CannotServe: anything else that prevents a start.
    """
    ending = Ending()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, ending.ask, signum)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    store = ConfigStore(lambda: overrides.apply(read()), source)
    if (open_files := raise_limit()) < FEW:
        logger("control").warning("few files may be open: a stream takes two", limit=open_files)
    async with AsyncExitStack() as stack:
        try:
            plane, access = _make_plane(store, stack)
            # First the admin API: while the workers start, it can say what they wait for.
            pages = await _start_pages(plane, store.config, stack)
            if not await _started(plane, ending):
                return
        except (AddressInUse, UnsafeBind, StartFailed, BoardFull, TlsFault, OSError) as error:
            raise CannotServe(str(error)) from None
        stack.enter_context(_reload_signals(plane, access))
        if watch is not None:
            watching = asyncio.create_task(watch.run(lambda: _reload(plane)))
            stack.callback(watching.cancel)
        for listener, address in zip(store.config.listeners, plane.addresses, strict=True):
            scheme = "http" if listener.tls is None else "https"
            say(f"{listener.name}: {scheme}://{address}")
        for line in pages:
            say(line)
        notify("READY=1")
        await ending.asked.wait()
        notify("STOPPING=1")
        await _end(plane, ending)


def _make_plane(
    store: ConfigStore, stack: AsyncExitStack
) -> tuple[ControlPlane, AccessWriter | None]:
    config = store.config
    if config.admin is not None:
        require_safe_bind(config.admin)
    addresses: list[ReservedAddress] = []
    for listener in config.listeners:
        address = ReservedAddress(listener.address.host, listener.address.port)
        stack.callback(address.close)
        addresses.append(address)
    access = _access_writer(config.access_log, stack)
    plane = ControlPlane(store, addresses, workers=worker_count(config), access=access)
    stack.push_async_callback(plane.close)
    return plane, access


async def _started(plane: ControlPlane, ending: Ending) -> bool:
    """Start the workers; False if a signal asked for the end meanwhile."""
    start = asyncio.ensure_future(plane.start())
    asked = asyncio.ensure_future(ending.asked.wait())
    await asyncio.wait([start, asked], return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if not start.done():
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        return False
    await start
    return True


def worker_count(config: Config) -> int:
    """How many worker processes; ``auto``: one per core that this process may use."""
    if config.workers == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return config.workers


def _access_writer(settings: AccessLog, stack: AsyncExitStack) -> AccessWriter | None:
    pieces = settings.format.pieces()
    line: Line = line_writer(pieces) if pieces else json_line
    if settings.prefix == "salted":
        given = settings.salt
        secret = secrets.token_bytes(32) if given is None else given.reveal().encode("ascii")
        line = salted(line, secret)
    match settings.path:
        case "off":
            return None
        case "stdout":
            writer = AccessWriter(stream=sys.stdout.buffer, line=line)
        case "stderr":
            writer = AccessWriter(stream=sys.stderr.buffer, line=line)
        case path:
            try:
                writer = AccessWriter(Path(path), line=line)
            except OSError as error:
                raise CannotServe(f"access_log.path {path}: {error.strerror}") from None
    stack.callback(writer.close)
    return writer


async def _start_pages(plane: ControlPlane, config: Config, stack: AsyncExitStack) -> list[str]:
    """Listen for the admin API and the scrapers; returns lines that say where."""
    lines: list[str] = []
    if config.admin is not None:
        app, tls = admin_app(plane, describe), config.admin.tls
        context = None if tls is None else server_context(read_server(tls))
        plane.certificates.also(context)
        lines.append("admin: " + await _listen(app, config.admin.address, stack, context))
    if config.metrics is not None:
        where = await _listen(health_app(plane), config.metrics.address, stack)
        lines.append("metrics: " + where)
    return lines


async def _listen(
    app: web.Application,
    address: Address,
    stack: AsyncExitStack,
    context: ssl.SSLContext | None = None,
) -> str:
    # Open pages keep connections; they need not be waited for. A page that leaves ends its chat.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, handler_cancellation=True)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, address.host, address.port, ssl_context=context)
    try:
        await site.start()
    except OSError as error:
        raise AddressInUse(f"cannot listen on {address}: {error.strerror}") from None
    host, port = runner.addresses[0][:2]
    scheme = "http" if context is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


@contextmanager
def _reload_signals(plane: ControlPlane, access: AccessWriter | None) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(plane))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def reopen() -> None:
        if access is not None:
            access.reopen()

    loop.add_signal_handler(signal.SIGHUP, reload)
    loop.add_signal_handler(signal.SIGUSR1, reopen)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def _reload(plane: ControlPlane) -> None:
    log = logger("reload")
    try:
        await plane.reload()
    except (ConfigError, BoardFull) as error:
        log.error("reload refused, the last good configuration stays", error=str(error))


async def _end(plane: ControlPlane, ending: Ending) -> None:
    """Drain as the configuration says, or at once if asked again."""
    drain = plane.store.config.drain
    log = logger("shutdown")
    wait = 0.0 if ending.interrupted else float(drain.min_drain)
    timeout = min(float(drain.timeout), INTERRUPT_GRACE if ending.interrupted else 1e9)
    log.info("draining", min_drain=wait, timeout=timeout)
    plane.fail_readiness(True, for_good=True)
    gentle = asyncio.ensure_future(_drain(plane, wait, timeout))
    forced = asyncio.ensure_future(ending.forced.wait())
    done, _ = await asyncio.wait([gentle, forced], return_when=asyncio.FIRST_COMPLETED)
    if gentle not in done:
        log.warning("ending at once")
        gentle.cancel()
        await asyncio.gather(gentle, return_exceptions=True)
        await plane.supervisor.abort(ABORT_REASON)
    forced.cancel()
    await asyncio.gather(gentle, forced, return_exceptions=True)


async def _drain(plane: ControlPlane, wait: float, timeout: float) -> None:
    await asyncio.sleep(wait)
    await plane.supervisor.stop(timeout)

"""Certificates and keys on their way from files to workers.

Control alone reads the files, when a configuration is loaded and when one of them changes, and
workers get them as bytes: a worker needs no access to them, and all of them change together.
"""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

from router.config.findings import ConfigError, Finding, render
from router.config.schema import Admin, Config
from router.config.tls_material import (
    TlsFault,
    load_pair,
    read_server,
    read_upstream,
    server_files,
    upstream_files,
)
from router.control.discovery.changes import Changes
from router.control.journal import Tell, nobody
from router.control.messages import Material
from router.core.access.tenants import digest
from router.telemetry.logs import logger

INTERVAL = 1.0
"""Seconds between two looks at the files."""


def read_material(config: Config) -> Material:
    """Read all that the workers need.

    Raises:
        ConfigError: a file cannot be used.
    """
    findings: list[Finding] = []
    listeners, clusters = [], {}
    for index, listener in enumerate(config.listeners):
        try:
            listeners.append(None if listener.tls is None else read_server(listener.tls))
        except TlsFault as fault:
            path = render(("listeners", index, "tls", *fault.path))
            findings.append(Finding(path=path, message=str(fault)))
    for index, cluster in enumerate(config.clusters):
        try:
            if cluster.tls is not None:
                clusters[cluster.name] = read_upstream(cluster.tls)
        except TlsFault as fault:
            path = render(("clusters", index, "tls", *fault.path))
            findings.append(Finding(path=path, message=str(fault)))
    if findings:
        raise ConfigError(findings)
    return Material(listeners=tuple(listeners), clusters=clusters)


def files_of_tls(config: Config) -> list[Path]:
    """Every file that a TLS section names, the admin API's too."""
    names: list[str] = []
    servers = [listener.tls for listener in config.listeners]
    if config.admin is not None:
        servers.append(config.admin.tls)
    for server in servers:
        names += () if server is None else server_files(server)
    for cluster in config.clusters:
        names += () if cluster.tls is None else upstream_files(cluster.tls)
    return [Path(name) for name in dict.fromkeys(names)]


class MaterialWatch:
    """Notices that a certificate or key was renewed.

    Args:
        config: the one in force.
        changed: takes what the workers need after each change, when the files stand still.
        tell: told of each, and of what could not be used.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        changed: Callable[[Material], None],
        interval: float = INTERVAL,
        tell: Tell = nobody,
    ) -> None:
        self._tell = tell
        self._config = config
        self._changed = changed
        self._interval = interval
        self._changes = Changes(lambda: files_of_tls(config()))
        self._admin: ssl.SSLContext | None = None
        self._task: asyncio.Task[None] | None = None
        self._log = logger("certificates")

    def also(self, context: ssl.SSLContext | None) -> None:
        """Renew the admin API's certificate too; handshakes from then on show the new one."""
        self._admin = context

    def _renew_admin(self) -> None:
        admin = self._config().admin
        if self._admin is not None and admin is not None and admin.tls is not None:
            load_pair(self._admin, read_server(admin.tls).pairs[0])

    def mark(self) -> None:
        """Take the files as they are for known; to be called before they are read."""
        self._changes.mark()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            if not files_of_tls(self._config()) or not await self._changes.settled():
                continue
            self.mark()
            try:
                material = await asyncio.to_thread(read_material, self._config())
                self._renew_admin()
            except (ConfigError, TlsFault) as error:
                self._log.error("the new files cannot be used, the last stay", error=str(error))
                self._tell("certificate", state="refused", error=str(error))
            else:
                self._changed(material)
                self._log.info("certificates renewed")
                self._tell("certificate", state="renewed")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def token_digests(admin: Admin | None) -> tuple[bytes, ...]:
    """Workers are to recognise the admin API's tokens, of any role, not to know them."""
    if admin is None:
        return ()
    tokens = [token.token for token in admin.tokens]
    if admin.token is not None:
        tokens.append(admin.token)
    return tuple(digest(token.reveal().encode()) for token in tokens)

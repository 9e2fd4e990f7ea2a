"""What a worker knows of credentials and certificates, and how it puts that in force.

Contexts are made before a snapshot is taken, so that material which does not work refuses it; the
doors are told afterwards. What did not change is not made again: discovery alone may bring a
snapshot every second.
"""

import ssl
import time
from typing import TYPE_CHECKING

from router.config.tls_material import ServerPem, UpstreamPem, client_context, server_context
from router.control.messages import Material
from router.core.snapshot import Snapshot
from router.proxy.door import Door
from router.proxy.engine_tls import EngineTls
from router.proxy.tokens import TokenReader

if TYPE_CHECKING:
    from router.proxy.server import ProxyServer


class Security:
    """Doors, contexts and key sets of one worker.

    Attributes:
        doors: one for each listener, in order; they stay the same objects for good.
    """

    def __init__(self) -> None:
        self.doors: list[Door] = []
        self._listeners: tuple[tuple[ServerPem | None, ssl.SSLContext | None], ...] = ()
        self._engines: dict[str, tuple[UpstreamPem, ssl.SSLContext]] = {}
        self._key_sets: dict[str, bytes] = {}

    def with_material(self, material: Material) -> "Security":
        """The same with these certificates.

        Raises:
            ssl.SSLError: they cannot be used.
        """
        new = Security()
        new.doors = self.doors
        new._key_sets = self._key_sets
        known = {pem: context for pem, context in self._listeners if pem is not None}
        new._listeners = tuple(
            (pem, None if pem is None else known.get(pem) or server_context(pem))
            for pem in material.listeners
        )
        for name, pem in material.clusters.items():
            before = self._engines.get(name)
            same = before is not None and before[0] == pem
            new._engines[name] = before if before and same else (pem, client_context(pem))
        return new

    def take_key_sets(self, sets: dict[str, bytes]) -> None:
        """The keys of token issuers; to be followed."""
        self._key_sets = sets

    def follow(self, snapshot: Snapshot, server: "ProxyServer") -> None:
        """Put a snapshot's rules in force, for connections that are open too."""
        access = snapshot.access
        tokens = None
        if access is not None and snapshot.issuers:
            access.forget()
            tokens = TokenReader(snapshot.issuers, access.tenants, self._key_sets, time.time)
        for number, policy in enumerate(snapshot.listeners):
            context = self._listeners[number][1] if number < len(self._listeners) else None
            if number < len(self.doors):
                self.doors[number].follow(policy, access, tokens, context)
            else:
                self.doors.append(Door(policy, access, tokens, context, time.time))
        names = {
            name: None if cluster.tls is None else cluster.tls.server_name
            for name, cluster in snapshot.clusters.items()
        }
        server.contexts = {
            name: EngineTls(context, names.get(name))
            for name, (_, context) in self._engines.items()
        }

    def __repr__(self) -> str:
        return f"<Security {self.doors!r} engines={list(self._engines)}>"

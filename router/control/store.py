"""The configuration in force, its generation, and candidates for the next.

Proposing reads, validates and builds; nothing changes before :meth:`ConfigStore.accept`. What can
only change with a restart (sockets and processes) keeps its running value, and the reload says so.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from router.config.build import build
from router.config.findings import ConfigError, Finding
from router.config.schema import Config, redacted
from router.control.differences import differences
from router.core.snapshot import Snapshot

STATIC_FIELDS = ("workers", "metrics", "access_log")


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that may be accepted.

    ``changes``: lines of what is different; ``needs_restart``: those that do not come in force.
    """

    config: Config
    snapshot: Snapshot
    changes: tuple[str, ...]
    needs_restart: tuple[str, ...]


class ConfigStore:
    """Holds one accepted configuration, generation 1 at first.

    Args:
        read: reads the configuration from its source; raises ConfigError.
        source: where that is, for operators.

    Raises:
        ConfigError: the first configuration is not usable.
    """

    def __init__(self, read: Callable[[], Config], source: str) -> None:
        self._read = read
        self.source = source
        self.config = read()
        self.generation = 1
        self.snapshot = build(self.config, 1)
        self.last_error: tuple[Finding, ...] = ()

    def propose(self) -> Proposal:
        """Read again. May run in a thread.

        Raises:
            ConfigError: not usable; also kept as ``last_error`` until the next good one.
        """
        try:
            fresh = self._read()
            config = _as_running(fresh, self.config)
            snapshot = build(config, self.generation + 1)
        except ConfigError as error:
            self.last_error = error.findings
            raise
        return Proposal(
            config=config,
            snapshot=snapshot,
            changes=tuple(differences(self.plain(), redacted(config))),
            needs_restart=tuple(differences(redacted(config), redacted(fresh))),
        )

    def accept(self, proposal: Proposal) -> None:
        self.config = proposal.config
        self.snapshot = proposal.snapshot
        self.generation = proposal.snapshot.generation
        self.last_error = ()

    def plain(self) -> Any:
        """The configuration as plain data with secrets hidden."""
        return redacted(self.config)

    def __repr__(self) -> str:
        return f"<ConfigStore {self.source} generation={self.generation}>"


def _as_running(fresh: Config, running: Config) -> Config:
    """The fresh configuration with what only a restart can change as it is."""
    kept = {name: getattr(running, name) for name in STATIC_FIELDS}
    if _places(fresh) != _places(running):
        kept["listeners"] = running.listeners
    admin = fresh.admin
    if admin is None or running.admin is None:
        kept["admin"] = running.admin
    elif (admin.address, admin.tls) != (running.admin.address, running.admin.tls):
        kept["admin"] = msgspec.structs.replace(
            admin, address=running.admin.address, tls=running.admin.tls
        )
    return msgspec.structs.replace(fresh, **kept)


def _places(config: Config) -> list[tuple[str, str, bool]]:
    """What a worker opens once: by name, address, and whether it speaks TLS."""
    return [(one.name, one.address, one.tls is not None) for one in config.listeners]

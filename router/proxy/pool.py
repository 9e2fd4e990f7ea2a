"""Kept connections to one endpoint, the most recently used first.

Engines close a kept connection after a while (uvicorn, which serves most of them, after 5 s), and
a request sent into that close is lost. So a connection is given up before, and what still goes
wrong is mended by the upstream connection itself, see ``upstream``.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from router.proxy.upstream import Upstream

IDLE_TIMEOUT = 4.0
"""Seconds that an unused connection is kept; below uvicorn's ``timeout_keep_alive`` of 5."""

MAX_IDLE: Final = 512
"""Unused connections kept per endpoint and worker."""


class Pool:
    __slots__ = ("idle", "max_idle")

    def __init__(self, max_idle: int = MAX_IDLE) -> None:
        self.idle: list[Upstream] = []
        self.max_idle = max_idle

    def take(self) -> "Upstream | None":
        """A usable connection; the caller has it for itself."""
        idle = self.idle
        while idle:
            upstream = idle.pop()
            transport = upstream.transport
            if transport is not None and not transport.is_closing():
                return upstream
            upstream.close()
        return None

    def put(self, upstream: "Upstream") -> bool:
        """Keep a connection; False if there are enough."""
        idle = self.idle
        if len(idle) >= self.max_idle:
            return False
        idle.append(upstream)
        return True

    def remove(self, upstream: "Upstream") -> None:
        """The connection was lost or has been idle for too long."""
        if upstream in self.idle:
            self.idle.remove(upstream)

    def clear(self) -> None:
        """Close all that is kept."""
        idle, self.idle = self.idle, []
        for upstream in idle:
            upstream.close()

    def __repr__(self) -> str:
        return f"<Pool idle={len(self.idle)}/{self.max_idle}>"

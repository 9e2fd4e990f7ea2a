"""How connections to the engines of one cluster are encrypted."""

import ssl
from typing import Any

HANDSHAKE_TIMEOUT = 10.0
"""Seconds; the route's connect time-out, which covers the handshake, is mostly shorter."""


class EngineTls:
    """A cluster's context, and the name that its engines must prove to have.

    Args:
        server_name: None: each endpoint's own host.
    """

    __slots__ = ("context", "server_name")

    def __init__(self, context: ssl.SSLContext, server_name: str | None) -> None:
        self.context = context
        self.server_name = server_name

    def options(self, host: str) -> dict[str, Any]:
        """Arguments for ``create_connection``."""
        return {
            "ssl": self.context,
            "server_hostname": self.server_name or host,
            "ssl_handshake_timeout": HANDSHAKE_TIMEOUT,
        }

    def __repr__(self) -> str:
        return f"<EngineTls {self.server_name}>"

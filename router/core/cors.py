"""Cross-origin requests, as Envoy's cors filter answers them.

A preflight has neither body nor credentials, so a route is chosen for it by what it does have: the
first with a policy that allows the origin, and whose host, path and method would take the request
that is asked about. Every other response of such a route says who may read it. What an engine says
of that itself is removed: one policy must hold.
"""

import msgspec

from router.core.matching import StringMatch
from router.core.model import LlmRequest

PREFIX = b"access-control-"


class Cors(msgspec.Struct, frozen=True, kw_only=True):
    """Who may call from a browser. Lists are as they stand in their headers.

    ``origins``: an exact ``*`` allows all. ``max_age`` in seconds, None to leave it out.
    """

    origins: tuple[StringMatch, ...]
    methods: str = ""
    headers: str = ""
    expose: str = ""
    max_age: int | None = None
    credentials: bool = False

    def allows(self, origin: str) -> bool:
        return any(one.matches("*") or one.matches(origin) for one in self.origins)

    def lines(self, request: LlmRequest) -> list[bytes]:
        """Header lines for a response; none if the request is of no origin that is allowed."""
        origin = request.header(b"origin")
        if origin is None or not self.allows(origin.decode("latin-1")):
            return []
        lines = self._who(origin)
        if self.expose:
            lines.append(b"access-control-expose-headers: " + self.expose.encode("latin-1"))
        return lines

    def preflight(self, request: LlmRequest) -> list[bytes]:
        """Header lines that answer a preflight; none if the origin is not allowed."""
        origin = request.header(b"origin")
        if origin is None or not self.allows(origin.decode("latin-1")):
            return []
        lines = self._who(origin)
        for name, value in (
            ("access-control-allow-methods", self.methods),
            ("access-control-allow-headers", self.headers),
            ("access-control-max-age", "" if self.max_age is None else str(self.max_age)),
        ):
            if value:
                lines.append(f"{name}: {value}".encode("latin-1"))
        return lines

    def _who(self, origin: bytes) -> list[bytes]:
        lines = [b"access-control-allow-origin: " + origin]
        if self.credentials:
            lines.append(b"access-control-allow-credentials: true")
        lines.append(b"vary: origin")  # or a cache would give it to another origin
        return lines


def requested_method(request: LlmRequest) -> str | None:
    """The method that a preflight asks about; None if the request is none."""
    if request.method != "OPTIONS" or request.header(b"origin") is None:
        return None
    method = request.header(b"access-control-request-method")
    return method.decode("latin-1") if method else None

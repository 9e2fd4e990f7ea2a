"""What a route does to requests and responses besides choosing an endpoint.

All of it is put together when the configuration is built, for each destination of a route, so
that a request needs one look to know that nothing is to be done. Rewrites happen on the way to the
engine, in Envoy's order: the destination's header edits, the route's, the host, the path.
"""

import re
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from router.core.cors import PREFIX, Cors
from router.core.header_edits import Facts, HeaderEdits, field_name
from router.core.model import LlmRequest


class PathRewrite(msgspec.Struct, frozen=True, kw_only=True):
    """Another path. The first ``strip`` characters (None: all) give way to ``prefix``; or each
    match of ``pattern`` to ``substitution``, which is a template of :mod:`re`."""

    prefix: str = ""
    strip: int | None = 0
    pattern: str = ""
    substitution: str = ""

    def apply(self, path: str) -> str:
        """The new path; it has no query."""
        if self.pattern:
            path = re.sub(self.pattern, self.substitution, path)
        else:
            path = self.prefix + ("" if self.strip is None else path[self.strip :])
        return path if path.startswith("/") else "/" + path

    def target(self, target: bytes) -> bytes:
        """The new request target; the query stays."""
        path, mark, query = target.partition(b"?")
        return self.apply(path.decode("latin-1")).encode("latin-1") + mark + query


class Actions(msgspec.Struct, frozen=True, kw_only=True):
    """What is done to a request that goes to one destination, and to its response.

    ``model``: what the engine is told instead of the body's own.
    """

    request: tuple[HeaderEdits, ...] = ()
    response: tuple[HeaderEdits, ...] = ()
    path: PathRewrite | None = None
    host: str | None = None
    model: str | None = None
    cors: Cors | None = None

    @property
    def edits_head(self) -> bool:
        """Whether the request's head is changed."""
        return bool(self.request) or self.path is not None or self.host is not None

    def request_lines(self, lines: list[bytes], facts: Facts) -> list[bytes]:
        """The header lines that the engine gets, out of those that it would get."""
        for edits in self.request:
            lines = edits.apply(lines, facts)
        if self.host is not None:
            lines = _replaced(lines, b"x-envoy-original-host", facts.request.authority)
            lines = _replaced(lines, b"host", self.host)
        if self.path is not None:
            was = facts.request.target.decode("latin-1")
            lines = _replaced(lines, b"x-envoy-original-path", was)
        return lines

    def response_lines(self, lines: list[bytes], facts: Facts) -> list[bytes]:
        """The header lines that the client gets, out of the engine's."""
        if self.cors is not None:
            lines = [line for line in lines if not field_name(line).startswith(PREFIX)]
            lines += self.cors.lines(facts.request)
        for edits in self.response:
            lines = edits.apply(lines, facts)
        return lines


UNCHANGED = Actions()


def named(actions: Actions | None, model: str | None) -> Actions:
    """The actions, with the model's name for the engine if they give it none."""
    if actions is None:
        return Actions(model=model)
    return actions if actions.model is not None else msgspec.structs.replace(actions, model=model)


def _replaced(lines: list[bytes], name: bytes, value: str) -> list[bytes]:
    kept = [line for line in lines if field_name(line) != name]
    return [*kept, name + b": " + value.encode("latin-1", "replace")]


# --- answers without an engine ----------------------------------------------------------------


class Redirect(msgspec.Struct, frozen=True, kw_only=True):
    """Sends the client elsewhere. What is None stays as it was asked for.

    ``path`` takes the place of the whole path, and of the query if it has one of its own.
    """

    status: int = 301
    scheme: str | None = None
    host: str | None = None
    port: int | None = None
    path: str | None = None
    rewrite: PathRewrite | None = None
    strip_query: bool = False
    body: ClassVar[bytes] = b""

    def lines(self, request: LlmRequest) -> list[bytes]:
        return [b"location: " + self.location(request).encode("latin-1", "replace")]

    def location(self, request: LlmRequest) -> str:
        query = request.query
        path = request.path
        if self.path is not None:
            path = self.path
        elif self.rewrite is not None:
            path = self.rewrite.apply(path)
        if query and not self.strip_query and "?" not in path:
            path = f"{path}?{query}"
        authority = self._authority(request)
        if not authority:  # a client of HTTP/1.0 need not say whom it asks
            return path
        return f"{self.scheme or _scheme(request)}://{authority}{path}"

    def _authority(self, request: LlmRequest) -> str:
        """As Envoy: a port goes where it is replaced, or was the old scheme's own."""
        authority = self.host if self.host is not None else request.authority
        host, colon, port = authority.rpartition(":")
        if not colon or "]" in port:
            host, port = authority, ""
        if self.port is not None:
            return f"{host}:{self.port}"
        was = _scheme(request)
        if self.host is None and self.scheme not in (None, was) and port == _PORTS.get(was):
            return host
        return authority


_PORTS: Mapping[str, str] = {"http": "80", "https": "443"}


def _scheme(request: LlmRequest) -> str:
    said = request.header(b"x-forwarded-proto")
    first = b"" if said is None else said.partition(b",")[0].strip().lower()
    return first.decode() if first in (b"http", b"https") else request.scheme


class DirectResponse(msgspec.Struct, frozen=True, kw_only=True):
    """Always the same answer."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"

    def lines(self, request: LlmRequest) -> list[bytes]:
        return [b"content-type: " + self.content_type.encode("latin-1")] if self.body else []


class Preflight(msgspec.Struct, frozen=True):
    """What a browser asks before it sends a script's request."""

    cors: Cors
    status: ClassVar[int] = 200
    body: ClassVar[bytes] = b""

    def lines(self, request: LlmRequest) -> list[bytes]:
        return self.cors.preflight(request)


OwnAnswer = Redirect | DirectResponse | Preflight
"""Each has a status, a body, and the header lines for a request."""

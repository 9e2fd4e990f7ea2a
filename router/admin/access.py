"""Who may use the admin API.

On loopback everybody on the machine may, so two attacks through a browser must fail: a form or
script of another site (its requests cannot carry a JSON content type or our header without a
preflight, which is never granted) and DNS rebinding (its Host is a name, ours an address or
localhost). On any other address a bearer token is required, for everything but liveness and
readiness and the static page, which holds no data.
"""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from router.admin.respond import SAFE_HEADERS, AdminError
from router.control.journal import Tell, nobody
from router.telemetry.logs import logger

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPEN_PATHS = frozenset({"/livez", "/readyz", "/"})
OPEN_PREFIX = "/ui/"
HEADER = "x-warmpath-admin"
PREFLIGHTED_TYPES = frozenset({"application/json", "application/yaml", "application/x-yaml"})
READS = frozenset({"GET", "HEAD", "OPTIONS"})
QUESTIONS = frozenset({"/explain", "/validate", "/chat/completions"})
"""Calls with a body that change nothing; they are logged, and are no events."""

_log = logger("admin")


class UnsafeBind(ValueError):
    """The admin API would be open to the network without a token."""


def require_safe_bind(host: str, token: str | None) -> None:
    """Raises UnsafeBind unless ``host`` is loopback or there is a token."""
    if token is None and not _is_loopback(host):
        raise UnsafeBind(
            f"admin.address {host!r} is not loopback: set admin.token, or bind to 127.0.0.1"
        )


def guard(token: str | None, tell: Tell = nobody) -> Middleware:
    """A middleware that lets in whom the module's text says, and turns errors into answers.

    ``tell`` is told of every call that may have changed something, and of those refused.
    """
    expected = None if token is None else f"Bearer {token}".encode()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            _check(request, expected)
            answer = await handler(request)
        except AdminError as error:
            answer = error.answer()
        except web.HTTPException as error:
            answer = _plain(request, error).answer()
            if "Allow" in error.headers:
                answer.headers["Allow"] = error.headers["Allow"]
        except ConnectionError:
            raise  # the caller is gone: there is nobody to answer
        except Exception as error:
            _log.exception("admin request failed", path=request.path)
            answer = AdminError(500, f"internal error: {type(error).__name__}").answer()
        if request.method not in READS:
            call = {
                "method": request.method,
                "path": request.path,
                "status": answer.status,
                "remote": request.remote,
            }
            _log.info("admin", **call)
            if request.path not in QUESTIONS:
                tell("audit", **call)
        if not answer.prepared:
            for name, value in SAFE_HEADERS.items():
                answer.headers.setdefault(name, value)
        return answer

    return middleware


def _check(request: web.Request, expected: bytes | None) -> None:
    open_ = request.path in OPEN_PATHS or request.path.startswith(OPEN_PREFIX)
    if expected is not None and not open_:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, expected):
            raise AdminError(
                401, "a bearer token is required: see admin.token", code="unauthorized"
            )
    if expected is None and not _is_local_name(request.host):
        raise AdminError(
            403,
            f"Host {request.host!r} is not this machine's loopback; use its address or a token",
            code="host_not_allowed",
        )
    if request.method in READS or HEADER in request.headers:
        return
    if request.content_type not in PREFLIGHTED_TYPES:
        raise AdminError(
            403,
            f"send content-type application/json or a header {HEADER} with this request",
            code="cross_site",
        )


def _plain(request: web.Request, error: web.HTTPException) -> AdminError:
    if error.status == 404:
        return AdminError(404, f"no such path: {request.path}", code="not_found")
    if error.status == 405:
        allowed = error.headers.get("Allow", "")
        return AdminError(
            405,
            f"{request.method} is not allowed here; use {allowed}",
            code="method_not_allowed",
        )
    if error.status == 413:
        return AdminError(413, "the body is too large", code="request_too_large")
    return AdminError(error.status, error.reason or "error")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_local_name(authority: str) -> bool:
    """Whether a Host header is an address or localhost: nothing a foreign DNS could answer."""
    host = authority.rsplit(":", 1)[0] if not authority.endswith("]") else authority
    host = host.strip("[]").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

"""Who may use the admin API.

On loopback everybody on the machine may, so two attacks through a browser must fail: a form or
script of another site (its requests cannot carry a JSON content type or our header without a
preflight, which is never granted) and DNS rebinding (its Host is a name, ours an address or
localhost). On any other address a bearer token or a client certificate is required, a token for
everything but liveness and readiness and the static page, which holds no data. A token's role says
whether it may change anything.
"""

import ipaddress
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from router.admin.callers import ANYBODY, Caller, Callers, callers_in_force
from router.admin.respond import SAFE_HEADERS, AdminError
from router.config.schema import Admin
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

FOR_READERS = QUESTIONS - {"/chat/completions"}
"""What the role read may call besides; a chat takes the engines' time."""

_log = logger("admin")


class UnsafeBind(ValueError):
    """The admin API would be open to the network."""


def require_safe_bind(admin: Admin) -> None:
    """Raises UnsafeBind unless it is on loopback or callers have to show something.

    The command line may have changed the address after the configuration was checked.
    """
    if not admin.guarded and not _is_loopback(admin.address.host):
        raise UnsafeBind(
            f"admin.address {admin.address.host!r} is not loopback: set admin.token, or bind to "
            "127.0.0.1"
        )


def guard(admin: Callable[[], Admin | None], tell: Tell = nobody) -> Middleware:
    """A middleware that lets in whom the module's text says, and turns errors into answers.

    Args:
        admin: the section in force.
        tell: told of every call that may have changed something, and of those refused.
    """
    callers = callers_in_force(admin)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        caller = ANYBODY
        try:
            caller = _identify(request, callers())
            _check(request, caller)
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
                "caller": caller.name,
            }
            _log.info("admin", **call)
            if request.path not in QUESTIONS:
                tell("audit", **call)
        if not answer.prepared:
            for name, value in SAFE_HEADERS.items():
                answer.headers.setdefault(name, value)
        return answer

    return middleware


def _identify(request: web.Request, callers: Callers) -> Caller:
    """Who calls, so far as the path asks."""
    if not callers.admits(request.remote or "-"):
        raise AdminError(403, f"{request.remote} may not call: see admin.allow", code="address")
    if callers.tokens_needed:
        if request.path in OPEN_PATHS or request.path.startswith(OPEN_PREFIX):
            return ANYBODY
        found = callers.by_token(request.headers.get("Authorization", ""))
        if found is None:
            raise AdminError(
                401, "a bearer token is required: see admin.token", code="unauthorized"
            )
        return found
    if callers.certificates_needed:
        transport = request.transport
        return callers.by_certificate(
            None if transport is None else transport.get_extra_info("peercert")
        )
    if not _is_local_name(request.host):
        raise AdminError(
            403,
            f"Host {request.host!r} is not this machine's loopback; use its address or a token",
            code="host_not_allowed",
        )
    return ANYBODY


def _check(request: web.Request, caller: Caller) -> None:
    """Whether this caller may do that, and means to."""
    if caller.role != "operate" and not _only_asks(request):
        raise AdminError(
            403,
            f"{caller.name!r} has the role read: {request.method} {request.path} needs operate",
            code="role",
        )
    if request.method in READS or HEADER in request.headers:
        return
    if request.content_type not in PREFLIGHTED_TYPES:
        raise AdminError(
            403,
            f"send content-type application/json or a header {HEADER} with this request",
            code="cross_site",
        )


def _only_asks(request: web.Request) -> bool:
    return request.method in READS or request.path in FOR_READERS


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

"""The page's chat box: passes a request on to the router's own API port and the answer back.

The page may only talk to where it came from (its content security policy says so), and the API
port shall need no cross-origin headers. So these two paths carry the request over: it takes the
whole way of a client's request, through a worker, its routing and its limits, and the page sees
which endpoint answered and why. Where clients need a key, the page asks for one and
sends it along.
"""

from collections.abc import AsyncIterator, Mapping

import aiohttp
from aiohttp import web

from router.admin.respond import SAFE_HEADERS, AdminError
from router.control.plane import ControlPlane

MAX_CHATS = 32
"""Chats under way at one time: the page is for operators, load belongs on the API port."""
CONNECT_TIMEOUT = 5.0
PASSED_ON = ("content-type", "x-request-id", "x-warmpath-endpoint", "x-warmpath-reason")

_EVERYWHERE: Mapping[str, str] = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class ChatViews:
    """Handlers of ``POST /chat/completions`` and ``GET /chat/models``."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._session: aiohttp.ClientSession | None = None
        self._under_way = 0

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/chat/completions", self.completions),
            web.get("/chat/models", self.models),
        ]

    async def session(self, app: web.Application) -> AsyncIterator[None]:
        """A cleanup context: the connections live as long as the application."""
        # The time an answer may take is the route's business: see Timeouts.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
        connector = aiohttp.TCPConnector(limit=MAX_CHATS + 1)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._session:
            yield

    async def models(self, request: web.Request) -> web.StreamResponse:
        return await self._pass("GET", "/v1/models", request)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        if self._under_way >= MAX_CHATS:
            raise AdminError(
                429,
                f"{MAX_CHATS} chats are under way on this page; use the API port for load",
                code="too_many_chats",
            )
        self._under_way += 1
        try:
            return await self._pass("POST", "/v1/chat/completions", request)
        finally:
            self._under_way -= 1

    async def _pass(self, method: str, path: str, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        body = await request.read()
        headers = {"content-type": "application/json"} if body else {}
        if key := request.headers.get("x-api-key"):
            headers["x-api-key"] = key
        try:
            async with self._session.request(
                method,
                self._origin() + path,
                data=body or None,
                headers=headers,
                ssl=False,  # it is our own port, asked for by an address that no certificate names
            ) as answer:
                return await _relay(request, answer)
        except aiohttp.ClientConnectionResetError:
            raise  # the page has gone: leaving the block closes the way to the router
        except aiohttp.ClientError as error:
            raise AdminError(
                502, f"the API port did not answer: {error}", code="api_unreachable"
            ) from None

    def _origin(self) -> str:
        address = self._plane.addresses[0]
        host = _EVERYWHERE.get(address.host, address.host)
        scheme = "http" if self._plane.store.config.listeners[0].tls is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{address.port}"


async def _relay(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = dict(SAFE_HEADERS) | {
        name: answer.headers[name] for name in PASSED_ON if name in answer.headers
    }
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(request)
    try:
        async for piece in answer.content.iter_any():
            await response.write(piece)
    except aiohttp.ClientPayloadError:
        # A cut answer must look cut: ending it properly would pass it off as complete.
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response

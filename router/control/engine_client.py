"""Control's own HTTP requests to engines: probes, metrics pages, model lists.

One session for all, a new connection for each request: a probe is to learn whether the engine
accepts, and none of them is frequent. Answers are bounded, redirects are not followed, proxies of
the environment are not used: endpoints come from the configuration alone.

Requests under way are bounded too. Waiting for a turn is no part of a request's time-out, or a
few engines that hang would make all others look down.
"""

import asyncio
import ssl
from collections.abc import Mapping

import aiohttp
import msgspec

from router.config.tls_material import client_context
from router.control.messages import Material
from router.core.model import Endpoint
from router.core.snapshot import Snapshot

MAX_BODY = 8 * 1024 * 1024
MAX_CONNECTIONS = 256


class _Target(msgspec.Struct, frozen=True, kw_only=True):
    """How the engines of one cluster are spoken to."""

    context: ssl.SSLContext | None = None
    server_name: str | None = None
    headers: Mapping[str, str] = {}


_IN_THE_CLEAR = _Target()


class EngineUnreachable(Exception):
    """No complete answer; the message is one line for an operator."""


class EngineClient:
    """Use as an async context manager."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._turn = asyncio.Semaphore(MAX_CONNECTIONS)
        self._targets: dict[str, _Target] = {}
        self._material = Material()

    def follow(self, snapshot: Snapshot, material: Material) -> None:
        """Speak to the engines as this configuration says.

        Args:
            material: known to be usable.
        """
        before, self._material = self._material, material
        targets: dict[str, _Target] = {}
        for name, cluster in snapshot.clusters.items():
            pem = material.clusters.get(name)
            known = self._targets.get(name, _IN_THE_CLEAR)
            # A bundle of authorities takes tens of milliseconds to parse.
            same = pem == before.clusters.get(name)
            context = None if pem is None else known.context if same else client_context(pem)
            targets[name] = _Target(
                context=context,
                server_name=None if cluster.tls is None else cluster.tls.server_name,
                headers=_header(cluster.credential),
            )
        self._targets = targets

    async def __aenter__(self) -> "EngineClient":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            headers={"user-agent": "warmpath"},
            trust_env=False,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(
        self, endpoint: Endpoint, path: str, timeout: float, *, want_body: bool = True
    ) -> tuple[int, bytes]:
        """Status and body of a GET.

        Args:
            timeout: seconds for the whole answer.
            want_body: False: the body is empty.

        Raises:
            EngineUnreachable: no connection, no answer in time, or more than 8 MiB of it.
        """
        assert self._session is not None, "used outside of its context"
        target = self._targets.get(endpoint.cluster, _IN_THE_CLEAR)
        url = f"{'http' if target.context is None else 'https'}://{endpoint.address}{path}"
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            async with (
                self._turn,
                self._session.get(
                    url,
                    timeout=limit,
                    allow_redirects=False,
                    headers=target.headers,
                    ssl=True if target.context is None else target.context,
                    server_hostname=target.server_name,
                ) as response,
            ):
                body = await _bounded(response) if want_body else b""
                return response.status, body
        except TimeoutError:
            raise EngineUnreachable(f"no answer within {timeout:g}s") from None
        except aiohttp.ClientConnectorError as error:
            # Its text names the address again and, of plain connections too, "ssl:default".
            raise EngineUnreachable(
                f"cannot connect: {error.os_error.strerror or error.os_error}"
            ) from None
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise EngineUnreachable(str(error) or type(error).__name__) from None


def _header(line: bytes | None) -> dict[str, str]:
    if line is None:
        return {}
    name, _, value = line.decode("ascii").partition(": ")
    return {name: value}


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > MAX_BODY:
            raise EngineUnreachable(f"the answer is larger than {MAX_BODY} bytes")
        pieces.append(piece)
    return b"".join(pieces)

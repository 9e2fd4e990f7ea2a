"""Endpoints of a Kubernetes service: its EndpointSlices, listed once and then watched.

A list says everything as of one resource version; a watch tells what changed since. A watch that
ends, or breaks in the middle of a line, goes on from the version last seen. When the API server no
longer knows that version (410 Gone), everything is listed anew, and what is known stays until the
list is complete. The server is asked for bookmarks, which keep the version fresh, and to end a
watch after ``watch_timeout``: no connection that went dead stays unnoticed for longer.

The service account's token is read for each request, as the kubelet replaces it every hour.
"""

import asyncio
import os
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from router.config.discovery import KubernetesDiscovery
from router.control.discovery.answer import Answer, DiscoveryFailed
from router.control.discovery.slices import Event, Slice, SliceList, Status, merged

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 30.0
"""Seconds that a list, or the head of a watch, may take."""
GRACE = 15.0
"""Seconds beyond ``watch_timeout`` after which a silent watch is given up."""
PAGE = 500
MAX_SLICES = 10_000
MAX_BODY = 64 << 20
MAX_LINE = 8 << 20
SHORT = 1.0
"""Seconds; a watch that ends sooner and said nothing is a failure, or it would be a busy loop."""


class KubernetesSource:
    """Follows one service."""

    Spec = KubernetesDiscovery
    max_pause = 30.0

    def __init__(self, spec: KubernetesDiscovery, account: Path = ACCOUNT) -> None:
        self._spec = spec
        self._account = account
        self._session: aiohttp.ClientSession | None = None
        self._watch: _Watch | None = None
        self._slices: dict[str, Slice] | None = None
        self._version = ""
        self._forgotten = 0

    async def next(self) -> Answer:
        try:
            await self._step()
            while self._slices is None:
                await self._step()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            await self.close()
            text = str(error) or type(error).__name__
            raise DiscoveryFailed(f"{self._spec.service}: {text}") from None
        except msgspec.MsgspecError as error:
            await self.close()
            self._slices = None  # what was missed is not known
            raise DiscoveryFailed(f"{self._spec.service}: not an EndpointSlice: {error}") from None
        except DiscoveryFailed:
            await self.close()
            raise
        return Answer(endpoints=merged(self._slices, self._spec.port, self._spec.region))

    async def _step(self) -> None:
        """List, or open a watch, or wait until the watch says something."""
        if self._slices is None:
            await self._list()
        elif self._watch is None:
            await self._open_watch()
        else:
            await self._follow(self._watch)

    # --- list -------------------------------------------------------------------------------

    async def _list(self) -> None:
        listed: dict[str, Slice] = {}
        parameters = {"limit": str(PAGE)}
        while True:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                response = await self._get(parameters)
                async with response:
                    page = msgspec.json.decode(await _body(response), type=SliceList)
            listed.update((slice_.metadata.name, slice_) for slice_ in page.items)
            if len(listed) > MAX_SLICES:
                raise DiscoveryFailed(f"more than {MAX_SLICES} EndpointSlices")
            if not page.metadata.continue_:
                break
            parameters["continue"] = page.metadata.continue_
        self._slices = listed
        self._version = page.metadata.resource_version

    # --- watch ------------------------------------------------------------------------------

    async def _open_watch(self) -> None:
        patience = float(self._spec.watch_timeout)
        parameters = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(max(1, round(patience))),
        }
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                response = await self._get(parameters, silence=patience + GRACE)
        except _Gone as gone:
            self._forget(gone)
        else:
            self._watch = _Watch(response)

    def _forget(self, gone: "_Gone") -> None:
        """List anew, at once if that was not to no avail the last time."""
        self._slices = None
        self._forgotten += 1
        if self._forgotten > 1:
            raise gone

    async def _follow(self, watch: "_Watch") -> None:
        lines = await watch.lines()
        if not lines:
            self._hang_up()
            age = asyncio.get_running_loop().time() - watch.opened_at
            if not watch.spoke and age < min(SHORT, float(self._spec.watch_timeout) / 2):
                raise DiscoveryFailed(f"{self._spec.service}: the watch ended at once")
            return
        try:
            for line in lines:
                self._apply(msgspec.json.decode(line, type=Event))
        except _Gone as gone:
            self._hang_up()
            self._forget(gone)
        else:
            self._forgotten = 0

    def _apply(self, event: Event) -> None:
        assert self._slices is not None
        if event.type == "ERROR":
            status = msgspec.json.decode(event.object, type=Status)
            raise (_Gone if status.code == 410 else DiscoveryFailed)(
                f"{self._spec.service}: the watch ended: {status.message}"
            )
        slice_ = msgspec.json.decode(event.object, type=Slice)
        self._version = slice_.metadata.resource_version or self._version
        if event.type == "DELETED":
            self._slices.pop(slice_.metadata.name, None)
        elif event.type in ("ADDED", "MODIFIED"):
            self._slices[slice_.metadata.name] = slice_
            if len(self._slices) > MAX_SLICES:
                raise DiscoveryFailed(f"more than {MAX_SLICES} EndpointSlices")

    # --- HTTP -------------------------------------------------------------------------------

    async def _get(
        self, parameters: dict[str, str], silence: float = ANSWER_TIMEOUT
    ) -> aiohttp.ClientResponse:
        """Ask for the service's slices.

        Raises:
            DiscoveryFailed: the answer is not 200; ``_Gone`` for 410.
        """
        spec = self._spec
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=await asyncio.to_thread(self._tls)),
                trust_env=False,
            )
        namespace = spec.namespace or await asyncio.to_thread(self._read, "namespace")
        token = await asyncio.to_thread(self._token)
        response = await self._session.get(
            f"{self._server()}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
            params={"labelSelector": f"kubernetes.io/service-name={spec.service}", **parameters},
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_TIMEOUT, sock_read=silence
            ),
            allow_redirects=False,
        )
        if response.status == 200:
            return response
        async with response:
            said = await _message(response)
        hints = {
            401: "; is the token right?",
            403: f"; it needs list and watch of endpointslices in namespace {namespace}",
        }
        raise (_Gone if response.status == 410 else DiscoveryFailed)(
            f"{spec.service}: the API server answered {response.status}{said}"
            + hints.get(response.status, "")
        )

    def _server(self) -> str:
        if self._spec.server is not None:
            return self._spec.server.rstrip("/")
        host = os.environ.get("KUBERNETES_SERVICE_HOST")
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise DiscoveryFailed("not inside a Kubernetes cluster: give the API server's URL")
        return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"

    def _tls(self) -> ssl.SSLContext:
        ca = self._spec.ca_file
        if ca is None and self._spec.server is None:
            ca = str(self._account / "ca.crt")
        try:
            return ssl.create_default_context(cafile=ca)
        except OSError as error:
            raise DiscoveryFailed(f"cannot use the certificates in {ca}: {error}") from None

    def _token(self) -> str | None:
        if self._spec.token_file is not None:
            return _text(Path(self._spec.token_file))
        return None if self._spec.server is not None else self._read("token")

    def _read(self, name: str) -> str:
        return _text(self._account / name)

    def _hang_up(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    async def close(self) -> None:
        self._hang_up()
        if self._session is not None:
            await self._session.close()
            self._session = None

    def __repr__(self) -> str:
        return f"<KubernetesSource {self._spec.service} version={self._version!r}>"


class _Gone(DiscoveryFailed):
    """The API server no longer knows the version that was asked for."""


class _Watch:
    """The stream of a watch, cut into lines."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._rest = b""
        self.opened_at = asyncio.get_running_loop().time()
        self.spoke = False

    async def lines(self) -> list[bytes]:
        """Wait for whole lines; none at the end of the stream, whose cut last line is dropped."""
        while True:
            chunk = await self._response.content.readany()
            if not chunk:
                return []
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            if len(self._rest) > MAX_LINE:
                raise DiscoveryFailed(f"a line of the watch is longer than {MAX_LINE} bytes")
            if found := [line for line in whole if line.strip()]:
                self.spoke = True
                return found

    def close(self) -> None:
        self._response.close()


def _text(path: Path) -> str:
    """Raises DiscoveryFailed."""
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DiscoveryFailed(f"cannot read {path}: {error}") from None


async def _body(response: aiohttp.ClientResponse, limit: int = MAX_BODY) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        parts.append(chunk)
        size += len(chunk)
        if size > limit:
            raise DiscoveryFailed(f"the API server's answer is longer than {limit} bytes")
    return b"".join(parts)


async def _message(response: aiohttp.ClientResponse) -> str:
    """What an error answer says, as ``: text``; nothing if it is not a status."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            status: Any = msgspec.json.decode(await _body(response, 1 << 20), type=Status)
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError, DiscoveryFailed):
        return ""
    return f": {status.message[:300]}" if status.message else ""

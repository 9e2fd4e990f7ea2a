"""As much of a Kubernetes API server as lists and watches EndpointSlices, over real HTTP.

Slices are kept by name with one resource version for all, as in etcd; a watch is sent what
happened after the version it names. What can go wrong is switched on by the test.
"""

import asyncio
import json
import ssl
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

PATH = "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"


def endpoint(address: str, uid: str, **conditions: bool) -> dict[str, Any]:
    return {
        "addresses": [address],
        "conditions": {"ready": True, **conditions},
        "targetRef": {"kind": "Pod", "name": f"pod-{uid}", "uid": uid},
        "nodeName": "node-1",
        "zone": "zone-a",
    }


class ApiServer:
    """``page``: slices per page of a list. ``token``: what must be shown. ``status``: answered to
    everything. ``oldest``: versions before it are gone. ``requests``: the queries so far."""

    def __init__(self) -> None:
        self.version = 100
        self.slices: dict[str, dict[str, Any]] = {}
        self.events: list[tuple[int, bytes]] = []
        self.token: str | None = None
        self.status = 0
        self.oldest = 0
        self.page = 500
        self.delay = 0.0
        self.watches: list[web.StreamResponse] = []
        self.ended = 0
        self.requests: list[dict[str, str]] = []
        self.url = ""

    # --- what a test does ---------------------------------------------------------------------

    def put(
        self, name: str, *endpoints: dict[str, Any], port: int = 8000, family: str = "IPv4"
    ) -> None:
        kind = "MODIFIED" if name in self.slices else "ADDED"
        self.slices[name] = {
            "metadata": {"name": name, "resourceVersion": str(self.version + 1)},
            "addressType": family,
            "endpoints": list(endpoints) or None,
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        }
        self._event(kind, self.slices[name])

    def delete(self, name: str) -> None:
        self._event("DELETED", self.slices.pop(name))

    def bookmark(self) -> None:
        version = {"metadata": {"resourceVersion": str(self.version + 1)}}
        self._event("BOOKMARK", {"kind": "EndpointSlice", **version})

    def error(self, code: int, message: str) -> None:
        self._event("ERROR", {"kind": "Status", "code": code, "message": message})

    def _event(self, kind: str, value: dict[str, Any]) -> None:
        self.version += 1
        value = json.loads(json.dumps(value))
        value.setdefault("metadata", {})["resourceVersion"] = str(self.version)
        self.events.append(
            (self.version, json.dumps({"type": kind, "object": value}).encode() + b"\n")
        )

    def forget(self) -> None:
        """As etcd does after some minutes."""
        self.oldest = self.version
        self.events.clear()

    async def cut(self, half_a_line: bytes = b"") -> None:
        """Break the watches off without an end."""
        for response in self.watches:
            await response.write(half_a_line)
            assert response._req is not None
            assert response._req.transport is not None
            response._req.transport.abort()

    async def watched(self) -> None:
        async with asyncio.timeout(10):
            while not self.watches:
                await asyncio.sleep(0.005)

    # --- the server ---------------------------------------------------------------------------

    async def answer(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.requests.append(query)
        await asyncio.sleep(self.delay)
        if self.status:
            return self._status(self.status, "as the test wants it")
        if self.token is not None and request.headers.get("Authorization") != (
            f"Bearer {self.token}"
        ):
            return self._status(401, "Unauthorized")
        if request.match_info["namespace"] != "llm":
            return self._status(403, "the account may not list there")
        if query["labelSelector"] != "kubernetes.io/service-name=engines":
            return self._list([], query)
        return await self._watch(request, query) if "watch" in query else self._listed(query)

    def _status(self, code: int, message: str) -> web.Response:
        return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)

    def _listed(self, query: dict[str, str]) -> web.Response:
        return self._list(list(self.slices.values()), query)

    def _list(self, items: list[dict[str, Any]], query: dict[str, str]) -> web.Response:
        start = int(query.get("continue", "0"))
        metadata = {"resourceVersion": str(self.version)}
        if start + self.page < len(items):
            metadata["continue"] = str(start + self.page)
        return web.json_response({"metadata": metadata, "items": items[start:][: self.page]})

    async def _watch(self, request: web.Request, query: dict[str, str]) -> web.StreamResponse:
        since = int(query["resourceVersion"])
        if since < self.oldest:
            return self._status(410, "too old resource version")
        response = web.StreamResponse()
        await response.prepare(request)
        self.watches.append(response)
        try:
            async with asyncio.timeout(float(query["timeoutSeconds"])):
                while True:
                    for version, line in list(self.events):
                        if version > since:
                            await response.write(line)
                            since = version
                    await asyncio.sleep(0.005)
        except (TimeoutError, ConnectionError):
            return response
        finally:
            self.watches.remove(response)
            self.ended += 1


@asynccontextmanager
async def api_server(tls: ssl.SSLContext | None = None):
    server = ApiServer()
    app = web.Application()
    app.router.add_get(PATH, server.answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    scheme = "http" if tls is None else "https"
    server.url = "{}://{}:{}".format(scheme, *runner.addresses[0])
    try:
        yield server
    finally:
        await runner.cleanup()

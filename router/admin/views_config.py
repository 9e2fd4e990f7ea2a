"""The configuration: shown with its secrets hidden, checked, and brought in force."""

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from router.admin.respond import AdminError, json_answer
from router.config.build import build
from router.config.findings import ConfigError, Finding
from router.config.load import loads
from router.control.plane import ControlPlane
from router.control.slots import BoardFull
from router.core.routing import Route


class ConfigViews:
    """Handlers of ``/routes``, ``/config_dump``, ``/reload`` and ``/validate``."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/routes", self.list_routes),
            web.get("/config_dump", self.dump),
            web.post("/reload", self.reload),
            web.post("/validate", self.validate),
        ]

    async def list_routes(self, request: web.Request) -> web.Response:
        store = self._plane.store
        routes = [_route(route) for route in store.snapshot.routes.routes]
        return json_answer({"generation": store.generation, "routes": routes})

    async def dump(self, request: web.Request) -> web.Response:
        store = self._plane.store
        etag = f'"{store.generation}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        dump = {
            "generation": store.generation,
            "source": store.source,
            "last_error": [msgspec.to_builtins(finding) for finding in store.last_error],
            "config": store.plain(),
        }
        return json_answer(dump, headers={"ETag": etag})

    async def reload(self, request: web.Request) -> web.Response:
        wanted = request.headers.get("If-Match")
        generation = str(self._plane.store.generation)
        if wanted not in (None, "*") and wanted.strip('"') != generation:
            raise AdminError(
                412,
                f"generation {generation} is in force, not {wanted}",
                code="generation_mismatch",
            )
        try:
            # A caller that leaves must not stop a reload half-way.
            reloaded = await asyncio.shield(self._plane.reload())
        except ConfigError as error:
            raise _refused(409, "the configuration stays as it is", error.findings) from None
        except BoardFull as error:
            raise AdminError(409, str(error), code="config_refused") from None
        return json_answer(msgspec.to_builtins(reloaded))

    async def validate(self, request: web.Request) -> web.Response:
        try:
            text = (await request.read()).decode()
        except UnicodeDecodeError as error:
            raise AdminError(400, f"the body is not UTF-8 at byte {error.start}") from None
        try:
            summary = await asyncio.to_thread(_validate, text)
        except ConfigError as error:
            raise _refused(400, "the configuration is not valid", error.findings) from None
        return json_answer(summary)


def _validate(text: str) -> dict[str, Any]:
    # The variables of this process are not a caller's to read through error messages.
    snapshot = build(loads(text, "body", {}), 0)
    return {
        "valid": True,
        "clusters": len(snapshot.clusters),
        "endpoints": sum(1 for _ in snapshot.endpoints()),
        "routes": len(snapshot.routes.routes),
    }


def _refused(status: int, what: str, findings: tuple[Finding, ...]) -> AdminError:
    first = f": {findings[0]}" if findings else ""
    return AdminError(
        status,
        f"{what}{first}",
        param=findings[0].path or None if findings else None,
        code="config_refused",
        more={"findings": [msgspec.to_builtins(finding) for finding in findings]},
    )


def _route(route: Route) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(route)
    for limit, shown in zip(route.limits, plain["limits"], strict=True):
        shown["per"] = [str(descriptor) for descriptor in limit.per]
    return plain

"""The router itself: its processes, readiness, requests under way, metrics."""

import asyncio
from typing import Any

from aiohttp import web

from router.admin.respond import AdminError, json_answer
from router.control.plane import ControlPlane
from router.telemetry.version import COMPILED, VERSION


class ProcessViews:
    """Handlers of everything that is not configuration. ``health_only``: the safe few."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def health_routes(self) -> list[web.RouteDef]:
        """What a scraper or an orchestrator needs, and nothing else."""
        return [
            web.get("/livez", self.livez),
            web.get("/readyz", self.readyz),
            web.get("/metrics", self.metrics),
        ]

    def routes(self) -> list[web.RouteDef]:
        return [
            *self.health_routes(),
            web.get("/server_info", self.server_info),
            web.get("/requests", self.requests),
            web.delete("/requests/{id}", self.cancel),
            web.post("/drain", self.drain),
            web.post("/undrain", self.undrain),
            web.post("/healthcheck/fail", self.drain),  # Envoy's names for the same
            web.post("/healthcheck/ok", self.undrain),
        ]

    async def livez(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(self, request: web.Request) -> web.Response:
        ready = self._plane.ready
        text = "ok\n" if ready else "not ready\n"
        if "verbose" in request.query:
            text = "".join(
                f"[{'+' if holds else '-'}] {name}: {words}\n"
                for name, holds, words in self._plane.readiness()
            )
        return web.Response(status=200 if ready else 503, text=text)

    async def metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._plane.metrics.render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def server_info(self, request: web.Request) -> web.Response:
        plane, supervisor = self._plane, self._plane.supervisor
        now = asyncio.get_running_loop().time()
        workers: list[dict[str, Any]] = []
        for column in range(supervisor.count):
            worker = supervisor.workers.get(column)
            row: dict[str, Any] = {
                "worker": column,
                "pid": None,
                "state": "restarting",
                "generation": 0,
                "uptime": 0.0,
                "restarts": supervisor.restarts_of[column],
            }
            if worker is not None and worker.alive:
                serving = worker.acked == supervisor.version
                row |= {
                    "pid": worker.pid,
                    "state": "serving" if serving else "starting",
                    "generation": worker.acked[0],
                    "uptime": round(now - worker.started_at, 3),
                }
            workers.append(row)
        totals = supervisor.totals()
        return json_answer(
            {
                "version": VERSION,
                "compiled": COMPILED,
                "state": "draining" if plane.failing else "live" if plane.ready else "not ready",
                "ready": plane.ready,
                "draining": plane.failing,
                "uptime": round(now - plane.started_at, 3),
                "generation": plane.store.generation,
                "tasks": len(asyncio.all_tasks()),
                "source": plane.store.source,
                "listeners": [
                    {"name": listener.name, "address": str(address)}
                    for listener, address in zip(
                        plane.store.config.listeners, plane.addresses, strict=True
                    )
                ],
                "connections": int(totals.gauge("connections")),
                "restarts": supervisor.restarts,
                "workers": workers,
            }
        )

    async def requests(self, request: web.Request) -> web.Response:
        return json_answer({"requests": await self._plane.requests()})

    async def cancel(self, request: web.Request) -> web.Response:
        id_ = request.match_info["id"]
        if not await self._plane.cancel(id_):
            raise AdminError(
                404, f"no request {id_!r} is under way", param="id", code="request_not_found"
            )
        return json_answer({"cancelled": id_})

    async def drain(self, request: web.Request) -> web.Response:
        self._plane.fail_readiness(True)
        return json_answer({"draining": True, "ready": self._plane.ready})

    async def undrain(self, request: web.Request) -> web.Response:
        try:
            self._plane.fail_readiness(False)
        except RuntimeError as error:
            raise AdminError(409, str(error), code="shutting_down") from None
        return json_answer({"draining": False, "ready": self._plane.ready})

"""Readiness and shutdown of a whole router beside what Envoy did when it was drained.

Envoy's ``POST /drain_listeners?graceful`` is our SIGTERM: both go on for a while, ask clients to
go elsewhere, and then close the port, while streams run on.
"""

import asyncio
import signal
from pathlib import Path
from typing import Any

import yaml

from tests.oracle.document import Outcomes, compare
from tests.oracle.runner import Answer, Scenario
from tests.processes.router_process import RouterProcess, serving, until

SHOWN = ("connection", "x-envoy-immediate-health-check-fail")
PATHS = {"/healthz": "/health"}
ADMIN = {"GET /ready": "GET /readyz"}


async def test_drain(tmp_path: Path) -> None:
    scenario = Scenario("drain")
    config = await scenario.configuration()
    for cluster in config["clusters"]:
        # An active check, so that readiness says that something can be served.
        cluster["health"]["active"] = {"path": "/", "interval": "200ms"}
    config |= {
        "workers": 1,
        "listeners": [{"name": "api", "address": "127.0.0.1:0"}],
        "admin": {"address": "127.0.0.1:0"},
        "drain": {"min_drain": "3s", "timeout": "20s"},
    }
    try:
        async with serving(tmp_path, yaml.safe_dump(config, sort_keys=False)) as router:
            scenario.port = int(router.api.rpartition(":")[2])
            await until(lambda: _ready(router))
            story = _Story(scenario, router)
            await story.run()
            compare("drain", story.outcomes)
    finally:
        await scenario.stop_backends()


async def _ready(router: RouterProcess) -> bool:
    status, _ = await router.text("/readyz")
    return status == 200


class _Story:
    def __init__(self, scenario: Scenario, router: RouterProcess) -> None:
        self.outcomes: Outcomes = {}
        self._scenario = scenario
        self._router = router
        self._connections: dict[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}
        self._stream: asyncio.Task[Answer] | None = None
        self._background: dict[str, Any] = {}

    async def run(self) -> None:
        for step in self._scenario.steps:
            if "requests" in step:
                await self._requests(step)
            elif "admin" in step:
                await self._admin(step)
            elif "start" in step:
                self._background = step
                self._stream = asyncio.create_task(self._scenario.send(step["start"]))
                await until(self._streaming)
            elif "sleep" in step and step["sleep"] > 1:
                await until(self._refused)
            elif "join" in step:
                assert self._stream is not None
                [row] = self._background["observed"]["requests"]
                self.outcomes["long-stream"] = (_words(row), _ours(await self._stream))
        for _, writer in self._connections.values():
            writer.close()

    async def _requests(self, step: dict[str, Any]) -> None:
        spec = dict(step["requests"])
        spec["path"] = PATHS.get(spec.get("path", "/"), spec.get("path", "/"))
        for row in step["observed"]["requests"]:
            try:
                reader, writer = await self._connection(spec.get("conn"))
                ours = _ours(await self._scenario.exchange(reader, writer, spec))
            except ConnectionError:
                ours = "refused"
            self.outcomes[spec["tag"]] = (_words(row), ours)

    async def _connection(
        self, name: str | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if name is None or name not in self._connections:
            name = name or f"own {len(self._connections)}"
            self._connections[name] = await asyncio.open_connection(
                "127.0.0.1", self._scenario.port
            )
        return self._connections[name]

    async def _admin(self, step: dict[str, Any]) -> None:
        words = ADMIN.get(step["admin"], step["admin"])
        method, _, path = words.partition(" ")
        if "drain_listeners" in path:
            self._router.signal(signal.SIGTERM)
            # What follows must find that it has been heard.
            await until(lambda: any("draining" in line for line in self._router.log))
            return
        async with self._router.session.request(
            method, self._router.admin + path, headers={"x-warmpath-admin": "1"}
        ) as answer:
            self.outcomes[step["admin"]] = (str(step["observed"]["status"]), str(answer.status))

    async def _streaming(self) -> bool:
        requests = (await self._router.get("/requests"))["requests"]
        return any(request["state"] == "streaming" for request in requests)

    async def _refused(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._scenario.port)
        except ConnectionError:
            return True
        writer.close()
        return False


def _words(row: dict[str, Any]) -> str:
    if row["status"] is None:
        return "refused"
    fields = row.get("headers", {})
    shown = [f"{name}: {fields[name]}" for name in SHOWN if name in fields]
    return ", ".join([f"{row['status']} {row['backend'] or 'itself'}", *shown])


def _ours(answer: Answer) -> str:
    row = {"status": answer.status, "backend": answer.backend, "headers": answer.headers}
    return _words(row) + (" cut" if answer.cut else "")

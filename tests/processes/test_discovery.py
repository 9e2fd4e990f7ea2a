"""``warmpath serve`` whose endpoints, or whose configuration, change while it runs."""

import asyncio
from functools import partial
from pathlib import Path

import pytest_asyncio
from click.testing import CliRunner

from engine.emulator.server import Emulator
from router.cli.main import main as warmpath
from tests.control.discovery.api_server import ApiServer, api_server
from tests.control.discovery.api_server import endpoint as pod
from tests.processes.router_process import (
    SLOW,
    RouterProcess,
    configuration,
    emulator,
    launched,
    serving,
    until,
)


def discovering(path: Path, workers: int = 2) -> str:
    text = configuration("127.0.0.1:1", workers=workers)
    return text.replace(
        "    endpoints:\n      - 127.0.0.1:1\n",
        f"    discovery: {{type: file, path: {path}, interval: 50ms}}\n",
    )


def listed(path: Path, *engines: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text("".join(f"- {engine}\n" for engine in engines) or "[]")
    fresh.rename(path)


async def members(router: RouterProcess, *engines: str) -> bool:
    return set(await router.endpoints()) == set(engines)


async def discovery(router: RouterProcess) -> dict[str, object]:
    shown: dict[str, object] = (await router.get("/clusters/demo"))["discovery"]
    return shown


class Load:
    """Requests without a pause, from several clients; every answer must be a good one."""

    def __init__(self, router: RouterProcess) -> None:
        self.served: dict[str, int] = {}
        self.failures: list[str] = []
        self._router = router
        self._tasks = [asyncio.create_task(self._client()) for _ in range(6)]

    async def _client(self) -> None:
        while True:
            async with self._router.chat(5, stream=True) as answer:
                text = await answer.text()
                name = answer.headers.get("x-emulator-name", "")
                self.served[name] = self.served.get(name, 0) + 1
                if answer.status != 200 or not text.endswith("data: [DONE]\n\n"):
                    self.failures.append(f"{answer.status} {text[-200:]}")

    async def more_from(self, name: str) -> None:
        before = self.served.get(name, 0)
        await until(lambda: self.served.get(name, 0) > before)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        errors = [r for r in results if not isinstance(r, asyncio.CancelledError)]
        assert errors == []
        assert self.failures == []


@pytest_asyncio.fixture
async def engines():
    async with emulator("a", SLOW) as a, emulator("b", SLOW) as b:
        yield a, b


async def test_endpoints_come_and_go_under_load_without_a_failed_request(engines, tmp_path):
    a, b = engines
    path = tmp_path / "engines.yaml"
    listed(path, a.address)
    async with serving(tmp_path, discovering(path)) as router:
        assert await members(router, a.address), "a start waits for the first answer"
        await until(lambda: ready(router))
        generation = (await router.get("/server_info"))["generation"]
        load = Load(router)
        await load.more_from("a")
        for _ in range(3):
            listed(path, a.address, b.address)
            await until(lambda: members(router, a.address, b.address))
            await load.more_from("b")
            listed(path, b.address)
            await until(lambda: members(router, b.address))
            await load.more_from("b")
            listed(path, a.address, b.address)
            await until(lambda: members(router, a.address, b.address))
            await load.more_from("a")
            listed(path, a.address)
            await until(lambda: members(router, a.address))
        await load.end()
        assert {await router.served_by() for _ in range(4)} == {"a"}
        assert (await router.get("/server_info"))["generation"] == generation, "no reload"
        shown = await discovery(router)
        assert (shown["type"], shown["state"], shown["error"]) == ("file", "current", None)
        assert (
            await router.metric('warmpath_discovery_updates_total{cluster="demo",result="changed"}')
            >= 13
        )
        assert await router.metric('warmpath_discovery_age_seconds{cluster="demo"}') < 30


async def test_a_removed_endpoint_finishes_its_streams(engines, tmp_path):
    a, b = engines
    path = tmp_path / "engines.yaml"
    listed(path, a.address)
    async with serving(tmp_path, discovering(path)) as router:
        await until(lambda: ready(router))
        stream = await router.chat(60, stream=True)
        await stream.content.readany()
        listed(path, b.address)
        await until(lambda: members(router, b.address))
        assert await router.served_by() == "b"
        assert (await stream.content.read()).endswith(b"data: [DONE]\n\n")


async def test_overrides_and_reloads_go_together_with_discovery(engines, tmp_path):
    a, b = engines
    path, config = tmp_path / "engines.yaml", tmp_path / "warmpath.yaml"
    listed(path, a.address)
    async with serving(tmp_path, discovering(path, workers=1)) as router:
        await router.ask("PATCH", f"/clusters/demo/endpoints/{a.address}", {"state": "drain"})
        listed(path, a.address, b.address)
        await until(lambda: members(router, a.address, b.address))
        assert (await router.endpoints())[a.address]["state"] == "drain"
        assert {await router.served_by() for _ in range(3)} == {"b"}

        text = config.read_text()
        config.write_text(text.replace("connect: 2s", "connect: 3s"))
        assert (await router.ask("POST", "/reload", {}))[0] == 200
        assert await members(router, a.address, b.address)
        listed(path, b.address)
        await until(lambda: members(router, b.address))
        routes = (await router.get("/routes"))["routes"]
        assert routes[0]["timeouts"]["connect"] == 3.0, "the newer configuration stays"

        # From discovered to written and back, and to a source that says nothing.
        written = configuration(a.address)
        config.write_text(written)
        assert (await router.ask("POST", "/reload", {}))[0] == 200
        assert await members(router, a.address)
        assert await discovery(router) is None
        config.write_text(discovering(tmp_path / "missing.yaml"))
        assert (await router.ask("POST", "/reload", {}))[0] == 200
        assert await members(router, a.address), "what served goes on until there is an answer"
        shown = await discovery(router)
        assert shown["state"] == "stale"
        assert "No such file" in str(shown["error"])
        assert (await router.endpoints())[a.address]["state"] == "drain"


async def test_reloads_and_discoveries_that_cross_leave_the_newest_of_both(engines, tmp_path):
    a, b = engines
    path, config = tmp_path / "engines.yaml", tmp_path / "warmpath.yaml"
    listed(path, a.address)
    async with serving(tmp_path, discovering(path)) as router:
        text = config.read_text()
        for seconds in range(3, 15):
            config.write_text(text.replace("connect: 2s", f"connect: {seconds}s"))
            listed(path, *((a.address,) if seconds % 2 else (a.address, b.address)))
            await asyncio.sleep(0.02 * (seconds % 5))  # the file's turn is anywhere in between
            status, answer = await router.ask("POST", "/reload", {})
            assert (status, answer["generation"], answer["refused_by"]) == (200, seconds - 1, [])
        await until(lambda: members(router, a.address, b.address))
        assert (await router.get("/routes"))["routes"][0]["timeouts"]["connect"] == 14.0
        info = await router.get("/server_info")
        assert info["generation"] == 13
        assert [worker["generation"] for worker in info["workers"]] == [13, 13]
        assert {await router.served_by() for _ in range(6)} == {"a", "b"}


async def test_bad_and_empty_files_empty_nothing(engines, tmp_path):
    a, _ = engines
    path = tmp_path / "engines.yaml"
    listed(path, a.address)
    async with serving(tmp_path, discovering(path, workers=1)) as router:
        await until(lambda: ready(router))
        listed(path, a.address, "nonsense")
        await until(lambda: has(router, "error"))
        assert f"{path}:2:3: " in str((await discovery(router))["error"])
        assert any("discovery failed" in line and f"{path}:2:3" in line for line in router.log)
        assert "discovery of demo: stale, " in await status(router)
        listed(path)
        await until(lambda: has(router, "empty_for"))
        assert "discovery of demo: stale, it finds no endpoint" in await status(router)
        assert await router.metric('warmpath_discovery_stale{cluster="demo"}') == 1
        assert await router.served_by() == "a"
        listed(path, a.address)
        await until(lambda: current(router))
        assert await router.metric('warmpath_discovery_stale{cluster="demo"}') == 0
        assert "discovery" not in await status(router)


async def test_a_router_without_endpoints_waits_for_them(engines, tmp_path):
    a, _ = engines
    path = tmp_path / "engines.yaml"
    async with serving(tmp_path, discovering(path, workers=1)) as router:
        async with router.chat() as answer:
            assert answer.status == 503
        assert (await router.text("/readyz"))[0] == 503
        listed(path, a.address)
        await until(lambda: ready(router))
        assert await router.served_by() == "a"


async def test_watch_reloads_what_changed_and_keeps_the_last_good(engines, tmp_path):
    a, b = engines
    config = tmp_path / "warmpath.yaml"
    async with serving(tmp_path, configuration(a.address), "--watch") as router:
        fresh = tmp_path / "fresh"
        fresh.write_text(configuration(b.address))
        fresh.rename(config)
        await until(lambda: members(router, b.address))
        assert await router.served_by() == "b"
        config.write_text(configuration("nonsense"))
        await until(lambda: any("reload refused" in line for line in router.log))
        assert await members(router, b.address)
        config.write_text(configuration(a.address, b.address))
        await until(lambda: members(router, a.address, b.address))
        assert (await router.get("/server_info"))["generation"] == 3


async def test_watch_needs_a_file():
    async with launched("--backend", "127.0.0.1:1", "--watch") as router:
        assert await router.ended() == 2
        assert any("--watch needs --config" in line for line in router.log)


async def status(router: RouterProcess) -> str:
    """What ``warmpath status`` prints."""
    command = ["status", "--admin", router.admin]
    return (await asyncio.to_thread(CliRunner().invoke, warmpath, command)).output


async def ready(router: RouterProcess) -> bool:
    return (await router.text("/readyz"))[0] == 200


async def has(router: RouterProcess, field: str) -> bool:
    return (await discovery(router))[field] is not None


async def current(router: RouterProcess) -> bool:
    return (await discovery(router))["state"] == "current"


async def test_a_drained_and_a_renewed_endpoint(engines, tmp_path):
    a, b = engines
    path = tmp_path / "engines.yaml"
    listed(path, f"{{address: '{a.address}', uid: one}}", b.address)
    async with serving(tmp_path, discovering(path, workers=1)) as router:
        await until(lambda: ready(router))
        assert (await router.endpoints())[a.address]["id"] == f"demo/{a.address}#one"
        await router.ask("PATCH", f"/clusters/demo/endpoints/{a.address}", {"weight": 7})
        listed(path, f"{{address: '{a.address}', uid: one, drain: true}}", b.address)
        await until(lambda: state(router, a.address, "drain"))
        # Control's word reaches the worker a moment after it can be seen at control.
        await until(lambda: serve(router, {"b"}))
        assert (await router.endpoints())[a.address]["weight"] == 7
        listed(path, f"{{address: '{a.address}', uid: two}}", b.address)
        await until(lambda: state(router, a.address, "ready"))
        shown = (await router.endpoints())[a.address]
        assert (shown["id"], shown["weight"]) == (f"demo/{a.address}#two", 1), "it learns anew"
        await until(lambda: serve(router, {"a", "b"}))


async def serve(router: RouterProcess, names: set[str]) -> bool:
    return {await router.served_by() for _ in range(4)} == names


async def test_a_kubernetes_service_is_followed_under_load(engines, tmp_path):
    """A rolling restart: a new pod, the old one ends while it still serves, then is gone."""
    a, b = engines
    async with api_server() as kubernetes:
        put = partial(put_pod, kubernetes)
        put("slice-a", a, "pod-a")
        text = configuration("127.0.0.1:1", workers=2).replace(
            "    endpoints:\n      - 127.0.0.1:1\n",
            "    discovery: {type: kubernetes, service: engines, namespace: llm,"
            f' server: "{kubernetes.url}"}}\n',
        )
        async with serving(tmp_path, text) as router:
            await until(lambda: ready(router))
            load = Load(router)
            await load.more_from("a")
            put("slice-b", b, "pod-b")
            await until(lambda: members(router, a.address, b.address))
            await load.more_from("b")
            put("slice-a", a, "pod-a", ready=False, serving=True, terminating=True)
            await until(lambda: state(router, a.address, "drain"))
            await kubernetes.cut()
            kubernetes.delete("slice-a")
            await until(lambda: members(router, b.address))
            await load.more_from("b")
            kubernetes.status = 503
            await kubernetes.cut()
            await until(lambda: has(router, "error"))
            await load.more_from("b")
            kubernetes.status = 0
            await until(lambda: current(router))
            await load.end()
            shown = (await router.endpoints())[b.address]
            assert shown["labels"] == {"zone": "zone-a", "node": "node-1", "pod": "pod-pod-b"}


def put_pod(server: ApiServer, name: str, engine: Emulator, uid: str, **conditions: bool) -> None:
    host, port = engine.address.rsplit(":", 1)
    server.put(name, pod(host, uid, **conditions), port=int(port))


async def state(router: RouterProcess, address: str, wanted: str) -> bool:
    found = (await router.endpoints()).get(address)
    return found is not None and found["state"] == wanted

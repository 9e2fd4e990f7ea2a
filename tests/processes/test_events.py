"""``GET /events`` of a running router, over real connections, and ``warmpath events``."""

import asyncio
import json
import os
import signal
import sys
from typing import Any

import pytest
import pytest_asyncio

from tests.processes.router_process import PATIENCE, configuration, emulator, serving, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("router")
    async with emulator("a") as a, emulator("b") as b:
        text = configuration(a.address, b.address)
        async with serving(folder, text) as router:
            yield router, a, b, folder / "warmpath.yaml", text


class Stream:
    """An open ``/events``; collects what comes."""

    def __init__(self, router, query: str = "", **headers: str) -> None:
        self._opening = router.session.get(f"{router.admin}/events{query}", headers=headers)
        self.events: list[tuple[str | None, str, Any]] = []

    async def __aenter__(self) -> "Stream":
        self._answer = await self._opening.__aenter__()
        assert self._answer.status == 200, await self._answer.text()
        assert self._answer.headers["content-type"] == "text/event-stream"
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        self._answer.close()

    async def _read(self) -> None:
        fields: dict[str, str] = {}
        async for line in self._answer.content:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                data = json.loads(fields["data"])
                self.events.append((fields.get("id"), fields["event"], data))
                fields = {}
            else:
                fields = {}

    async def wait_for(self, kind: str, **wanted: Any) -> tuple[str, dict[str, Any]]:
        """Id and data of the first event of this kind with these fields."""

        def found():
            return next(
                (
                    (id_, data)
                    for id_, name, data in self.events
                    if name == kind and wanted.items() <= data.items()
                ),
                None,
            )

        await until(found)
        result = found()
        assert result is not None
        return result


async def set_state(router, engine, **wanted: Any) -> None:
    path = f"/clusters/demo/endpoints/{engine.address}"
    status, answer = await router.ask("PATCH", path, wanted)
    assert status == 200, answer


async def test_an_operators_change_is_told_with_who_made_it(world):
    router, a, *_ = world
    async with Stream(router, "?kinds=override,audit") as stream:
        await set_state(router, a, state="drain", ttl="600ms")
        _, override = await stream.wait_for("override", state="drain")
        assert override["endpoint"] == f"demo/{a.address}"
        assert override["ttl"] == pytest.approx(0.6)
        _, audit = await stream.wait_for("audit", method="PATCH")
        assert (audit["status"], audit["remote"]) == (200, "127.0.0.1")
        await stream.wait_for("override", state="expired")


async def test_a_refused_call_is_told_too(world):
    router, *_ = world
    async with Stream(router) as stream:
        await router.ask("PATCH", "/clusters/demo/endpoints/nowhere:1", {"state": "drain"})
        await stream.wait_for("audit", status=404)


async def test_a_reader_resumes_where_it_was(world):
    router, a, *_ = world
    async with Stream(router) as stream:
        await set_state(router, a, weight=2)
        id_, _ = await stream.wait_for("override", weight=2)
    await set_state(router, a, weight=3)  # while nobody reads
    await set_state(router, a, weight=1)
    async with Stream(router, **{"last-event-id": id_}) as stream:
        await stream.wait_for("override", weight=1)
    weights = [data["weight"] for _, kind, data in stream.events if kind == "override"]
    assert weights == [3, 1]


async def test_an_id_of_another_run_brings_all_that_is_kept_and_says_so(world):
    router, *_ = world
    async with Stream(router, **{"last-event-id": "1234-5"}) as stream:
        await stream.wait_for("missed")
        await stream.wait_for("worker", state="started")


async def test_reloads_are_told_with_their_changes_or_why_not(world):
    router, _, _, path, text = world
    async with Stream(router, "?kinds=reload") as stream:
        path.write_text(text.replace("{connect: 2s}", "{connect: 3s}"))
        await router.ask("POST", "/reload", {})
        _, told = await stream.wait_for("reload", accepted=True)
        assert told["changes"] == ["~ routes[all].timeouts.connect: 2s -> 3s"]
        path.write_text(text.replace("to: demo", "to: domo"))
        await router.ask("POST", "/reload", {})
        _, told = await stream.wait_for("reload", accepted=False)
        assert "domo" in told["error"]
    path.write_text(text)
    await router.ask("POST", "/reload", {})


async def test_a_worker_that_dies_and_its_successor_are_told(world):
    router, *_ = world
    pid = (await router.get("/server_info"))["workers"][0]["pid"]
    async with Stream(router, "?kinds=worker") as stream:
        os.kill(pid, signal.SIGKILL)
        await stream.wait_for("worker", state="died", pid=pid, status=-9)
        await stream.wait_for("worker", state="started")


async def test_an_engine_that_fails_its_checks_is_told(world):
    router, _, b, *_ = world
    async with Stream(router, "?kinds=health") as stream:
        await b.__aexit__(None, None, None)
        _, told = await stream.wait_for("health", healthy=False)
        assert told["endpoint"] == f"demo/{b.address}"


async def test_draining_the_router_is_told(world):
    router, *_ = world
    async with Stream(router, "?kinds=router") as stream:
        await router.ask("POST", "/drain", {})
        await stream.wait_for("router", state="draining")
        await router.ask("POST", "/undrain", {})
        await stream.wait_for("router", state="accepting")


@pytest.mark.parametrize(
    ("query", "param"), [("?kinds=weather", "kinds"), ("?last=-1", "last"), ("?last=5000", "last")]
)
async def test_wrong_questions_name_the_field(world, query, param):
    router, *_ = world
    status, answer = await router.ask("GET", f"/events{query}")
    assert (status, answer["error"]["param"]) == (400, param)


async def test_the_command_shows_the_past_and_goes_on(world):
    router, a, *_ = world
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "router.cli.main", "events", "--admin", router.admin),
        *("--kinds", "override,worker", "--last", "500"),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        while b"state=started" not in await process.stdout.readline():
            pass
        await set_state(router, a, weight=7)
        while b"weight=7" not in (line := await process.stdout.readline()):
            pass
    assert f"endpoint=demo/{a.address}".encode() in line
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 0

"""Drains of a running router with streams in flight: progress, deadline, undo, the command."""

import asyncio
import os
import re
import sys
from contextlib import suppress

import aiohttp
import pytest
import pytest_asyncio

from tests.processes.router_process import PATIENCE, SLOW, configuration, emulator, serving, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
TOKENS = 400  # about 8 s of a stream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    async with (
        emulator("a", SLOW) as a,
        serving(tmp_path_factory.mktemp("router"), configuration(a.address)) as router,
    ):
        yield router, a


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def undo(world):
    yield
    router, a = world
    status, _ = await router.ask("DELETE", path(a) + "/override", {})
    assert status == 200
    await until(lambda: idle(router))


async def idle(router) -> bool:
    return await router.in_flight() == 0


def path(engine) -> str:
    return f"/clusters/demo/endpoints/{engine.address}"


async def ending(answer) -> str:
    """How a stream ended: done, or the error that it was told."""
    text = ""
    with suppress(aiohttp.ClientPayloadError):  # a stream that failed does not end properly
        async for piece in answer.content.iter_any():
            text += piece.decode()
    found = re.search(r'"message":"([^"]*)"', text)
    return "done" if text.rstrip().endswith("[DONE]") else found[1] if found else "cut"


async def test_progress_tells_requests_and_tokens(world):
    router, a = world
    async with router.chat(max_tokens=TOKENS, stream=True) as answer:
        await answer.content.readany()
        await router.ask("PATCH", path(a), {"state": "drain", "deadline": "10m"})
        drain = (await router.get(path(a)))["drain"]
        assert drain["state"] == "draining"
        assert (drain["began_with"], drain["in_flight"], drain["unknown"]) == (1, 1, 0)
        assert 0 < drain["tokens_left"] <= TOKENS
        assert 590 < drain["deadline_in"] <= 600
        before = drain["tokens_left"]

        async def fewer() -> bool:
            return (await router.get(path(a)))["drain"]["tokens_left"] < before

        await until(fewer)
        [request] = (await router.get("/requests"))["requests"]
        assert request["tokens_left"] < before


async def test_at_the_deadline_streams_end_with_an_error(world):
    router, a = world
    async with router.chat(max_tokens=TOKENS, stream=True) as answer:
        await answer.content.readany()
        await router.ask("PATCH", path(a), {"state": "drain", "deadline": "300ms"})
        assert await ending(answer) == "the engine is being taken out of service"
    await until(lambda: idle(router))
    assert (await router.get(path(a)))["state"] == "drain", "it stays out"


async def test_or_the_endpoint_comes_back_and_they_go_on(world):
    router, a = world
    async with router.chat(max_tokens=50, stream=True) as answer:
        await answer.content.readany()
        body = {"state": "drain", "deadline": "100ms", "on_deadline": "undo"}
        await router.ask("PATCH", path(a), body)
        assert await ending(answer) == "done"
    told = await router.get(path(a))
    assert (told["state"], told["override"], told["drain"]) == ("ready", None, None)


async def test_undo_takes_everything_back(world):
    router, a = world
    await router.ask("PATCH", path(a), {"state": "maint", "weight": 9})
    status, told = await router.ask("DELETE", path(a) + "/override", {})
    assert status == 200
    assert (told["state"], told["weight"], told["override"]) == ("ready", 1, None)


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"state": "ready", "deadline": "1m"}, "deadline", "drain or maint"),
        ({"weight": 2, "deadline": "1m"}, "deadline", "drain or maint"),
        ({"state": "drain", "deadline": "soon"}, "deadline", "duration"),
        ({"state": "drain", "on_deadline": "undo"}, "deadline", "needs a deadline"),
        (
            {"state": "drain", "deadline": "1m", "on_deadline": "wait"},
            "on_deadline",
            "cancel or undo",
        ),
    ],
)
async def test_wrong_deadlines_name_the_field(world, body, param, said):
    router, a = world
    status, answer = await router.ask("PATCH", path(a), body)
    assert (status, answer["error"]["param"]) == (400, param)
    assert said in answer["error"]["message"]


async def command(router, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "router.cli.main", *arguments, "--admin", router.admin),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    async with asyncio.timeout(PATIENCE):
        said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_the_command_follows_a_drain_to_its_deadline(world):
    router, a = world
    name = f"demo/{a.address}"
    async with router.chat(max_tokens=TOKENS, stream=True) as answer:
        await answer.content.readany()
        reading = asyncio.create_task(ending(answer))
        status, said = await command(router, "drain", name, "--wait", "--deadline", "1s")
        assert "the engine is being" in await reading
    assert status == 0
    assert re.search(r"1 of 1 in flight, at most \d+ tokens to come", said)
    assert "drained, the rest was cancelled" in said


async def test_the_command_says_that_a_drain_was_taken_back(world):
    router, a = world
    arguments = ("drain", f"demo/{a.address}", "--wait", "--deadline", "500ms")
    async with router.chat(max_tokens=TOKENS, stream=True) as answer:
        await answer.content.readany()
        status, said = await command(router, *arguments, "--undo-on-timeout")
        answer.close()
    assert status == 1
    assert "taken back" in said
    status, said = await command(router, "undo", f"demo/{a.address}")
    assert (status, said) == (0, f"demo/{a.address}: ready, weight 1\n")

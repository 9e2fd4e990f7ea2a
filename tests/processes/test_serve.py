"""A router from start to end, by signals."""

import asyncio
import json
import os
import resource
import signal
import socket

import aiohttp
import pytest

from tests.processes.router_process import SLOW, configuration, emulator, launched, serving, until


async def test_requests_are_served_counted_and_logged(tmp_path):
    async with emulator("a") as a, emulator("b") as b:
        text = configuration(a.address, b.address, workers=2)
        async with serving(tmp_path, text) as router:
            names = {await router.served_by() for _ in range(8)}
            assert names == {"a", "b"}
            async with router.session.get(f"{router.api}/v1/models") as answer:
                models = (await answer.json())["data"]
            assert [model["id"] for model in models] == ["emulated"]
            assert models[0]["max_model_len"] == 131072, "unknown fields are kept"

            sample = (
                'warmpath_requests_total{cluster="demo",code="200",flag="-",'
                'model="emulated",route="all"}'
            )
            await until(lambda: len(router.lines) >= 8)
            assert await router.metric(sample) == 8
            line = json.loads(router.lines[0])
            assert line["status"] == 200
            assert line["endpoint"] in {f"demo/{a.address}", f"demo/{b.address}"}
            assert line["completion_tokens"] == 3

            outcomes = [e["outcomes"] for e in (await router.endpoints()).values()]
            assert sum(o["success"] for o in outcomes) == 8
            router.signal(signal.SIGTERM)
            assert await router.ended() == 0


async def test_no_access_line_is_lost_at_the_end(tmp_path):
    async with emulator("a") as a:
        async with serving(tmp_path, configuration(a.address, workers=2)) as router:
            for _ in range(10):
                await router.served_by()
            router.signal(signal.SIGINT)
            assert await router.ended() == 0
        assert len(router.lines) == 10


async def test_sigterm_fails_readiness_keeps_accepting_then_lets_streams_finish(tmp_path):
    async with emulator("a", SLOW) as a:
        text = configuration(a.address).replace("min_drain: 0s", "min_drain: 700ms")
        async with serving(tmp_path, text) as router, router.chat(60, stream=True) as stream:
            await stream.content.readany()
            router.signal(signal.SIGTERM)

            async def not_ready() -> bool:
                return (await router.text("/readyz"))[0] == 503

            await until(not_ready)
            async with router.chat() as late:
                assert late.status == 200, "listeners stay open for min_drain"
                assert late.headers["connection"] == "close"
            rest = await stream.content.read()
            assert rest.endswith(b"data: [DONE]\n\n")
            assert await router.ended() == 0
            with pytest.raises(aiohttp.ClientConnectorError):
                await router.chat()


async def test_streams_that_outlast_the_drain_end_with_an_error_event(tmp_path):
    async with emulator("a", SLOW) as a:
        text = configuration(a.address).replace("timeout: 10s", "timeout: 300ms")
        async with serving(tmp_path, text) as router, router.chat(1000, stream=True) as stream:
            await stream.content.readany()
            router.signal(signal.SIGTERM)
            body = await cut(stream)
            assert b"[DONE]" not in body
            last = body.strip().rpartition(b"data: ")[2]
            assert "shutting down" in json.loads(last)["error"]["message"]
            assert await router.ended() == 0
            await until(lambda: a.requests.active == 0)


async def cut(stream: aiohttp.ClientResponse) -> bytes:
    """What comes of a stream that must not end properly."""
    body = b""
    try:
        while piece := await stream.content.readany():
            body += piece
    except aiohttp.ClientPayloadError:
        return body
    raise AssertionError("the stream ended as if it were complete")


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_now(tmp_path, second):
    async with emulator("a", SLOW) as a:
        text = configuration(a.address).replace("timeout: 10s", "timeout: 600s")
        async with serving(tmp_path, text) as router, router.chat(5000, stream=True) as stream:
            await stream.content.readany()
            router.signal(signal.SIGTERM)
            await until(lambda: any("draining" in line for line in router.log))
            router.signal(second)
            assert await router.ended(10) == 0
            with pytest.raises(aiohttp.ClientPayloadError):
                await stream.content.read()
            assert any("ending at once" in line for line in router.log)


async def test_idle_connections_do_not_hold_up_the_end(tmp_path):
    async with (
        emulator("a") as a,
        serving(tmp_path, configuration(a.address)) as router,
        aiohttp.ClientSession() as session,
    ):
        for _ in range(3):
            async with session.get(f"{router.api}/health") as answer:
                await answer.read()
        assert await router.metric("warmpath_draining") == 0
        router.signal(signal.SIGINT)
        assert await router.ended(8) == 0


async def test_it_is_not_ready_without_an_engine_and_says_why(tmp_path):
    async with emulator("late") as late:
        late.refuse(60)
        async with serving(tmp_path, configuration(late.address)) as router:
            status, text = await router.text("/readyz?verbose")
            assert status == 503
            assert "[-] endpoints: 0 of 1 usable" in text
            assert "[+] workers: 1 of 1 serve" in text
            async with router.chat() as answer:
                assert answer.status == 503
            async with router.session.get(f"{router.api}/v1/models") as answer:
                assert (await answer.json())["data"] == []
            await late.start()

            async def ready() -> bool:
                return (await router.text("/readyz"))[0] == 200

            await until(ready)
            assert await router.served_by() == "late"


async def test_workers_end_when_control_is_killed(tmp_path):
    async with emulator("a") as a:
        async with serving(tmp_path, configuration(a.address, workers=2)) as router:
            pids = [worker["pid"] for worker in (await router.get("/server_info"))["workers"]]
            router.signal(signal.SIGKILL)
            assert await router.ended() == -signal.SIGKILL
        await until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


# --- starts that fail -----------------------------------------------------------------------------


async def failure(tmp_path, text: str) -> tuple[int, str]:
    config = tmp_path / "warmpath.yaml"
    config.write_text(text)
    async with launched("-c", str(config)) as router:
        status = await router.ended()
        return status, "\n".join(router.log)


@pytest.mark.parametrize("part", ["listeners", "admin"])
async def test_an_address_in_use_is_named(tmp_path, part):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        text = configuration("127.0.0.1:9")
        old = (
            'name: api, address: "127.0.0.1:0"'
            if part == "listeners"
            else '{address: "127.0.0.1:0"'
        )
        status, log = await failure(
            tmp_path, text.replace(old, old.replace("127.0.0.1:0", address))
        )
    assert status == 1
    assert f"cannot listen on {address}" in log


async def test_an_access_log_that_cannot_be_opened_is_named(tmp_path):
    text = configuration("127.0.0.1:9", extra=f"access_log: {{path: {tmp_path}}}\n")
    assert text.count("access_log:") == 1
    status, log = await failure(tmp_path, text)
    assert status == 1
    assert f"access_log.path {tmp_path}: Is a directory" in log


async def test_a_low_limit_on_open_files_is_raised_and_told(tmp_path):
    async with emulator("a") as a:
        config = tmp_path / "warmpath.yaml"
        config.write_text(configuration(a.address))
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        # What starts the router needs some itself, beside all that the tests before it left open.
        low = len(os.listdir("/proc/self/fd")) + 50
        resource.setrlimit(resource.RLIMIT_NOFILE, (low, before[1]))
        try:
            async with launched("-c", str(config)) as router:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
                await router.started()
                limits = resource.prlimit(router.process.pid, resource.RLIMIT_NOFILE)
                [worker] = (await router.get("/server_info"))["workers"]
                of_worker = resource.prlimit(worker["pid"], resource.RLIMIT_NOFILE)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert limits == of_worker
    assert limits[0] == min(before[1], 1 << 20)
    assert any("few files" in line for line in router.log) == (limits[0] < 4096)


async def test_an_open_admin_api_without_a_token_is_refused(tmp_path):
    text = configuration("127.0.0.1:9").replace(
        'admin: {address: "127.0.0.1:0"', 'admin: {address: "0.0.0.0:0"'
    )
    status, log = await failure(tmp_path, text)
    assert status == 1
    assert "admin.token" in log


async def test_a_bad_configuration_is_told_with_its_place(tmp_path):
    status, log = await failure(tmp_path, configuration("127.0.0.1:9", extra="workerz: 2\n"))
    assert status == 1
    assert "warmpath.yaml:" in log
    assert "workerz" in log


async def test_neither_or_both_sources_are_wrong_usage(tmp_path):
    async with launched() as router:
        assert await router.ended() == 2
    async with launched("--backend", "http://127.0.0.1:9", "-c", str(tmp_path)) as router:
        assert await router.ended() == 2


async def test_backends_on_the_command_line_are_enough():
    async with emulator("a") as a:
        arguments = ("--backend", a.url, "--workers", "1")
        arguments += ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
        async with launched(*arguments) as router:
            await asyncio.wait_for(router.started(), 20)
            assert await router.served_by() == "a"
            router.signal(signal.SIGINT)
            assert await router.ended() == 0

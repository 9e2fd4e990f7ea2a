"""Ejections in a running router: over all its workers, and back again."""

import asyncio
import json
import socket
import sys

import aiohttp

from tests.processes.router_process import configuration, emulator, serving, until

FAST = "interval: 200ms, base_ejection_time: 2s"


def watched(*engines: str, outlier: str, workers: int = 2) -> str:
    text = configuration(*engines, workers=workers)
    return text.replace("fall: 2}}", f"fall: 2}}, outlier: {outlier}}}")


async def ask(router) -> int:
    async with router.chat() as answer:
        await answer.read()
        return answer.status


async def ejected(router) -> set[str]:
    return {a for a, e in (await router.endpoints()).items() if (e["outlier"] or {}).get("ejected")}


def told(router) -> list[tuple[str, str, str, bool, int]]:
    lines = [json.loads(line) for line in router.log if line.startswith("{")]
    return [
        (e["action"], e["endpoint"], e["type"], e["enforced"], e["num_ejections"])
        for e in lines
        if e.get("part") == "outlier"
    ]


async def test_who_fails_is_ejected_and_comes_back(tmp_path):
    """Ten failures in a row over both workers, whatever the others answer in between."""
    async with emulator("a") as a, emulator("b") as b, emulator("c") as c:
        a.add_fault("status=500")
        policy = f"{{consecutive_5xx: 10, {FAST}}}"
        text = watched(a.address, b.address, c.address, outlier=policy)
        async with serving(tmp_path, text) as router:
            failures = 0
            while failures < 10:
                assert not await ejected(router)
                failures += await ask(router) == 500
            await until(lambda: ejected(router))
            assert await ejected(router) == {a.address}
            await asyncio.sleep(0.05)  # until both workers have heard
            # Out of sight: the others take all.
            assert {await router.served_by() for _ in range(12)} == {"b", "c"}

            endpoint = (await router.endpoints())[a.address]
            assert endpoint["healthy"], "its health checks pass all the time"
            assert not endpoint["usable"]
            seen = endpoint["outlier"]
            assert (seen["detector"], seen["ejections"]) == ("consecutive_5xx", 1)
            assert 0 <= seen["returns_in"] <= 2
            assert (await router.text("/readyz"))[0] == 200
            sample = 'warmpath_ejections_total{cluster="demo",detector="consecutive_5xx",'
            assert await router.metric(sample + 'enforced="true"}') == 1

            # It is well again: back after its time, and used.
            a.faults.clear()
            await until(lambda: back(router))
            await until(lambda: served_by(router, "a"))
            assert await router.metric('warmpath_ejected_endpoints{cluster="demo"}') == 0
            assert told(router)[:2] == [
                ("eject", f"demo/{a.address}", "consecutive_5xx", True, 1),
                ("uneject", f"demo/{a.address}", "consecutive_5xx", False, 1),
            ]


async def test_streams_cut_short_are_failures_though_their_status_was_200(tmp_path):
    async with emulator("a") as a, emulator("b") as b:
        a.add_fault("reset_mid=1")
        policy = "{consecutive_truncated: 3, base_ejection_time: 60s}"
        text = watched(a.address, b.address, outlier=policy, workers=1)
        async with serving(tmp_path, text) as router:

            async def stream() -> bool:
                async with router.chat(8, stream=True) as answer:
                    assert answer.status == 200
                    try:
                        return (await answer.read()).endswith(b"data: [DONE]\n\n")
                    except aiohttp.ClientPayloadError:
                        return False

            cut = 0
            while cut < 3:
                cut += not await stream()
            await until(lambda: ejected(router))
            assert all([await stream() for _ in range(8)])
            assert told(router) == [
                ("eject", f"demo/{a.address}", "consecutive_truncated", True, 1)
            ]
            # What an operator sees.
            status = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "router.cli.main", "status", "--admin", router.admin),
                stdout=asyncio.subprocess.PIPE,
            )
            printed, _ = await status.communicate()
            assert status.returncode == 0
            assert b"ejected, back in" in printed

            # Switched off by a reload: everybody comes back at once.
            config = tmp_path / "warmpath.yaml"
            config.write_text(watched(a.address, b.address, outlier="off", workers=1))
            status_code, _ = await router.ask("POST", "/reload")
            assert status_code == 200
            await until(lambda: usable(router))
            assert (await router.endpoints())[a.address]["outlier"] is None


async def test_an_engine_that_says_when_to_come_again_is_full_not_broken(tmp_path):
    async with emulator("a") as a, emulator("b") as b:
        a.add_fault("status=503;retry_after=1")
        policy = "{consecutive_5xx: 2, consecutive_gateway_failure: 2}"
        text = watched(a.address, b.address, outlier=policy, workers=1)
        async with serving(tmp_path, text) as router:
            answers = [await ask(router) for _ in range(12)]
            refused = answers.count(503)
            assert 1 <= refused < 6  # not its half: it is spared until the time it says
            await until(lambda: pushed_back(router, a.address, refused))
            seen = (await router.endpoints())[a.address]["outlier"]
            assert not seen["ejected"]
            assert set(seen["in_a_row"].values()) == {0}
            # The same without the word is a fault.
            a.faults.clear()
            a.add_fault("status=503")
            await until(lambda: asked_until_ejected(router))


async def test_nobody_there_to_connect_to(tmp_path):
    """Found by failing requests where health checks are off; clients see none of it."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        port = nobody.getsockname()[1]
        async with emulator("b") as b:
            policy = f"{{consecutive_5xx: 2, enforcing_consecutive_gateway_failure: 0, {FAST}}}"
            text = watched(f"127.0.0.1:{port}", b.address, outlier=policy, workers=1)
            checks, outlier = text.index("active:"), text.index(", outlier:")
            async with serving(tmp_path, text[:checks] + "active: off" + text[outlier:]) as router:
                assert {await router.served_by() for _ in range(12)} == {"b"}
                await until(lambda: told(router))
                first = ("eject", f"demo/127.0.0.1:{port}", "consecutive_5xx", True, 1)
                assert told(router)[0] == first
                nobody.close()
                async with emulator("a", port=port):
                    await until(lambda: served_by(router, "a"))


async def pushed_back(router, address: str, count: int) -> bool:
    outcomes = (await router.endpoints())[address]["outcomes"]
    return outcomes.get("pushed_back") == count


async def asked_until_ejected(router) -> bool:
    await ask(router)
    return bool(await ejected(router))


async def back(router) -> bool:
    return not await ejected(router)


async def usable(router) -> bool:
    return all(e["usable"] for e in (await router.endpoints()).values())


async def served_by(router, name: str) -> bool:
    try:
        return await router.served_by() == name
    except aiohttp.ClientError:
        return False

"""All engines of a cluster are replaced, and the new ones are not ready: nobody notices."""

import asyncio
from collections import Counter
from pathlib import Path

from tests.processes.router_process import RouterProcess, configuration, emulator, serving, until


async def test_old_engines_serve_until_a_new_one_does(tmp_path: Path) -> None:
    async with emulator("old") as old, emulator("new") as new, emulator("late") as late:
        for engine in (new, late):  # as while they load their models
            engine.add_fault("unhealthy")
            engine.add_fault("status=503")
        before = configuration(old.address, workers=2)
        async with serving(tmp_path, before) as router:
            await until(lambda: checked(router, old.address))
            seen: Counter[str] = Counter()
            over = asyncio.Event()

            async def client() -> None:
                while not over.is_set():
                    seen[await router.served_by()] += 1

            clients = [asyncio.create_task(client()) for _ in range(3)]
            path = tmp_path / "warmpath.yaml"
            path.write_text(configuration(new.address, late.address, workers=2))
            status, answer = await router.ask("POST", "/reload", {})
            assert status == 200, answer
            shown = await router.get("/clusters/demo")
            assert shown["handover"]["kept"] == [old.address]
            states = {e["address"]: e["state"] for e in shown["endpoints"]}
            assert states == {old.address: "ready", new.address: "drain", late.address: "drain"}
            served = seen["old"]
            await until(lambda: seen["old"] > served + 20)
            assert set(seen) == {"old"}

            new.faults.clear()
            await until(lambda: seen["new"] > 0)
            await until(lambda: ended(router))
            over.set()
            await asyncio.gather(*clients)
            assert set(seen) == {"old", "new"}
            assert {await router.served_by() for _ in range(6)} == {"new"}
            assert old.address not in await router.endpoints()
            _, events = await router.text("/events?last=50&follow=no&kinds=handover")
            assert events.count("event: handover") == 2


async def checked(router: RouterProcess, address: str) -> bool:
    return (await router.endpoints())[address]["healthy"] is True


async def ended(router: RouterProcess) -> bool:
    return (await router.get("/clusters/demo"))["handover"] is None

"""Workers of one machine decide as one: what each sends where, the others know."""

import os
import signal
from functools import partial

import pytest

from tests.processes.router_process import SLOW, configuration, emulator, serving, until
from tests.proxy.redis_server import RedisServer

HEARD = 'warmpath_gossip_requests_total{result="heard"}'
TOLD = 'warmpath_gossip_requests_total{result="told"}'
EXPIRED = 'warmpath_gossip_requests_total{result="expired"}'


def predicting(*engines: str) -> str:
    return configuration(*engines, workers=2).replace("round_robin", "predicted_ttft")


class Conversation:
    """Turns of one user; each goes over a connection of its own, to whichever worker takes it, of
    each of the routers in turn."""

    def __init__(self, topic: str, *routers) -> None:
        self._routers = routers
        self._messages = [{"role": "system", "content": f"You know all of {topic}. " * 200}]
        self.turns = 0

    @property
    def body(self) -> dict[str, object]:
        return {"model": "emulated", "messages": self._messages, "max_tokens": 2}

    async def say(self) -> str:
        """One more turn; returns who answered once all workers know of it."""
        told, heard = await self._counted()
        self.turns += 1
        router = self._routers[self.turns % len(self._routers)]
        self._messages.append({"role": "user", "content": f"Question {self.turns}? " * 40})
        url = f"{router.api}/v1/chat/completions"
        async with router.session.post(url, json=self.body) as answer:
            assert answer.status == 200, await answer.text()
            reply = (await answer.json())["choices"][0]["message"]
            self._messages.append(reply)

        async def known() -> bool:
            return await self._counted() == [told + 1, heard + 1]

        await until(known)
        return answer.headers["x-emulator-name"]

    async def _counted(self) -> list[float]:
        return [
            sum([await router.metric(name) for router in self._routers]) for name in (TOLD, HEARD)
        ]


async def test_turns_of_a_conversation_meet_their_prefix_whichever_worker_takes_them(tmp_path):
    async with emulator("a") as a, emulator("b") as b, emulator("c") as c:
        text = predicting(a.address, b.address, c.address)
        async with serving(tmp_path, text) as router:
            for topic in ("whales", "tax law"):
                conversation = Conversation(topic, router)
                assert len({await conversation.say() for _ in range(8)}) == 1
            assert await router.metric("warmpath_gossip_peers") == 1
            assert await router.metric(EXPIRED) == 0


@pytest.mark.tool
async def test_routers_on_two_machines_decide_as_one_with_redis_between_them(tmp_path, tool):
    redis = RedisServer(tool("redis-server"), tmp_path)
    await redis.start()
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    async with emulator("a") as a, emulator("b") as b, emulator("c") as c:
        text = predicting(a.address, b.address, c.address).replace("workers: 2", "workers: 1")
        text += f"redis: {{address: {redis.address}, retry_interval: 100ms}}\n"
        async with serving(folders[0], text) as one, serving(folders[1], text) as two:
            for router in (one, two):
                await until(partial(reaches, router, 1))
                await until(partial(hears_of, router, 1))
            conversation = Conversation("whales", one, two)
            assert len({await conversation.say() for _ in range(6)}) == 1

            await redis.stop()
            await until(partial(reaches, one, 0))
            assert await one.served_by() in ("a", "b", "c")
            assert any("do not hear of prompts" in line for line in one.log)
            await redis.start()
            for router in (one, two):
                await until(partial(reaches, router, 1))
            conversation = Conversation("knots", one, two)
            assert len({await conversation.say() for _ in range(4)}) == 1
    await redis.stop()


async def test_an_operator_sees_what_the_balancer_sees(tmp_path):
    async with (
        emulator("a") as a,
        emulator("b") as b,
        serving(tmp_path, predicting(a.address, b.address)) as router,
    ):
        conversation = Conversation("whales", router)
        home = {"a": a, "b": b}[await conversation.say()].address

        cluster = (await router.get("/clusters"))["clusters"][0]
        assert cluster["forecast"]["believed"] == 1
        assert cluster["forecast"]["capacity_tokens"] > 0
        endpoints = {one["address"]: one["forecast"] for one in cluster["endpoints"]}
        assert endpoints[home]["cached_prefixes"] > 0
        assert endpoints[home]["queue_seconds"] == 0
        assert endpoints[home]["pace"] > 0

        status, told = await router.ask("POST", "/explain", {"body": conversation.body})
        assert status == 200, told
        assert told["view"].endswith("as a worker does")
        assert told["attempts"][0]["endpoint"] == f"demo/{home}"
        assert told["attempts"][0]["reason"] == "prefix hit"
        scores = {row["endpoint"]: row["scores"] for row in told["candidates"]}
        for address in (a.address, b.address):
            known = scores[f"demo/{address}"]["cached_tokens"]
            assert (known > 800) is (address == home)


async def test_it_is_told_when_caches_hold_something_else(tmp_path):
    async with emulator("a") as a:
        text = predicting(a.address).replace("workers: 2", "workers: 1")
        async with serving(tmp_path, text) as router:
            conversation = Conversation("whales", router)
            for _ in range(60):
                async with router.session.post(f"http://{a.address}/reset_prefix_cache") as reset:
                    assert reset.status == 200
                url = f"{router.api}/v1/chat/completions"
                async with router.session.post(url, json=conversation.body) as answer:
                    assert answer.status == 200

            async def told() -> bool:
                _, text = await router.text("/events?last=100&follow=no&kinds=prediction")
                return '"believed":false' in text

            await until(told)
            assert any("caches hold something else" in line for line in router.log)
            assert await router.metric('warmpath_cache_mirror_believed{cluster="demo"}') == 0
            _, explained = await router.ask("POST", "/explain", {"body": conversation.body})
            assert explained["balancer"]["notes"]["mirror"] == "not believed"


async def test_a_killed_worker_is_forgotten_and_its_successor_catches_up(tmp_path):
    async with emulator("a", SLOW) as a, emulator("b", SLOW) as b, emulator("c", SLOW) as c:
        text = predicting(a.address, b.address, c.address)
        async with serving(tmp_path, text) as router:
            conversation = Conversation("whales", router)
            home = await conversation.say()
            streams = [await router.chat(400, stream=True) for _ in range(16)]
            for stream in streams:
                await stream.content.readany()
            await until(lambda: under_way(router, 16))
            known = await prefixes(router)
            assert known > 0

            listed = (await router.get("/requests"))["requests"]
            lost = sum(1 for one in listed if one["worker"] == 0)
            assert 0 < lost < 16, "the kernel gave connections to both"
            workers = (await router.get("/server_info"))["workers"]
            os.kill(next(w["pid"] for w in workers if w["worker"] == 0), signal.SIGKILL)

            async def forgotten() -> bool:
                return await router.metric(EXPIRED) == lost

            await until(forgotten)
            # The successor has been told of those that go on.
            await until(lambda: under_way(router, 16 - lost))

            async def caught_up() -> bool:
                return await prefixes(router) == known

            await until(caught_up)
            for stream in streams:
                stream.close()
            await until(lambda: under_way(router, 0))
            assert {await conversation.say() for _ in range(6)} == {home}


async def reaches(router, wanted: int) -> bool:
    return await router.metric("warmpath_gossip_redis_reached") == wanted


async def hears_of(router, count: int) -> bool:
    return await router.metric("warmpath_gossip_peers") == count


async def under_way(router, count: int) -> bool:
    """Whether workers know of so many requests of each other."""
    return await router.metric("warmpath_gossip_requests_under_way") == count


async def prefixes(router) -> float:
    """Of all caches, in the mean of all workers."""
    _, page = await router.text("/metrics")
    lines = [line for line in page.splitlines() if line.startswith("warmpath_endpoint_cached_pref")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)

"""A rate limit as clients meet it, over two worker processes."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp
import pytest

from tests.processes.router_process import (
    SLOW,
    RouterProcess,
    configuration,
    emulator,
    serving,
    until,
)
from tests.proxy.redis_server import RedisServer

LIMITS = "limits: [{max_tokens: 10, tokens_per_fill: 1, fill_interval: 1h, per: [header:x-team]}]"


async def ask(router: RouterProcess, team: str) -> aiohttp.ClientResponse:
    body = {"model": "emulated", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    url = f"{router.api}/v1/chat/completions"
    async with router.session.post(url, json=body, headers={"x-team": team}) as answer:
        await answer.read()
        return answer


async def test_ten_mean_ten_whichever_worker_is_asked(tmp_path: Path) -> None:
    async with emulator("a") as engine:
        text = configuration(engine.address, workers=2)
        text = text.replace("to: demo,", f"to: demo, {LIMITS},")
        async with serving(tmp_path, text) as router:
            answers = await asyncio.gather(*(ask(router, "red") for _ in range(40)))
            assert Counter(answer.status for answer in answers) == {200: 10, 429: 30}
            assert engine.requests.started == 10
            good = next(answer for answer in answers if answer.status == 200)
            assert good.headers["x-ratelimit-limit"] == "10"
            assert good.headers["x-ratelimit-limit-requests"] == "10"
            assert 0 <= int(good.headers["x-ratelimit-remaining"]) < 10

            refused = next(answer for answer in answers if answer.status == 429)
            assert refused.headers["x-ratelimit-remaining"] == "0"
            assert int(refused.headers["retry-after"]) > 3000
            assert (await refused.json())["error"]["code"] == "rate_limit_exceeded"

            assert (await ask(router, "blue")).status == 200
            [limit] = (await router.get("/limits?header:x-team=blue"))["limits"]
            assert (limit["route"], limit["per"]) == ("all", ["header:x-team"])
            assert 8.9 < limit["remaining"] < 9.1
            await until(lambda: refusals(router, 30))
            assert (await router.ask("GET", "/limits?team=blue"))[0] == 400
            # What was used up stays used up over a reload.
            assert (await router.ask("POST", "/reload", {}))[0] == 200
            assert (await ask(router, "red")).status == 429


async def refusals(router: RouterProcess, count: int) -> bool:
    [limit] = (await router.get("/limits"))["limits"]
    assert limit["remaining"] is None, "of whose bucket was not said"
    return bool(limit["refused"] == count)


TOKENS = "limits: [{unit: tokens, rate: 500/d, per: header:x-team}]"


async def asked(
    router: RouterProcess, team: str, max_tokens: int, **fields: object
) -> tuple[int, Mapping[str, str], bytes]:
    content = "x" * 280  # with the JSON around it about a hundred tokens
    body = {"model": "emulated", "messages": [{"role": "user", "content": content}]}
    body |= {"max_tokens": max_tokens} | fields
    url = f"{router.api}/v1/chat/completions"
    async with router.session.post(url, json=body, headers={"x-team": team}) as answer:
        return answer.status, answer.headers, await answer.read()


async def test_tokens_are_reserved_together_and_charged_by_the_usage(tmp_path: Path) -> None:
    """Two of three at one time find room for what they may need; what they left is given back."""
    async with emulator("a", SLOW) as engine:
        text = configuration(engine.address, workers=2)
        text = text.replace("to: demo,", f"to: demo, {TOKENS},")
        async with serving(tmp_path, text) as router:
            found = await asyncio.gather(*(asked(router, "red", 120) for _ in range(3)))
            assert sorted(status for status, _, _ in found) == [200, 200, 429]
            refused = next(one for one in found if one[0] == 429)
            assert b"500 tokens is used up: the request may need 2" in refused[2]
            assert 0 < int(refused[1]["retry-after"]) < 86_400
            used = sum(
                json.loads(answer)["usage"]["total_tokens"]
                for status, _, answer in found
                if status == 200
            )
            # A last one tells what is left: the limit less what the engine says was used.
            status, headers, _ = await asked(router, "red", 1)
            assert status == 200
            assert headers["x-ratelimit-limit-tokens"] == "500"
            reserved = 500 - used - int(headers["x-ratelimit-remaining-tokens"])
            assert 70 <= reserved <= 130, "the estimate of the last one's prompt"


async def nothing_runs(router: RouterProcess) -> bool:
    return await router.in_flight() == 0


async def test_a_client_that_leaves_is_charged_what_came(tmp_path: Path) -> None:
    async with emulator("a", SLOW) as engine:
        text = configuration(engine.address, workers=2)
        text = text.replace("to: demo,", f"to: demo, {TOKENS},")
        async with serving(tmp_path, text) as router:
            hello = [{"role": "user", "content": "hi"}]
            body = {"model": "emulated", "messages": hello, "max_tokens": 470, "stream": True}
            url = f"{router.api}/v1/chat/completions"
            async with router.session.post(url, json=body, headers={"x-team": "red"}) as answer:
                assert answer.status == 200
                assert (await asked(router, "red", 120))[0] == 429, "all is reserved"
                await answer.content.readuntil(b"data: ")
            await until(lambda: nothing_runs(router))
            status, headers, _ = await asked(router, "red", 120)
            assert status == 200
            assert int(headers["x-ratelimit-remaining-tokens"]) > 200


DIGESTS = {n: hashlib.sha256(f"key-of-{n}".encode()).hexdigest() for n in ("gold", "free")}
TENANTS = f"""
tenants:
  - name: gold
    keys: {{sha256: {DIGESTS["gold"]}}}
    limits: {{requests: {{rate: 1/d, burst: 3}}, models: {{emulated: {{tokens: 100k/d}}}}}}
  - name: free
    keys: {{sha256: {DIGESTS["free"]}}}
    limits: {{requests: {{rate: 1/d, burst: 2}}}}
"""


async def test_a_tenants_limits_hold_for_its_key(tmp_path: Path) -> None:
    async with emulator("a") as engine:
        found = {}
        text = configuration(engine.address, workers=2, extra=TENANTS)
        async with serving(tmp_path, text) as router:
            hello = [{"role": "user", "content": "hi"}]
            body = {"model": "emulated", "messages": hello, "max_tokens": 9}
            for name in ("gold", "free"):
                statuses = []
                for _ in range(4):
                    headers = {"authorization": f"Bearer key-of-{name}"}
                    url = f"{router.api}/v1/chat/completions"
                    async with router.session.post(url, json=body, headers=headers) as answer:
                        statuses.append(answer.status)
                found[name] = statuses
            assert found == {"gold": [200, 200, 200, 429], "free": [200, 200, 429, 429]}
            seen = (await router.get("/limits?model=emulated&tenant=gold"))["limits"]
            assert [(one["tenant"], one["name"]) for one in seen] == [
                ("gold", "tenant gold requests"),
                ("gold", "tenant gold model emulated tokens"),
                ("free", "tenant free requests"),
            ]
            assert seen[0]["remaining"] < 0.1
            assert 99_900 < seen[1]["remaining"] < 100_000


@pytest.mark.tool
async def test_two_routers_share_a_limit_through_redis(
    tmp_path: Path, tool: Callable[..., str]
) -> None:
    (tmp_path / "other").mkdir()
    redis = RedisServer(tool("redis-server"), tmp_path)
    await redis.start()
    shared = f'redis: {{address: "{redis.address}", timeout: 5s}}'
    limits = "limits: [{max_tokens: 10, tokens_per_fill: 1, fill_interval: 1h, scope: global}]"
    async with emulator("a") as engine:
        text = configuration(engine.address, workers=2, extra=shared)
        text = text.replace("to: demo,", f"to: demo, {limits},")
        async with serving(tmp_path, text) as one, serving(tmp_path / "other", text) as two:
            asked_both = [ask(router, "red") for router in (one, two) for _ in range(15)]
            answers = await asyncio.gather(*asked_both)
            assert Counter(answer.status for answer in answers) == {200: 10, 429: 20}
            await until(lambda: reached(one, 2))
            status, seen = await one.ask("POST", "/explain", {"model": "emulated"})
            assert status == 200
            assert seen["admission"]["limits"][0]["scope"] == "global"
            await redis.stop()
            await ask(one, "red")
            await until(lambda: logged(one, "the store of shared rate limits is lost"))
            await redis.start()
            await until(lambda: logged(one, "the store of shared rate limits is back"))
    await redis.stop()


async def logged(router: RouterProcess, words: str) -> bool:
    return any(words in line for line in router.log)


async def reached(router: RouterProcess, workers: int) -> bool:
    return await router.metric("warmpath_shared_limits_reached") == workers

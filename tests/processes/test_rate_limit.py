"""A rate limit as clients meet it, over two worker processes."""

import asyncio
from collections import Counter
from pathlib import Path

import aiohttp

from tests.processes.router_process import RouterProcess, configuration, emulator, serving

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
            assert 0 <= int(good.headers["x-ratelimit-remaining"]) < 10

            refused = next(answer for answer in answers if answer.status == 429)
            assert refused.headers["x-ratelimit-remaining"] == "0"
            assert int(refused.headers["retry-after"]) > 3000
            assert (await refused.json())["error"]["code"] == "rate_limit_exceeded"

            assert (await ask(router, "blue")).status == 200
            # What was used up stays used up over a reload.
            assert (await router.ask("POST", "/reload", {}))[0] == 200
            assert (await ask(router, "red")).status == 429

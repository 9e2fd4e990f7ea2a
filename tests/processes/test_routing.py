"""A whole router whose configuration changes requests, answers some and lets web pages in."""

import json
from typing import Any

from tests.processes.router_process import configuration, emulator, serving, until

FIRST = """\
routes:
  - name: moved
    match: {path: {prefix: /old/}}
    redirect: {prefix: /v1/, status: 308}
  - {name: pot, match: {path: /pot}, direct_response: {status: 418, body: teapot}}
"""
MORE = """\
aliases: {gpt-4o: emulated}
sizes: {small: {prompt_tokens: {max: 50}}, large: {}}
cors: {allow_origins: "https://a.test"}
"""
PAGE = {"origin": "https://a.test"}


async def test_a_configuration_with_everything_that_routes_can_do(tmp_path):
    async with emulator("a") as a:
        text = configuration(a.address, cluster="adapters: {sql-lora: emulated}", extra=MORE)
        text = text.replace(
            "{name: all, to: demo,",
            "{name: all, match: {model: emulated, size: small}, to: demo, "
            'headers: {response: {set: {x-route: "%ROUTE_NAME%"}}},',
        )
        text = text.replace("routes:\n", FIRST)
        async with serving(tmp_path, text) as router:

            async def ask(content: str = "hello", **headers: str) -> tuple[int, Any, Any]:
                body = {
                    "model": "gpt-4o",
                    "messages": [{"role": "user", "content": content}],
                    "max_tokens": 2,
                }
                async with router.session.post(
                    f"{router.api}/old/chat/completions", json=body, headers=headers
                ) as answer:
                    return answer.status, answer.headers, await answer.json()

            # The redirect is followed with its body, the alias told to the engine as its model.
            status, headers, answer = await ask(**PAGE)
            assert (status, answer["model"]) == (200, "emulated")
            assert headers["x-route"] == "all"
            assert headers["access-control-allow-origin"] == PAGE["origin"]
            assert (await ask("x" * 400))[0] == 404  # large

            async with router.session.get(f"{router.api}/pot") as pot:
                assert (pot.status, await pot.text()) == (418, "teapot")
            async with router.session.get(f"{router.api}/v1/models", headers=PAGE) as listing:
                models = {one["id"]: one for one in (await listing.json())["data"]}
                assert listing.headers["access-control-allow-origin"] == PAGE["origin"]
            assert {"emulated", "sql-lora", "gpt-4o"} <= set(models)
            assert models["sql-lora"]["parent"] == "emulated"
            preflight = PAGE | {"access-control-request-method": "POST"}
            async with router.session.options(
                f"{router.api}/v1/chat/completions", headers=preflight
            ) as asked:
                assert asked.status == 200

            await until(lambda: len(router.lines) >= 6)
            lines = [json.loads(line) for line in router.lines]
            seen = {(line["route"], line["status"], line["flag"]) for line in lines}
            assert {("moved", 308, "-"), ("all", 200, "-"), ("pot", 418, "-")} <= seen
            sample = (
                'warmpath_requests_total{cluster="-",code="418",flag="-",model="-",route="pot"}'
            )
            assert await router.metric(sample) == 1
            told = await router.ask(
                "POST", "/explain", {"model": "gpt-4o", "prompt": "hello", "max_tokens": 2}
            )
            assert told[1]["changes"]["model"] == "emulated"

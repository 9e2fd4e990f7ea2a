"""A real engine tells what its cache holds, and the router expects what it then finds."""

import json
from pathlib import Path

import pytest

from tests.integration.stack import free_port, process, until_ok
from tests.processes.router_process import RouterProcess, configuration, serving, until

pytestmark = pytest.mark.timeout(180)

MODEL = "warmpath-demo"
EVENTS = {
    "enable_kv_cache_events": True,
    "endpoint": "tcp://127.0.0.1:0",
    "replay_endpoint": "tcp://127.0.0.1:0",
}
TOPICS = ("whales", "taxes", "knots", "moss", "tides")
BLOCK = 16


def body(topic: str) -> dict[str, object]:
    text = f"Tell me all that you know of {topic}, and of what {topic} are to others. " * 12
    messages = [{"role": "user", "content": text}]
    return {"model": MODEL, "messages": messages, "max_tokens": 4, "temperature": 0}


async def ask(router: RouterProcess, topic: str) -> tuple[int, int]:
    """Tokens of the prompt, and how many of them were cached."""
    url = f"{router.api}/v1/chat/completions"
    async with router.session.post(url, json=body(topic)) as answer:
        assert answer.status == 200, await answer.text()
        assert "x-kv-prefix-tip" not in answer.headers
        usage = (await answer.json())["usage"]
    return usage["prompt_tokens"], (usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0


async def expected(router: RouterProcess, topic: str) -> float:
    """The share of the prompt: how many tokens it has the router has hardly learned yet."""
    status, told = await router.ask("POST", "/explain", {"body": body(topic)})
    assert status == 200, told
    (row,) = told["candidates"]
    share: float = row["scores"]["cached_tokens"] / told["balancer"]["notes"]["prompt_tokens"]
    return share


async def test_what_a_real_engine_evicts_is_not_expected(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "engine.log"
    options = ("--port", str(port), "--served-model-name", MODEL, "--block-size", str(BLOCK))
    small = ("--num-gpu-blocks-override", "40", "--max-model-len", "512")
    events = ("--kv-events-config", json.dumps(EVENTS))
    address = f"127.0.0.1:{port}"
    text = configuration(address, cluster="kv_events: auto").replace(
        "round_robin", "predicted_ttft"
    )
    with process("engine.cli", "serve", *options, *small, *events, log=log):
        await until_ok(f"http://{address}/health", log)
        async with serving(tmp_path, text) as router:

            async def known(names: int) -> bool:
                seen = (await router.endpoints())[address]["kv_events"]
                return bool(seen["in_step"]) and seen["names"] >= names

            await until(lambda: known(0))
            assert (await ask(router, "whales"))[1] == 0
            await until(lambda: known(1))
            prompt, cached = await ask(router, "whales")
            assert cached > prompt - 2 * BLOCK
            assert await expected(router, "whales") == pytest.approx(cached / prompt, abs=0.1)
            for topic in TOPICS[1:]:
                await ask(router, topic)
            await until(lambda: expects_nothing(router, "whales"))
            assert await expected(router, "tides") > 0.9
            assert (await ask(router, "whales"))[1] < 2 * BLOCK, "what the template begins with"


async def expects_nothing(router: RouterProcess, topic: str) -> bool:
    return await expected(router, topic) == 0

"""From a real router's log back into the simulator: what was measured, and what is simulated."""

import asyncio
import json
import random

from click.testing import CliRunner

from engine.emulator.profiles import PROFILES
from router.cli.main import main
from tests.processes.router_process import configuration, emulator, serving, until

ENGINE = PROFILES["h100-8b-hbm"]
"""The simulator's profile ``hbm``, in sockets."""

SESSIONS, TURNS, BLOCK = 10, 5, 4096
"""Each turn adds 1024 tokens, four bytes each, and ends where a checkpoint is."""


def prompt(session: int, turn: int) -> list[dict[str, str]]:
    """As JSON its bytes are those of the turns before, and then more."""
    rng = random.Random(f"session {session}")
    text = "".join(rng.choices("abcdefgh", k=BLOCK * (turn + 1)))
    return [{"role": "user", "content": text}]


async def converse(router, session: int) -> None:
    await asyncio.sleep(0.2 * session)
    for turn in range(TURNS):
        body = {
            "model": "emulated",
            "messages": prompt(session, turn),
            "max_tokens": 12,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        async with router.session.post(f"{router.api}/v1/chat/completions", json=body) as answer:
            assert answer.status == 200
            await answer.read()
        await asyncio.sleep(0.3)


async def test_a_real_routers_log(tmp_path):
    extra = "access_log: {prefix: salted}\n"
    async with emulator("a", ENGINE) as a, emulator("b", ENGINE) as b:
        text = configuration(a.address, b.address, extra=extra)
        async with serving(tmp_path, text) as router:
            await asyncio.gather(*(converse(router, session) for session in range(SESSIONS)))
            url = f"{router.api}/v1/embeddings"
            async with router.session.post(url, json={"model": "emulated", "input": "x"}) as answer:
                await answer.read()
            async with router.session.get(f"{router.api}/v1/models") as answer:
                await answer.read()
            await until(lambda: len(router.lines) >= SESSIONS * TURNS + 1)
            (tmp_path / "access.log").write_text("\n".join(router.lines))
    asked = ["replay", str(tmp_path / "access.log"), "--jobs", "1", "-o", "json"]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert (told["cluster"], told["endpoints"], told["in_force"]) == ("demo", 2, "round_robin")
    assert told["replayed"] == SESSIONS * TURNS
    assert sum(told["excluded"].values()) == told["lines"] - SESSIONS * TURNS > 0
    said, again = told["logged"], told["as_it_was"]
    assert said["requests"] == again["requests"]
    assert abs(said["hit_rate"]["mean"] - again["hit_rate"]["mean"]) < 0.15
    assert 0.3 < said["hit_rate"]["mean"] < 0.9
    # On an idle machine within 5 %; what a busy one adds, and in which order it lets requests that
    # come at once go first, is its own.
    assert 0.5 < said["ttft_mean"]["mean"] / again["ttft_mean"]["mean"] < 5
    sticky = next(one for one in told["policies"] if one["policy"] == "predicted_ttft")
    assert sticky["measures"]["hit_rate"]["mean"] > again["hit_rate"]["mean"] + 0.05

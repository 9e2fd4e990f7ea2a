"""What the router expects of real engines' caches, against what they say they found.

    python -m bench.mirror --trace tau_airline_text.jsonl.gz

Agents' recorded conversations (a header line, then ``{"session", "messages"}`` a line) go, turn by
turn and a few at a time, through a router with its default balancer to two of our own engines on
the CPU: the demo model, told that its context is longer, for what it answers does not matter. Tool
calls and their results become text. Printed are the tokens that the mirror expected to be cached
and those that the engines counted, from the router's own metrics.
"""

import asyncio
import gzip
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import click

from bench.replicas import RESULTS, running

CHECKPOINT = Path(__file__).parent.parent / "engine/demo/checkpoint"
CONTEXT = 65_536
MODEL = "demo"
CACHE_BLOCKS = 8192
COUNTERS = ("compared", "expected", "found")


def checkpoint(folder: Path) -> Path:
    """The demo model with a longer context."""
    copy = folder / "checkpoint"
    shutil.copytree(CHECKPOINT, copy)
    config = json.loads((copy / "config.json").read_text())
    config["max_position_embeddings"] = CONTEXT
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def conversations(path: Path, most: int) -> Iterator[list[dict[str, str]]]:
    with gzip.open(path, "rt") as lines:
        next(lines)
        for _, line in zip(range(most), lines, strict=False):
            yield [plain(message) for message in json.loads(line)["messages"]]


def plain(message: dict[str, Any]) -> dict[str, str]:
    role = message["role"] if message["role"] in ("system", "user", "assistant") else "user"
    content = message.get("content") or json.dumps(message.get("tool_calls", ""))
    return {"role": role, "content": str(content)}


async def talk(session: aiohttp.ClientSession, port: int, messages: list[dict[str, str]]) -> int:
    """All turns of one conversation, as they were recorded; how many there were."""
    turns = 0
    for position, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        body = {"model": MODEL, "max_tokens": 2, "messages": messages[:position]}
        async with session.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body) as reply:
            if reply.status != 200:
                raise RuntimeError(f"{reply.status}: {await reply.text()}")
            await reply.read()
        turns += 1
    return turns


async def totals(session: aiohttp.ClientSession, admin: int) -> dict[str, float]:
    """Tokens, as the router counted them."""
    found: dict[str, float] = {}
    async with session.get(f"http://127.0.0.1:{admin}/metrics") as answer:
        for line in (await answer.text()).splitlines():
            for name in COUNTERS:
                if line.startswith(f"warmpath_cache_mirror_{name}_tokens_total"):
                    found[name] = found.get(name, 0.0) + float(line.rsplit(" ", 1)[1])
    return found


async def measure(trace: Path, sessions: int, at_a_time: int) -> tuple[int, dict[str, float]]:
    """Turns, and the tokens compared, expected and found."""
    with tempfile.TemporaryDirectory() as folder:
        copy = checkpoint(Path(folder))
        command = (
            *("engine.cli", "serve", str(copy), "--served-model-name", MODEL),
            *("--num-gpu-blocks-override", str(CACHE_BLOCKS)),
        )
        async with (
            running({"type": "predicted_ttft"}, [command, command]) as (api, admin, _),
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
        ):
            turn = asyncio.Semaphore(at_a_time)

            async def one(messages: list[dict[str, str]]) -> int:
                async with turn:
                    return await talk(session, api, messages)

            counts = await asyncio.gather(*map(one, conversations(trace, sessions)))
            await asyncio.sleep(2.0)  # until workers have reported
            return sum(counts), await totals(session, admin)


@click.command()
@click.option("--trace", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--sessions", default=12, show_default=True)
@click.option("--at-a-time", default=3, show_default=True)
def main(trace: Path, sessions: int, at_a_time: int) -> None:
    """Compare expected and found tokens."""
    turns, tokens = asyncio.run(measure(trace, sessions, at_a_time))
    compared, expected, found = (tokens[name] for name in COUNTERS)
    text = (
        f"{turns} turns of {sessions} conversations, {compared:,.0f} tokens of prompts: "
        f"{found:,.0f} found in caches ({found / compared:.1%}), {expected:,.0f} expected; "
        f"off by {abs(expected - found) / found:.1%}\n"
    )
    print(text)
    RESULTS.mkdir(exist_ok=True)
    head = (
        "# Expected and found tokens of two real engines\n\n`python -m bench.mirror` wrote it.\n\n"
    )
    (RESULTS / "mirror.md").write_text(head + text)


if __name__ == "__main__":
    main()

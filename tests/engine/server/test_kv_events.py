"""KV events of the serving engine, from the flag to a subscriber."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from engine.cli import main
from tests.engine.kv_events.listening import ANY_PORT, Peers
from tests.engine.kv_events.shadow import events_of
from tests.engine.server.serving import Running, serving

CONFIG = {
    "enable_kv_cache_events": True,
    "endpoint": ANY_PORT,
    "replay_endpoint": ANY_PORT,
    "topic": "kv",
}
FLAGS = ("--kv-events-config", json.dumps(CONFIG), "--block-size", "4")


@pytest.fixture
def peers() -> Iterator[Peers]:
    made = Peers()
    yield made
    made.close()


def names(tokens: list[int], salt: str = "") -> list[int]:
    """The chain of the full blocks of four."""
    digest, chain = f"warmpath:{salt}".encode(), []
    for start in range(0, len(tokens) - 3, 4):
        digest = hashlib.sha256(digest + struct.pack("<4q", *tokens[start : start + 4])).digest()
        chain.append(int.from_bytes(digest[-8:], "big"))
    return chain


async def complete(server: Running, prompt: object, **fields: object) -> str:
    """The tip in the head of the answer."""
    body: dict[str, Any] = {"prompt": prompt, "max_tokens": 2, "ignore_eos": True, **fields}
    async with (
        aiohttp.ClientSession(server.url) as http,
        http.post("/v1/completions", json=body) as answer,
    ):
        assert answer.status == 200
        await answer.read()
        return answer.headers["x-kv-prefix-tip"]


def tip(tokens: list[int], salt: str = "") -> str:
    chain = names(tokens, salt)
    return f"{chain[-1]:016x}:{len(chain)}"


@pytest.mark.parametrize("stream", [False, True])
async def test_blocks_are_told_by_the_names_that_answers_give(
    checkpoint: Path, peers: Peers, stream: bool
) -> None:
    async with serving(checkpoint, *FLAGS) as server:
        assert server.service.publisher is not None
        subscriber = peers.subscriber(server.service.publisher, b"kv")
        prompt = list(range(10, 23))
        assert await complete(server, prompt, stream=stream) == tip(prompt)
        (stored,) = events_of(subscriber.recv_multipart()[2])
        assert stored["block_hashes"] == names(prompt)
        assert (stored["token_ids"], stored["block_size"]) == (prompt[:12], 4)
        # The second differs in its third block: only that one is new.
        other = [*prompt[:8], 1, 2, 3, 4, 5]
        assert await complete(server, other, stream=stream) == tip(other)
        (stored,) = events_of(subscriber.recv_multipart()[2])
        assert stored["block_hashes"] == names(other)[2:]
        assert stored["parent_block_hash"] == names(other)[1]
        # Under a salt nothing is shared, and the event says so.
        salted = await complete(server, prompt, stream=stream, cache_salt="tenant")
        assert salted == tip(prompt, "tenant") != tip(prompt)
        (stored,) = events_of(subscriber.recv_multipart()[2])
        assert stored["extra_keys"] == [["tenant"], None, None]


async def test_each_prompt_of_a_list_has_its_tip(checkpoint: Path) -> None:
    async with serving(checkpoint, *FLAGS) as server:
        prompts = [[5, 6, 7, 8], [1, 2], [9] * 8]
        wanted = ", ".join([tip(prompts[0]), "-:0", tip(prompts[2])])
        assert await complete(server, prompts, n=2) == wanted
        assert await complete(server, prompts, stream=True) == wanted


async def test_sources_and_metrics(checkpoint: Path, peers: Peers) -> None:
    async with serving(checkpoint, *FLAGS) as server, aiohttp.ClientSession(server.url) as http:
        publisher = server.service.publisher
        assert publisher is not None
        async with http.get("/kv_event_sources") as answer:
            (source,) = await answer.json()
        assert (source["endpoint"], source["topic"]) == (publisher.endpoint, "kv")
        assert source["replay_endpoint"] == publisher.replay_endpoint
        # What warmed the engine up was told, and then told to be gone.
        replay, told = peers.replay(publisher, 0), []
        while (frames := replay.recv_multipart())[3]:
            told += [event["type"] for event in events_of(frames[3])]
        assert told[0] == "BlockStored"
        assert told[-1] == "AllBlocksCleared"
        async with http.get("/metrics") as answer:
            page = await answer.text()
        labels = 'engine="0",model_name="tiny"'
        assert f"kv_event_replays_total{{{labels}}} 1.0" in page
        assert f'kv_event_batches_lost_total{{{labels},reason="error"}} 0.0' in page


async def test_nothing_is_told_unless_asked_for(server: Running) -> None:
    async with aiohttp.ClientSession(server.url) as http:
        async with http.get("/kv_event_sources") as answer:
            assert await answer.json() == []
        async with http.get("/metrics") as answer:
            assert "kv_event" not in await answer.text()
        async with http.post("/v1/completions", json={"prompt": "hi", "max_tokens": 1}) as answer:
            assert "x-kv-prefix-tip" not in answer.headers


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--kv-events-config", "{"], "--kv-events-config': not valid JSON"),
        (["--kv-events-config", '{"publisher": "kafka"}'], "--kv-events-config: publisher must be"),
        (["--kv-events-config", '{"bufer": 1}'], "unknown field `bufer`"),
        (
            ["--no-enable-prefix-caching", "--kv-events-config", '{"enable_kv_cache_events":true}'],
            "--kv-events-config: KV events need prefix caching",
        ),
    ],
)
def test_what_cannot_be_published_ends_with_two(
    checkpoint: Path, flags: list[str], complaint: str
) -> None:
    result = CliRunner().invoke(main, ["serve", str(checkpoint), "--port", "0", *flags])
    assert result.exit_code == 2
    assert complaint in " ".join(result.output.split())

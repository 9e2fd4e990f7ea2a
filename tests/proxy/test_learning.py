"""What balancers that learn are told: of prompts before a pick, of usage after an answer."""

import asyncio
import json
from collections.abc import Sequence
from typing import ClassVar

import pytest

from engine.emulator import Emulator, EmulatorConfig
from router.core.balancers.base import Accounts, Balancer, BalancerSpec
from router.core.balancers.round_robin import RoundRobin
from router.core.clock import Rng
from router.core.host import HostState, Outcome
from router.core.listener import ListenerLimits
from router.core.memory import ClusterMemory
from router.core.model import EndpointId, LlmRequest
from router.core.prefix.blocks import checkpoints, seed_of
from tests.proxy.rig import EngineConnection, Rig, answering, chat, whole


class NotedWork:
    """One attempt, as its endpoint's engine told of it."""

    def __init__(self, request: LlmRequest) -> None:
        self.request = request
        self.told: list[str] = []
        self.counted: tuple[int, int | None] | None = None

    def first_token(self, now: float, streamed: bool) -> None:
        self.told.append("first token")

    def ended(self, outcome: Outcome, now: float) -> None:
        self.told.append(outcome.name)

    def usage(self, prompt: int, cached: int | None) -> None:
        assert self.counted is None
        self.told.append("usage")
        self.counted = prompt, cached


class Notes:
    """The cluster's accounts."""

    def __init__(self) -> None:
        self.works: list[NotedWork] = []

    def begin(self, request: LlmRequest, host: HostState, now: float) -> NotedWork:
        self.works.append(NotedWork(request))
        return self.works[-1]


class Noting:
    """Takes turns, and notes what becomes of attempts."""

    class Spec(BalancerSpec, frozen=True, kw_only=True, tag="noting"):
        reads_prompt: ClassVar[bool] = True  # type: ignore[misc]

        def build(self, rng: Rng, memory: ClusterMemory) -> Balancer:
            return Noting(memory.keep(Notes), RoundRobin.Spec().build(rng, memory))

    def __init__(self, notes: Notes, turns: Balancer) -> None:
        self.accounts: Accounts = notes
        self._turns = turns

    def pick(
        self,
        request: LlmRequest,
        hosts: Sequence[HostState],
        rng: Rng,
        tried: tuple[EndpointId, ...] = (),
        now: float = 0.0,
    ) -> tuple[HostState, str]:
        return self._turns.pick(request, hosts, rng, tried, now)


def works(rig: Rig) -> list[NotedWork]:
    """Of all attempts, once what ended was recorded."""
    assert rig.recorder.records is not None
    return rig.fleet.memory("c").keep(Notes).works


PROMPT = "tell me a story " * 200
ENGINE = EmulatorConfig(models=("m",))
APIS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": PROMPT}]},
    "/v1/completions": {"prompt": PROMPT},
    "/v1/responses": {"input": PROMPT, "max_output_tokens": 4},
    "/v1/messages": {"messages": [{"role": "user", "content": PROMPT}]},
}


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_from_the_cache_reach_the_balancer(rig: Rig, path: str, stream: bool) -> None:
    """As the engine counted them, from answers in one piece and from streams that tell."""
    fields = {"model": "m", "max_tokens": 4, "stream": stream, **APIS[path]}
    if stream and "completions" in path:
        fields["stream_options"] = {"include_usage": True}
    rig.balancer = Noting.Spec()
    async with Emulator(ENGINE) as engine:
        await rig.start(engine.port)
        client = await rig.client()
        for _ in range(2):
            await client.send(chat(json.dumps(fields).encode(), path))
            assert (await client.response())[0] == 200
        first, second = works(rig)
        assert first.told == second.told == ["first token", "SUCCESS", "usage"]
        assert first.counted is not None and second.counted is not None
        assert first.counted[0] == second.counted[0] > 500
        assert first.counted[1] == 0
        assert second.counted[1] is not None
        assert second.counted[0] // 2 < second.counted[1] < second.counted[0]


async def test_a_stream_that_does_not_tell_is_left_as_it_is(rig: Rig) -> None:
    fields = {"model": "m", "max_tokens": 4, "stream": True, **APIS["/v1/chat/completions"]}
    body = json.dumps(fields).encode()
    rig.balancer = Noting.Spec()
    seen = asyncio.Event()

    async def engine(connection: EngineConnection) -> None:
        assert (await connection.request())[1] == body
        seen.set()
        await connection.send(whole(b"{}"))

    await rig.start(engine)
    assert (await rig.post(body))[0] == 200
    await seen.wait()
    [work] = works(rig)
    assert work.counted is None


async def test_an_error_is_no_usage(rig: Rig) -> None:
    rig.balancer = Noting.Spec()
    answer = whole(b'{"usage":{"prompt_tokens":5}}', "400 Bad Request")
    await rig.start(answering(answer))
    assert (await rig.post())[0] == 400
    [work] = works(rig)
    assert work.told == ["SUCCESS"]


async def test_prompts_are_named_only_for_those_who_read_them(rig: Rig) -> None:
    """From a reload on, if it brings such a balancer; an upload by what has come of it."""
    messages = [{"role": "user", "content": PROMPT * 6}]
    body = json.dumps({"model": "m", "messages": messages}).encode()
    inside = body[body.index(b"[") + 1 : -2]
    expected = checkpoints([inside], seed_of("m"))
    rig.limits = ListenerLimits(buffer_body=10_000)
    await rig.start(answering())
    await rig.post(body)
    assert works(rig) == []
    rig.balancer = Noting.Spec()
    rig.director.update(rig.snapshot())
    client = await rig.client()
    await client.send(chat(body)[:-5000])
    await rig.until(lambda: len(works(rig)) == 1)
    await client.send(body[-5000:])
    await client.response()
    rig.limits = ListenerLimits()
    rig.director.update(rig.snapshot())
    await rig.post(body)
    early, late = (work.request for work in works(rig))
    assert late.checkpoints == expected != ()
    assert late.prompt_bytes == len(inside)
    assert 0 < len(early.checkpoints) < len(expected)
    assert early.checkpoints == expected[: len(early.checkpoints)]
    assert early.prompt_bytes == len(inside) + 2

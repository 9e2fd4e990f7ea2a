"""Every fault the emulated engine has, streamed and not, beside a sound engine."""

import json

import pytest

from engine.emulator import Emulator, EmulatorConfig
from router.core.retry.policy import RetryOn, RetryPolicy
from router.core.routing import Timeouts
from tests.proxy.rig import Rig, chat

CONFIG = EmulatorConfig(models=("m",))
# What becomes of requests that meet the fault: all served elsewhere, or broken off with a code.
FAULTS: dict[str, str | None] = {
    "status=503": None,
    "status=500": None,
    "hang": None,
    "reset_before_head": None,
    "fin_before_head": None,
    "garbage_head": None,
    "reset_mid=3": "upstream_reset",
    "fin_mid=3": "upstream_reset",
    "bad_chunk=3": "",
    "stall=3": "stream_idle_timeout",
    "hang_after_head": "stream_idle_timeout",
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
async def test_fault(rig: Rig, fault: str, stream: bool) -> None:
    """No client is told of a fault that a retry mends, none takes half an answer for a whole."""
    rig.retry = RetryPolicy(attempts=1, on=RetryOn.FIVE_XX, min_retry_concurrency=10)
    rig.timeouts = Timeouts(first_byte=0.15, idle=0.15)
    cut = FAULTS[fault]
    body = {
        "model": "m",
        "stream": stream,
        "max_tokens": 8,
        "messages": [{"role": "user", "content": "hi"}],
    }
    async with Emulator(CONFIG) as bad, Emulator(CONFIG) as good:
        await rig.start(bad.port, good.port)
        bad.faults.add(fault)
        sound = 0
        for _ in range(4):
            client = await rig.client()
            await client.send(chat(json.dumps(body).encode(), Connection="close"))
            answer = await client.rest()
            assert answer.startswith(b"HTTP/1.1 200"), answer
            if _whole(answer):
                sound += 1
            else:
                assert cut is not None
                assert b"[DONE]" not in answer
                assert not stream or cut.encode() in answer
        # What shows within the first read can still be mended, so some more may be sound.
        assert sound == 4 if cut is None else sound >= 2
        await rig.settled()
        assert bad.requests.active == good.requests.active == 0


def _whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        return body.endswith(b"\r\n0\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    return len(body) == length


async def test_conversation_of_a_crashing_engine_goes_on(rig: Rig) -> None:
    async with Emulator(CONFIG) as first, Emulator(CONFIG) as second:
        await rig.start(first.port, second.port)
        body = json.dumps(
            {"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}
        )
        client = await rig.client()
        for turn in range(10):
            if turn == 4:
                await first.stop()
            await client.send(chat(body.encode()))
            status, _, answer = await client.response()
            assert status == 200
            assert json.loads(answer)["usage"]["completion_tokens"] == 4
        assert {record.prompt_tokens for record in rig.recorder.records} != {None}

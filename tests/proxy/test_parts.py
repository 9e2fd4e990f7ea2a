"""The wheel, the chunked coding and the usage of a response, each alone."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.proxy.chunked import ChunkedDecoder, ChunkError, chunk
from router.proxy.timers import NEVER, SLOTS, TICK, Timed, Wheel
from router.proxy.usage import usage
from router.telemetry.version import COMPILED

_INTERPRETED = pytest.mark.skipif(COMPILED, reason="a compiled class has no interpreted subclass")


class Alarm(Timed):
    def __init__(self) -> None:
        super().__init__()
        self.at: list[float] = []

    def expired(self, now: float) -> None:
        self.at.append(now)


class Clockwork:
    """A wheel whose time a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ticks = 0
        self.wheel = Wheel(lambda: self.now, self.ticked)

    def ticked(self, now: float) -> None:
        self.ticks += 1

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + TICK, end)
            self.wheel._tick()


@pytest.fixture
async def works() -> Clockwork:
    return Clockwork()


@_INTERPRETED
@pytest.mark.parametrize("timeout", [0.001, TICK, 0.1, 1.0, SLOTS * TICK, 60.0])
async def test_deadline(works: Clockwork, timeout: float) -> None:
    alarm = Alarm()
    works.wheel.set(alarm, works.now + timeout)
    due = works.now + timeout
    works.advance(timeout - TICK / 2)
    assert alarm.at == [] or timeout < TICK
    works.advance(3 * TICK)
    [at] = alarm.at
    assert due <= at <= due + 2 * TICK
    assert alarm.deadline == NEVER
    works.wheel.stop()


@_INTERPRETED
async def test_deadline_moved_on_costs_no_entries(works: Clockwork) -> None:
    alarm = Alarm()
    works.wheel.set(alarm, works.now + 1)
    for _ in range(1000):
        works.advance(0.01)
        works.wheel.set(alarm, works.now + 1)
    assert alarm.at == []
    assert repr(works.wheel).startswith("<Wheel entries=1 ")
    works.wheel.stop()


@_INTERPRETED
async def test_deadline_moved_up(works: Clockwork) -> None:
    alarm = Alarm()
    works.wheel.set(alarm, works.now + 10)
    works.wheel.set(alarm, works.now + 0.1)
    works.advance(0.2)
    assert len(alarm.at) == 1
    works.advance(20)
    assert len(alarm.at) == 1
    works.wheel.stop()


@_INTERPRETED
async def test_deadline_taken_back(works: Clockwork) -> None:
    alarm = Alarm()
    works.wheel.set(alarm, works.now + 0.1)
    works.wheel.set(alarm, NEVER)
    works.advance(1)
    assert alarm.at == []
    assert "entries=0" in repr(works.wheel)
    works.wheel.set(alarm, works.now + 0.1)
    works.advance(1)
    assert len(alarm.at) == 1
    works.wheel.stop()


@_INTERPRETED
async def test_wheel_rests_when_it_is_empty() -> None:
    ticks = 0

    def ticked(now: float) -> None:
        nonlocal ticks
        ticks += 1

    loop = asyncio.get_running_loop()
    wheel = Wheel(loop.time, ticked)
    await asyncio.sleep(3 * TICK)
    assert ticks == 0
    alarm = Alarm()
    wheel.set(alarm, loop.time() + TICK)
    await asyncio.sleep(6 * TICK)
    assert len(alarm.at) == 1
    seen = ticks
    await asyncio.sleep(3 * TICK)
    assert ticks == seen


@_INTERPRETED
async def test_alarm_that_fails_does_not_stop_the_others(works: Clockwork) -> None:
    class Faulty(Alarm):
        def expired(self, now: float) -> None:
            raise RuntimeError("oops")

    reported: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    alarms = [Faulty(), Alarm()]
    for alarm in alarms:
        works.wheel.set(alarm, works.now + 0.1)
    works.advance(0.2)
    loop.set_exception_handler(None)
    assert len(alarms[1].at) == 1
    assert [type(error) for error in reported] == [RuntimeError]
    works.wheel.stop()


@_INTERPRETED
async def test_late_tick_misses_nothing(works: Clockwork) -> None:
    """The loop was blocked for longer than a turn of the wheel."""
    rng = random.Random(5)
    alarms = [Alarm() for _ in range(200)]
    for alarm in alarms:
        works.wheel.set(alarm, works.now + rng.uniform(0, 40))
    works.now += 45
    works.wheel._tick()
    works.advance(3 * TICK)
    assert all(len(alarm.at) == 1 for alarm in alarms)
    works.wheel.stop()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=50)), st.binary(max_size=20), st.data())
def test_chunks_however_they_are_cut(
    payload: list[bytes], rest: bytes, data: st.DataObject
) -> None:
    wire = b"".join(map(chunk, payload)) + b"0\r\n\r\n" + rest
    decoder = ChunkedDecoder()
    read, position = b"", 0
    while not decoder.done:
        size = data.draw(st.integers(1, 30))
        read += b"".join(decoder.feed(wire[position : position + size]))
        position += size
    assert read == b"".join(payload)
    assert decoder.rest + wire[position:] == rest


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_chunks_or_refused(wire: bytes) -> None:
    """What is taken for chunks byte by byte is so at once too, with the same payload."""

    def run(size: int) -> tuple[bytes, bool] | None:
        decoder = ChunkedDecoder()
        read = b""
        try:
            for at in range(0, len(wire), size):
                if decoder.done:
                    break
                read += b"".join(decoder.feed(wire[at : at + size]))
        except ChunkError:
            return None
        return read, decoder.done

    whole, single = run(len(wire) or 1), run(1)
    if whole is not None and whole[1]:
        assert single == whole
    if single is not None and single[1]:
        assert whole == single


USAGE: dict[str, tuple[list[bytes], tuple[int | None, int | None, int | None]]] = {
    "none": ([b'{"choices":[]}'], (None, None, None)),
    "null": ([b'{"usage":null}'], (None, None, None)),
    "OpenAI": (
        [b'{"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}'],
        (1, 2, None),
    ),
    "cached": (
        [b'{"usage":{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":7}}}'],
        (1, None, 7),
    ),
    "Anthropic": ([b'{"usage":{"input_tokens":4,"output_tokens":5}}'], (4, 5, None)),
    "Anthropic, cached": (
        [b'{"usage":{"input_tokens":4,"cache_read_input_tokens":3,"output_tokens":5}}'],
        (7, 5, 3),
    ),
    "Anthropic, streamed": (
        [b'"usage":{"input_tokens":4,"cache_read_input_tokens":3,', b'"output_tokens":5}}\n\n'],
        (7, 5, 3),
    ),
    "Anthropic, kept for later": (
        [b'{"usage":{"input_tokens":4,"cache_creation_input_tokens":90,"output_tokens":5}}'],
        (94, 5, None),
    ),
    "Responses": (
        [b'{"usage":{"input_tokens":4,"input_tokens_details":{"cached_tokens":2}},"id":"a"}'],
        (4, None, 2),
    ),
    "within": ([b'{"response":{"usage":{"input_tokens":6}}}'], (6, None, None)),
    "not as it should be": (
        [b'{"usage":{"prompt_tokens":8,"completion_tokens":"9"}}'],
        (8, None, None),
    ),
    "negative": ([b'{"usage":{"prompt_tokens":-8,"completion_tokens":9}}'], (None, 9, None)),
    "not JSON": ([b'{"usage":{"prompt_tokens":3,\xff'], (3, None, None)),
    "in two reads": ([b'..."usage":{"prompt_tok', b'ens":12}}'], (12, None, None)),
    "the last one": (
        [b'"usage":{"prompt_tokens":1}', b'"usage":{"prompt_tokens":2}'],
        (2, None, None),
    ),
    "text": ([b'{"content":"\\"usage\\":{\\"prompt_tokens\\":1}"}'], (None, None, None)),
}


@pytest.mark.parametrize("name", USAGE)
def test_usage(name: str) -> None:
    tail, expected = USAGE[name]
    assert usage(tail) == expected

"""Engines with round figures, and a way to let them run."""

from typing import Any

from router.sim.engine import Engine, Job
from router.sim.profile import Profile

ROUND = Profile(
    step=10,
    per_prefill_token=1,
    per_token_context=0,
    per_decode=2,
    per_kv_token=0,
    per_reloaded_token=3,
    step_tokens=100,
    max_sequences=4,
    kv_tokens=1000,
)
"""In units of time rather than picoseconds: a step of 10, a token of 1."""


def engine(*, jump: bool = True, **fields: Any) -> Engine:
    return Engine(
        Profile(**{name: getattr(ROUND, name) for name in ROUND.__struct_fields__} | fields),
        10,
        jump=jump,
    )


def job(key: int, prompt: int, answer: int, first_block: int | None = None) -> Job:
    """Its blocks are numbered from ``first_block`` on, else they are its own."""
    start = key * 1000 if first_block is None else first_block
    return Job(key, tuple(range(start, start + prompt // 10)), prompt, answer)


def run(engine: Engine, *arrivals: tuple[int, Job]) -> list[tuple[int, str, int]]:
    """Let everything happen: (time, ``first`` or ``done``, key)."""
    story: list[tuple[int, str, int]] = []
    pending = sorted(arrivals, key=lambda one: one[0])
    while pending or engine.ends is not None:
        if pending and (engine.ends is None or pending[0][0] <= engine.ends):
            at, one = pending.pop(0)
            engine.submit(one, at)
            continue
        assert engine.ends is not None
        now = engine.ends
        first, done = engine.advance()
        story += [(now, "first", one.key) for one in first]
        story += [(now, "done", one.key) for one in done]
    return story

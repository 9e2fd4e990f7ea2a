"""Traffic that nobody recorded: sessions drawn from a description in YAML.

A session begins with one of the system prompts; each turn asks something, gets an answer, and
comes back with all that was said so far after some time to think. Sessions come at random. The
result is a trace like any other: one description always gives the same.
"""

import random
from collections.abc import Iterator
from math import exp, log
from pathlib import Path
from typing import Annotated, Final

import msgspec

from router.config import check
from router.config.document import read
from router.config.findings import ConfigError
from router.config.load import read_texts
from router.config.section import Section, doc
from router.config.units import Duration
from router.sim.trace import Row, Trace, assemble

Tokens = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]

NINETY_NINE: Final = 2.3263
"""Standard deviations below which 99 % of a normal distribution lie."""

PER_TOKEN: Final = 0.02
"""Seconds: a client waits for its answer before it thinks about it."""

MOST: Final = 1_000_000
"""Requests of one description."""

WIDEST: Final = 1 << 20
"""Between the first ids of two sessions: no prompt has more blocks."""


def _log_normal(median: float, p99: float, rng: random.Random) -> float:
    return median * exp(rng.gauss(0.0, log(p99 / median) / NINETY_NINE))


def _ordered(median: float, p99: float) -> None:
    if not 0 < median <= p99:
        raise ValueError(f"p99 is at least the median, and both are above 0: {median:g}, {p99:g}")


class Lengths(Section, frozen=True, kw_only=True):
    """Log-normal, as lengths of prompts and answers are."""

    median: Annotated[Tokens, doc("Half are shorter.")]
    p99: Annotated[Tokens, doc("One in a hundred is longer.")]

    def __post_init__(self) -> None:
        _ordered(self.median, self.p99)

    def draw(self, rng: random.Random) -> int:
        """At least 1."""
        return max(1, round(_log_normal(self.median, self.p99, rng)))


class Pause(Section, frozen=True, kw_only=True):
    """Log-normal."""

    median: Duration
    p99: Duration

    def __post_init__(self) -> None:
        _ordered(self.median, self.p99)

    def draw(self, rng: random.Random) -> float:
        return _log_normal(self.median, self.p99, rng)


class SystemPrompt(Section, frozen=True, kw_only=True):
    tokens: Tokens
    weight: Annotated[
        Annotated[float, msgspec.Meta(gt=0)], doc("How many sessions have it, relatively.")
    ] = 1.0


class Sessions(Section, frozen=True, kw_only=True):
    """A description of traffic."""

    question: Annotated[Lengths, doc("Tokens that a turn adds.")]
    answer: Annotated[Lengths, doc("Tokens of an answer.")]
    system_prompts: Annotated[list[SystemPrompt], doc("Each session begins with one of them.")] = (
        msgspec.field(default_factory=list)
    )
    turns: Annotated[
        Annotated[float, msgspec.Meta(ge=1, le=1000)], doc("Of a session, on average (geometric).")
    ] = 1.0
    think: Annotated[Pause, doc("From an answer to the next question.")] = Pause(
        median=Duration(20), p99=Duration(300)
    )
    context: Annotated[Tokens, doc("A session ends before its prompt is longer.")] = 131_072
    block: Annotated[Tokens, doc("Tokens in a block of the engines' caches.")] = 64
    span: Annotated[Duration, doc("How long a trace is drawn.")] = Duration(3600)
    rate: Annotated[
        Annotated[float, msgspec.Meta(gt=0, le=1000)], doc("Requests a second in it, about.")
    ] = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.span * self.rate <= MOST:
            raise ValueError(f"rate times span is at most {MOST} requests, and above 0")
        longest = max((prompt.tokens for prompt in self.system_prompts), default=0)
        if longest >= self.context:
            raise ValueError(f"a system prompt of {longest} tokens fills the context")


def described(path: Path) -> Trace:
    """The traffic that a file describes.

    Raises:
        ConfigError: what it says makes no sense.
    """
    document = read(read_texts([path]), {})
    sessions, problems = check.convert(document, Sessions)
    if problems or sessions is None:
        raise ConfigError(document.locate(problem) for problem in problems)
    return trace(path.name.partition(".")[0], sessions)


def trace(name: str, sessions: Sessions) -> Trace:
    """Draw the traffic."""
    rng = random.Random(f"sessions {name}")
    found: list[Row] = []
    begun, number = 0.0, 0
    while begun < sessions.span:
        turns = _session(number, begun, sessions, rng)
        found += (row for row in turns if row.at < sessions.span * 1000)
        number += 1
        begun += rng.expovariate(sessions.rate / sessions.turns)
    common = frozenset(
        id_ for index in range(len(sessions.system_prompts)) for id_ in _system(sessions, index)
    )
    return assemble(name, sessions.block, found, common)


def _system(sessions: Sessions, index: int) -> range:
    """Ids of the full blocks of a system prompt."""
    start = index * WIDEST
    return range(start, start + sessions.system_prompts[index].tokens // sessions.block)


def _own(sessions: Sessions, number: int) -> int:
    """The first id that is only this session's."""
    return (len(sessions.system_prompts) + number) * WIDEST


def _session(number: int, begun: float, sessions: Sessions, rng: random.Random) -> Iterator[Row]:
    """Its turns, the last ones perhaps beyond the span."""
    said, at = 0, begun
    system = range(0)
    if prompts := sessions.system_prompts:
        (index,) = rng.choices(range(len(prompts)), [prompt.weight for prompt in prompts])
        said, system = prompts[index].tokens, _system(sessions, index)
    own = _own(sessions, number)
    while True:
        said += sessions.question.draw(rng)
        if said > sessions.context:
            return
        ids = (*system, *range(own, own + said // sessions.block - len(system)))
        answer = sessions.answer.draw(rng)
        yield Row(round(at * 1000), said, answer, ids, number)
        if rng.random() < 1 / sessions.turns:
            return
        said += answer
        at += answer * PER_TOKEN + sessions.think.draw(rng)

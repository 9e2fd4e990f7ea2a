"""The two traces of the routing benchmark: conversations, and conversations among tool calls.

Conversations are Mooncake's, as recorded at Kimi (12,031 requests in an hour, Apache-2.0):

    https://github.com/kvcache-ai/Mooncake  FAST25-release/traces/conversation_trace.jsonl

Its trace of tool calls is modelled on top of that, in the shape of what was published of it: with
each conversation request come calls of an agent with a system prompt of 6,144 tokens, and of one
with 2,560, each with a short tail of its own.
"""

import gzip
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from router.sim.trace import Trace, load

CONVERSATIONS = ("mooncake_conversation.jsonl.gz", "conversation_trace.jsonl")
TOOLS = "toolagent_like.jsonl.gz"

BLOCK = 512
LONG_PROMPT, SHORT_PROMPT = 12, 5
"""Blocks of the two system prompts."""
LONG_CALLS, SHORT_CALLS = 0.933, 0.399
"""Calls for each conversation request, on average."""

NEEDED = """\
This benchmark takes the whole hour of Mooncake's conversation trace; the ten minutes that come
with the package are too short. Fetch FAST25-release/traces/conversation_trace.jsonl of
github.com/kvcache-ai/Mooncake and name its directory by --traces or WARMPATH_TRACES."""


def trace_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``--traces`` and ``--jobs``."""
    traces = click.option(
        "--traces",
        envvar="WARMPATH_TRACES",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Directory of the traces; WARMPATH_TRACES in the environment otherwise.",
    )
    count = click.IntRange(min=1)
    jobs = click.option("--jobs", type=count, help="Processes; as many as there are cores.")
    return traces(jobs(command))


class TracesMissing(RuntimeError):
    """There are no traces where they were looked for."""


def find(directory: Path | None, made: Path) -> dict[str, Path]:
    """The traces by kind, ``conv`` and ``tool``.

    Args:
        directory: holds the conversations, and the tool calls if they were made before.
        made: a directory for what is made here.

    Raises:
        TracesMissing: no conversations there.
    """
    there = [directory / name for name in CONVERSATIONS] if directory is not None else []
    conversations = next((path for path in there if path.is_file()), None)
    if directory is None or conversations is None:
        names = " or ".join(CONVERSATIONS)
        where = "where are the traces?" if directory is None else f"no {names} in {directory}."
        raise TracesMissing(f"{where}\n{NEEDED}")
    tools = directory / TOOLS
    if not tools.is_file():
        tools = made / TOOLS
        write(tools, load(conversations))
    return {"conv": conversations, "tool": tools}


def write(path: Path, conversations: Trace) -> None:
    """Make the trace of tool calls."""
    lines = [json.dumps({"block": BLOCK, "source": "modelled by bench/routing_traces.py"})]
    lines += [json.dumps(row) for row in rows(conversations, random.Random("tool calls"))]
    path.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


def rows(conversations: Trace, rng: random.Random) -> Iterator[list[Any]]:
    """Conversations with tool calls among them, at the same instants."""
    unused = 1 + max(id_ for one in conversations.requests for id_ in one.blocks)
    long = list(range(unused, unused + LONG_PROMPT))
    short = list(range(unused + LONG_PROMPT, unused + LONG_PROMPT + SHORT_PROMPT))
    unused += LONG_PROMPT + SHORT_PROMPT
    for one in conversations.requests:
        yield [one.at, one.prompt, one.answer, one.blocks]
        for _ in range(_count(LONG_CALLS, rng)):
            tail = min(3000, max(20, round(rng.expovariate(1 / 694))))
            answer = 3 if rng.random() < 0.72 else rng.randrange(30, 56)
            yield [one.at, LONG_PROMPT * BLOCK + tail, answer, [*long, *range(unused, unused + 6)]]
            unused += 6
        for _ in range(_count(SHORT_CALLS, rng)):
            tail = rng.randrange(350, 1001)
            answer = rng.randrange(15, 27)
            yield [one.at, SHORT_PROMPT * BLOCK + tail, answer, [*short, unused, unused + 1]]
            unused += 2


def _count(mean: float, rng: random.Random) -> int:
    """Arrivals while the time between two is exponential (Poisson)."""
    count, left = 0, rng.expovariate(1.0)
    while left < mean:
        count += 1
        left += rng.expovariate(1.0)
    return count

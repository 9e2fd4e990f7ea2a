"""An access log in the simulator's terms: its requests as a trace, its answers as outcomes.

A prompt is cut into the router's blocks of 512 bytes, so many tokens each as all of the log's
prompts have on average. A block's id comes of the shallowest checkpoint that is not before it: from
16 blocks on a checkpoint stands for several of them, and two prompts that part between two
checkpoints are taken to part after the first. What follows the last checkpoint is nobody else's.
"""

import gzip
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from router.core.prefix.blocks import BLOCK, GAINS
from router.sim.access_log import Entry, Line, Log
from router.sim.outcome import End, Outcome
from router.sim.profile import picoseconds
from router.sim.trace import Header, Row, TraceError
from router.sim.workload import Arrival
from router.telemetry.prompt_names import NAME_BYTES

MOST_BLOCKS: Final = 20_000_000
"""Of all prompts together: 2.5 billion tokens."""

USUAL_TOKENS: Final = 128
"""In a block, where no line tells: four bytes each."""


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """What a cluster was asked, and what came of it.

    Attributes:
        outcomes: in order of the rows. ``cached`` is 0 where the engine did not tell.
        known_cached: positions of those whose engine did.
        lone: positions of those that met an endpoint with nothing else to do.
        endpoints: that were sent anything.
        estimated: requests that failed, whose tokens are therefore estimated.
        reasons: the balancer's words, and how often they stand in the log.
    """

    header: Header
    rows: list[Row]
    outcomes: list[Outcome]
    known_cached: frozenset[int]
    lone: list[int]
    endpoints: int
    estimated: int
    reasons: Counter[str]

    def write(self, path: Path) -> None:
        """As a trace file."""
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(msgspec.json.encode(self.header) + b"\n")
            for row in self.rows:
                file.write(msgspec.json.encode(row) + b"\n")

    def hit_rate(self, begin: float) -> float | None:
        """Of what was answered from then on, so far as engines told; None where none did."""
        found = [
            self.outcomes[index]
            for index in self.known_cached
            if self.outcomes[index].end is End.DONE
            and self.outcomes[index].arrival.at >= picoseconds(begin)
        ]
        tokens = sum(one.arrival.prompt for one in found)
        return sum(one.cached for one in found) / tokens if tokens else None


def record(log: Log) -> Recording:
    """One cluster's log in the simulator's terms.

    Raises:
        TraceError: it has more prompt text than is sensible.
    """
    lines = [entry.line for entry in log.entries]
    counted = [line for line in lines if line.prompt_tokens and line.completion_tokens is not None]
    usual = _Usual(counted)
    ids, begin = _Ids(), log.entries[0].at
    streams = any(line.stream for line in lines)
    rows = [
        Row(
            entry.at - begin,
            usual.prompt(entry.line),
            usual.answer(entry.line),
            ids.of(entry.names),
            None,
            # Where nothing is streamed nobody saw a first token: simulated ones are shown then.
            entry.line.stream if streams else None,
            entry.line.model,
            entry.line.tenant,
        )
        for entry in log.entries
    ]
    endpoints = sorted({line.endpoint for line in lines if line.endpoint != "-"})
    outcomes, lone = [], []
    told = zip(log.entries, rows, _busy(log.entries, endpoints), strict=True)
    for index, (entry, row, busy) in enumerate(told):
        outcomes.append(_outcome(index + 1, row, entry.line, _crowd(busy)))
        if busy.get(entry.line.endpoint, 1) == 0:
            lone.append(index)
    return Recording(
        header=Header(block=usual.block, block_bytes=BLOCK, source="an access log"),
        rows=rows,
        outcomes=outcomes,
        lone=lone,
        known_cached=frozenset(
            index for index, line in enumerate(lines) if line.cached_tokens is not None
        ),
        endpoints=len(endpoints),
        estimated=len(lines) - len(counted),
        reasons=Counter(line.reason for line in lines),
    )


class _Usual:
    """How many tokens there are where a line does not say.

    Args:
        lines: those that do.
    """

    def __init__(self, lines: Sequence[Line]) -> None:
        told = [(line.prompt_tokens or 0, line.prompt_bytes) for line in lines if line.prompt_bytes]
        tokens, size = sum(one for one, _ in told), sum(size or 0 for _, size in told)
        self._per_byte = tokens / size if size else USUAL_TOKENS / BLOCK
        self._prompt = round(median(line.prompt_tokens or 1 for line in lines)) if lines else 1
        self._answer = round(median(line.completion_tokens or 1 for line in lines)) if lines else 1
        self.block = max(1, round(BLOCK * self._per_byte))

    def prompt(self, line: Line) -> int:
        if line.prompt_tokens and line.completion_tokens is not None:
            return line.prompt_tokens
        if line.prompt_bytes:
            return max(1, round(line.prompt_bytes * self._per_byte))
        return self._prompt

    def answer(self, line: Line) -> int:
        return self._answer if line.completion_tokens is None else line.completion_tokens


class _Ids:
    """Small numbers for blocks, in the order in which they are first seen."""

    def __init__(self) -> None:
        self._first: dict[bytes, int] = {}
        self._next = self._blocks = 0

    def of(self, names: bytes) -> tuple[int, ...]:
        """Of the blocks up to the last name."""
        found: list[int] = []
        for at, gain in zip(range(0, len(names), NAME_BYTES), GAINS, strict=False):
            name = names[at : at + NAME_BYTES]
            first = self._first.get(name)
            if first is None:
                first = self._first[name] = self._next
                self._next += gain
            found.extend(range(first, first + gain))
        self._blocks += len(found)
        if self._blocks > MOST_BLOCKS:
            raise TraceError(
                f"the prompts have more than {MOST_BLOCKS} blocks of {BLOCK} bytes: give fewer "
                "files, or a --duration"
            )
        return tuple(found)


def _outcome(key: int, row: Row, line: Line, crowd: float) -> Outcome:
    at = picoseconds(row.at / 1000)
    end = End.DONE
    if line.failed:
        end = End.REFUSED if line.ttft is None or line.status >= 400 else End.FAILED
    return Outcome(
        arrival=Arrival(
            key=key,
            at=at,
            prompt=row.prompt,
            answer=max(row.answer, 1),
            blocks=(),
            conversation=0,
            stream=line.stream and (end is not End.DONE or line.ttft is not None),
        ),
        end=end,
        replica=-1,
        attempts=1,
        cached=min(line.cached_tokens or 0, row.prompt),
        first=-1 if line.ttft is None else at + picoseconds(line.ttft),
        done=at + picoseconds(line.duration),
        crowd=crowd,
    )


def _busy(entries: Sequence[Entry], endpoints: Sequence[str]) -> Iterator[Mapping[str, int]]:
    """Requests at each endpoint just before each of the requests comes.

    The same mapping again and again, which changes meanwhile.
    """
    at_each = dict.fromkeys(endpoints, 0)
    changes: list[tuple[float, int, str]] = []  # when, -1 for one more or 1 for one fewer, where
    for entry in entries:
        now, line = entry.at / 1000, entry.line
        while changes and changes[0] < (now, 0, ""):
            _, fewer, endpoint = heappop(changes)
            at_each[endpoint] -= fewer
        yield at_each
        if line.endpoint != "-":
            heappush(changes, (now + min(line.queued, line.duration), -1, line.endpoint))
            heappush(changes, (now + line.duration, 1, line.endpoint))


def _crowd(at_each: Mapping[str, int]) -> float:
    """The most that are at one endpoint over the mean of all."""
    total = sum(at_each.values())
    return max(at_each.values()) * len(at_each) / total if total else 1.0

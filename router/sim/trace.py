"""Recorded traffic: when requests came, how long they were, and what their prompts share.

A trace is JSON lines, gzipped or not: first an object, then for each request a list

    [milliseconds, prompt tokens, answer tokens, [block ids], session, stream, model, tenant]

The object has ``block``, the tokens in a block, where there are ids, and may have ``block_bytes``,
the bytes of text in one. An id stands for the whole
prompt up to and including its block: equal ids are equal prefixes. A last, partial block may have
one; it is not used. All from the ids on may be missing: prompts without ids share nothing. Files of
the Mooncake project, which have an object for each request and no first line, are read as they are.
"""

import gzip
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Annotated, Final

import msgspec

COMMON: Final = 0.05
"""Share of a trace's requests from which a block belongs to a system prompt. The longest
conversation of Mooncake's has 0.4 % of the requests, of a ten-minute slice 2 %; the system prompts
of the traces at hand have 17 % and more."""

USUAL_BLOCK: Final = 512

Tokens = Annotated[int, msgspec.Meta(ge=1)]


class TraceError(ValueError):
    """A trace cannot be read, or not be used so; says why."""


class Header(msgspec.Struct, frozen=True):
    """``block_bytes`` 0: four to a token."""

    block: Tokens = USUAL_BLOCK
    source: str = ""
    block_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One request as it is in a file. ``at`` in milliseconds."""

    at: int
    prompt: Tokens
    answer: Annotated[int, msgspec.Meta(ge=0)]
    ids: tuple[int, ...] = ()
    session: int | None = None
    stream: bool | None = None
    model: str | None = None
    tenant: str | None = None


class MooncakeRow(msgspec.Struct, frozen=True, gc=False):
    timestamp: int
    input_length: Tokens
    output_length: Annotated[int, msgspec.Meta(ge=0)]
    hash_ids: tuple[int, ...] = ()


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """One request. ``at`` in milliseconds; ``blocks`` are ids of the prompt's full blocks.

    ``conversation`` is the same for the turns of one. ``stream`` None: nobody knows.
    """

    at: int
    prompt: int
    answer: int
    blocks: tuple[int, ...]
    conversation: int
    stream: bool | None = None
    model: str | None = None
    tenant: str | None = None


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """Requests in order of time, the first at 0.

    Attributes:
        block: tokens in a block.
        common: blocks of system prompts, which all users of a deployment share.
        batch: milliseconds between the instants at which requests come, where two or more do on
            average; otherwise 1.
        block_bytes: of text in a block; 0: four to a token.
    """

    name: str
    block: int
    requests: tuple[Recorded, ...]
    common: frozenset[int]
    batch: int
    block_bytes: int = 0

    @property
    def span(self) -> float:
        """Seconds of traffic."""
        return (self.requests[-1].at + self.batch) / 1000

    @property
    def rate(self) -> float:
        """Requests a second, on average."""
        return len(self.requests) / self.span


def load(path: Path) -> Trace:
    """Read a trace.

    Raises:
        TraceError: it is none.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError) as error:
        raise TraceError(f"{path}: {error}") from None
    lines = [line for line in data.splitlines() if line.strip()]
    rows: list[Row] = []
    number, header = 1, Header()
    try:
        if lines and b'"timestamp"' in lines[0]:
            for number, line in enumerate(lines, 1):  # noqa: B007 - named in the error
                one = msgspec.json.decode(line, type=MooncakeRow)
                rows.append(Row(one.timestamp, one.input_length, one.output_length, one.hash_ids))
        elif lines:
            header = msgspec.json.decode(lines[0], type=Header)
            for number, line in enumerate(lines[1:], 2):  # noqa: B007
                rows.append(msgspec.json.decode(line, type=Row))
    except msgspec.DecodeError as error:
        raise TraceError(f"{path}:{number}: {error}") from None
    if not rows:
        raise TraceError(f"{path}: no requests")
    trace = assemble(path.name.partition(".")[0], header.block, rows)
    return msgspec.structs.replace(trace, block_bytes=header.block_bytes)


def assemble(
    name: str, block: int, rows: Sequence[Row], common: frozenset[int] | None = None
) -> Trace:
    """A trace of at least one row, in any order.

    Args:
        common: ids of system prompts, where that is known; else they are guessed, see ``COMMON``.
    """
    rows = sorted(rows, key=lambda row: row.at)
    seen = Counter(id_ for row in rows for id_ in row.ids)
    if common is None:
        enough = max(1, COMMON * len(rows))
        common = frozenset(id_ for id_, count in seen.items() if count > enough)
    unused = max(seen, default=0) + 1
    requests = []
    for row in rows:
        full = row.prompt // block
        blocks = row.ids[:full]
        if not row.ids:
            blocks = tuple(range(unused, unused + full))
        own = next((id_ for id_ in blocks if id_ not in common), None)
        if own is None or not row.ids:
            own, unused = unused, unused + full + 1
        conversation = own if row.session is None else row.session
        requests.append(
            Recorded(
                *(row.at - rows[0].at, row.prompt, max(row.answer, 1), blocks, conversation),
                *(row.stream, row.model, row.tenant),
            )
        )
    return Trace(
        name=name, block=block, requests=tuple(requests), common=common, batch=_batch(requests)
    )


def _batch(requests: Sequence[Recorded]) -> int:
    instants = sorted({request.at for request in requests})
    if len(requests) < 2 * len(instants) or len(instants) < 2:
        return 1
    return round(median(later - earlier for earlier, later in pairwise(instants)))

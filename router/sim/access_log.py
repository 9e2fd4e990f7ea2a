"""The router's own access log, read as traffic.

Only lines of requests that a model answered, or should have, are of use. Each of the others is
counted by why it is not. Files may come in any order, compressed or not, and may overlap.
"""

import gzip
import io
import zlib
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated, Any, Final, cast

import msgspec

from router.core.prefix.blocks import DEPTHS
from router.sim.trace import TraceError
from router.telemetry.prompt_names import NAME_BYTES

STDIN: Final = Path("-")

LONGEST_LINE: Final = 1 << 20
MOST_LINES: Final = 500_000
"""Requests of one log; of 2000 tokens or so they take two gigabytes."""

GENERATES: Final = frozenset(
    {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"}
)

BROKEN: Final = "no whole JSON object"
OTHER: Final = "no line of the access log"
ENDLESS: Final = "longer than 1 MiB"
CUT_FILE: Final = "the rest of a compressed file that ends early"
TWICE: Final = "in the log already"
COPY: Final = "copies for a mirror"
PATH: Final = "no generation (embeddings, models and the like)"
UNROUTED: Final = "ended before a cluster was chosen"
LIMITED: Final = "refused by a rate limit"
INJECTED: Final = "failed on purpose (fault injection)"
NAMELESS: Final = "no prefix hashes"
MISNAMED: Final = "prefix hashes that cannot be read"
REJECTED: Final = "refused by the engine for what they asked (4xx)"
UNCOUNTED: Final = "no usage: how many tokens is not known"
ELSEWHERE: Final = "of other clusters"
LATE: Final = "after the time that was asked for"

_LIMITS: Final = frozenset({"RL", "RLSE"})
_LOAD: Final = frozenset({408, 429})
"""Statuses below 500 that tell of too much to do, not of a bad request."""

Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Line(msgspec.Struct, gc=False):
    """What is read of a line; see docs/access-log.md."""

    time: Annotated[datetime, msgspec.Meta(tz=True)]
    request_id: str
    path: str
    cluster: str
    endpoint: str
    model: str
    stream: bool
    status: int
    flag: str
    reason: str
    duration: Seconds
    queued: Seconds
    ttft: Seconds | None
    prompt_tokens: Count | None
    completion_tokens: Count | None
    cached_tokens: Count | None
    tenant: str | None = None
    prompt_bytes: Count | None = None
    prefix: str | None = None
    shadow: bool = False

    @property
    def failed(self) -> bool:
        """For want of room or of an engine."""
        return self.status >= 500 or self.status in _LOAD or (self.flag not in ("-", "DC"))


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A request to replay.

    Attributes:
        at: Unix milliseconds.
        line: without its prefix.
        names: of the prompt's beginnings, ``NAME_BYTES`` for each depth, the shallowest first.
    """

    at: int
    line: Line
    names: bytes


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """``lines``: of the files, blank ones apart. ``excluded``: how many of them, and why."""

    entries: list[Entry]
    lines: int
    excluded: Counter[str]

    def clusters(self) -> Counter[str]:
        return Counter(entry.line.cluster for entry in self.entries)

    def only(self, cluster: str) -> "Log":
        """What one cluster was asked."""
        kept = [entry for entry in self.entries if entry.line.cluster == cluster]
        return self._kept(kept, ELSEWHERE)

    def first(self, seconds: float) -> "Log":
        """What came in so many seconds from the first request on."""
        end = self.entries[0].at + seconds * 1000
        return self._kept([entry for entry in self.entries if entry.at < end], LATE)

    def _kept(self, entries: list[Entry], why: str) -> "Log":
        excluded = Counter(self.excluded)
        if left := len(self.entries) - len(entries):
            excluded[why] += left
        return Log(entries=entries, lines=self.lines, excluded=excluded)


def read(paths: Sequence[Path], stdin: IO[bytes], *, prefix: bool = True) -> Log:
    """Read log files.

    Args:
        paths: in any order; ``-`` is ``stdin``.
        prefix: whether lines must name their prompts' beginnings.

    Raises:
        TraceError: a file cannot be read, or there is nothing to replay in them.
    """
    if paths.count(STDIN) > 1:
        raise TraceError("standard input can be read only once")
    excluded: Counter[str] = Counter()
    entries: list[Entry] = []
    seen: set[tuple[int, str, str, str]] = set()
    lines = 0
    for path in paths:
        for text in _lines(path, stdin, excluded):
            lines += 1
            found = _entry(text, prefix)
            if isinstance(found, str):
                excluded[found] += 1
                continue
            line = found.line
            key = (found.at, line.request_id, line.cluster, line.endpoint)
            if key in seen:
                excluded[TWICE] += 1
                continue
            seen.add(key)
            entries.append(found)
            if len(entries) > MOST_LINES:
                raise TraceError(f"more than {MOST_LINES} requests to replay: give fewer files")
    if not entries:
        raise TraceError(_nothing(lines, excluded))
    entries.sort(key=lambda entry: (entry.at, entry.line.request_id))
    return Log(entries=entries, lines=lines + excluded[ENDLESS], excluded=excluded)


def _nothing(lines: int, excluded: Counter[str]) -> str:
    if excluded[NAMELESS]:
        return (
            f"no line names the beginning of its prompt ({excluded[NAMELESS]} could): set "
            "`access_log: {prefix: salted}` and log anew, or replay --without-prefix, where "
            "nothing is ever found in a cache"
        )
    told = "; ".join(f"{count} {why}" for why, count in excluded.most_common())
    hint = " (the log's format must be json, its default)" if excluded[BROKEN] == lines > 0 else ""
    return f"nothing to replay in {lines} lines" + (f": {told}" if told else "") + hint


def _lines(path: Path, stdin: IO[bytes], excluded: Counter[str]) -> Iterator[bytes]:
    """Without blank ones. What is too long is counted, and left out."""
    try:
        raw = stdin if path == STDIN else path.open("rb")
        with raw, _plain(raw) as stream:
            while line := stream.readline(LONGEST_LINE):
                if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                    while (more := stream.readline(LONGEST_LINE)) and not more.endswith(b"\n"):
                        pass
                    excluded[ENDLESS] += 1
                elif line.strip():
                    yield line
    except EOFError:
        excluded[CUT_FILE] += 1
    except (OSError, zlib.error) as error:
        raise TraceError(f"{path}: {error}") from None


def _plain(raw: IO[bytes]) -> IO[bytes]:
    """The text of a file that may be gzipped, whatever its name."""
    stream = io.BufferedReader(cast(Any, raw))
    if stream.peek(2)[:2] == b"\x1f\x8b":
        return cast(IO[bytes], gzip.GzipFile(fileobj=stream))
    return stream


_decode = msgspec.json.Decoder(Line).decode


def _entry(text: bytes, prefix: bool) -> Entry | str:
    """The request of a line, or why there is none to replay."""
    try:
        line = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return OTHER if _is_json(text) else BROKEN
    if why := _useless(line):
        return why
    names = b""
    if prefix:
        if line.prefix is None or line.prompt_bytes is None:
            return NAMELESS
        try:
            names = _names(line.prefix)
        except ValueError:
            return MISNAMED
    line.prefix = None
    return Entry(round(line.time.timestamp() * 1000), line, names)


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _useless(line: Line) -> str | None:
    """Why a request is not replayed, if it is not."""
    if line.shadow:
        return COPY
    if line.path not in GENERATES:
        return PATH
    if line.cluster == "-":
        return UNROUTED
    if line.flag in _LIMITS:
        return LIMITED
    if line.flag == "FI":
        return INJECTED
    if line.prompt_tokens and line.completion_tokens is not None:
        return None
    if 400 <= line.status < 500 and line.status not in _LOAD:
        return REJECTED
    return None if line.failed else UNCOUNTED


def _names(prefix: str) -> bytes:
    data = b64decode(prefix, validate=True)
    if len(data) % NAME_BYTES or len(data) > NAME_BYTES * len(DEPTHS):
        raise ValueError(f"{len(data)} bytes are not the names of so many depths")
    return data

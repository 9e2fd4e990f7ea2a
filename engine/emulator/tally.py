"""What the emulator has seen, for tests to ask: requests started, finished, aborted, per path."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, deque
from typing import Any, Final, NamedTuple

from engine.emulator.connection import Exchange

MAX_PATHS: Final = 64
MAX_ABORTS: Final = 4096
OTHER: Final = "(other)"


class Abort(NamedTuple):
    """A client that left: where, and when it came and was seen leaving (monotonic seconds)."""

    path: str
    arrived: float
    gone: float
    sent_tokens: int


class Seen(NamedTuple):
    """A request as it arrived; names and values of headers as sent, the body by its digest."""

    path: str
    method: str
    headers: dict[str, str]
    body_bytes: int
    body_sha256: str


class Tally:
    """Counters of requests on inference paths, and the last `record` of them in detail."""

    def __init__(self, record: int) -> None:
        self.started = 0
        self.finished = 0
        self.aborted = 0
        self.faulted = 0
        self.by_path: Counter[str] = Counter()
        self.aborts: deque[Abort] = deque(maxlen=MAX_ABORTS)
        self.seen: deque[Seen] = deque(maxlen=record)
        self._idle: asyncio.Event | None = None

    @property
    def active(self) -> int:
        """Requests being worked on."""
        return self.started - self.finished - self.aborted - self.faulted

    def start(self, exchange: Exchange) -> None:
        """A request arrived."""
        self.started += 1
        exchange.counted = True
        path = exchange.path
        known = path in self.by_path or len(self.by_path) < MAX_PATHS
        self.by_path[path if known else OTHER] += 1
        if self.seen.maxlen:
            self.seen.append(
                Seen(
                    path,
                    exchange.method.decode("latin-1"),
                    {k.decode("latin-1"): v.decode("latin-1") for k, v in exchange.headers.items()},
                    len(exchange.body),
                    hashlib.sha256(exchange.body).hexdigest(),
                )
            )

    def finish(self, exchange: Exchange) -> None:
        """A request got its whole answer, be it an error."""
        self.finished += 1
        self._end(exchange)

    def fault(self, exchange: Exchange) -> None:
        """A request was spoilt on purpose."""
        self.faulted += 1
        self._end(exchange)

    def abort(self, exchange: Exchange, now: float, sent_tokens: int) -> None:
        """Its client has gone."""
        self.aborted += 1
        self.aborts.append(Abort(exchange.path, exchange.arrival, now, sent_tokens))
        self._end(exchange)

    async def idle(self) -> None:
        """Wait until no request is being worked on."""
        while self.active:
            self._idle = asyncio.Event()
            await self._idle.wait()

    def _end(self, exchange: Exchange) -> None:
        exchange.counted = False
        if self._idle is not None and not self.active:
            self._idle.set()

    def to_mapping(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return {
            "started": self.started,
            "finished": self.finished,
            "aborted": self.aborted,
            "faulted": self.faulted,
            "active": self.active,
            "by_path": dict(self.by_path),
            "aborts": [a._asdict() for a in self.aborts],
            "seen": [s._asdict() for s in self.seen],
        }

    def __repr__(self) -> str:
        return (
            f"Tally(started={self.started}, finished={self.finished}, active={self.active}, "
            f"aborted={self.aborted}, faulted={self.faulted})"
        )

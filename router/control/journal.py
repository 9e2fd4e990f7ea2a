"""What happens to the router, as events that an operator can follow and resume.

Whoever sees something happen tells the journal: a kind from ``KINDS`` and plain fields. It keeps
the last ones and passes each on to those that follow. A follower that does not keep up is let go
and told so: it may resume from its last event. Ids name the router's run, so that an id of an
earlier run is known for what it is.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

HISTORY = 1024
"""Events that are kept."""
BACKLOG = 256
"""Events that a follower may be behind."""
MAX_FOLLOWERS = 64
MAX_TEXT = 500
MAX_ITEMS = 20

KINDS = {
    "health": "health checks changed their verdict on an endpoint",
    "ejection": "outlier detection ejected an endpoint, found it at fault, or took it back",
    "priority": "a cluster's load moved between priorities, or panic began or ended",
    "override": "an operator changed an endpoint's state or weight, or that came to its end",
    "drain": "a drain came to its end: drained, cancelled or undone",
    "discovery": "a cluster's endpoints changed, or their source failed or works again",
    "handover": "endpoints that leave are kept until one that replaces them serves, or no longer",
    "breaker": "a circuit breaker refuses requests, or no longer does",
    "prediction": "a cluster's caches hold something else than balancing expects, or no longer do",
    "kv_events": "what an endpoint's cache holds is told exactly, or estimated again",
    "reload": "a configuration came in force, or was refused",
    "certificate": "a certificate was read again, or could not be",
    "worker": "a worker process started, was found stuck, or died",
    "router": "the router drains, accepts again, or ends",
    "audit": "a call to the admin API that may change something",
}


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. ``at``: Unix seconds; ``fields``: by kind, bounded."""

    id: str
    number: int
    at: float
    kind: str
    fields: dict[str, Any]


class Tell(Protocol):
    """Takes what happened: a kind of ``KINDS`` and its fields."""

    def __call__(self, kind: str, /, **fields: Any) -> None: ...


def nobody(kind: str, /, **fields: Any) -> None:
    """For parts that are used without a journal."""


class TooManyFollowers(RuntimeError):
    """MAX_FOLLOWERS follow already."""


class Follower:
    """One that is told each event from now on.

    Attributes:
        lost: it was too slow and is told nothing more.
    """

    def __init__(self) -> None:
        self.lost = False
        self._waiting: deque[Event] = deque()
        self._wake = asyncio.Event()

    def put(self, event: Event) -> None:
        if len(self._waiting) >= BACKLOG:
            self.lost = True
        else:
            self._waiting.append(event)
        self._wake.set()

    async def next(self, timeout: float) -> Event | None:
        """The next event; None after ``timeout`` seconds without one, or when it is lost."""
        if not self._waiting and not self.lost:
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), timeout)
            except TimeoutError:
                return None
        return self._waiting.popleft() if self._waiting else None


class Journal:
    """The last events and those who follow them.

    Args:
        history: events that are kept.
        wall: Unix seconds.
    """

    def __init__(self, history: int = HISTORY, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._run = f"{int(wall() * 1000):x}"
        self._events: deque[Event] = deque(maxlen=history)
        self._followers: set[Follower] = set()
        self._count = 0
        self.lost = 0

    def add(self, kind: str, /, **fields: Any) -> None:
        """Something happened. Long texts and lists among the fields are cut.

        Raises:
            KeyError: the kind is not in ``KINDS``.
        """
        KINDS[kind]
        self._count += 1
        event = Event(
            id=f"{self._run}-{self._count}",
            number=self._count,
            at=self._wall(),
            kind=kind,
            fields={name: _cut(value) for name, value in fields.items()},
        )
        self._events.append(event)
        for follower in list(self._followers):
            follower.put(event)
            if follower.lost:
                self._followers.discard(follower)
                self.lost += 1

    def last(self, count: int) -> list[Event]:
        """The last ``count`` events that are kept, oldest first."""
        return list(self._events)[-count:] if count else []

    def since(self, id_: str) -> tuple[list[Event], bool]:
        """Events after the one of this id, and whether some between are kept no longer.

        After an id of another run, or none of ours, all that is kept comes, and some may be missed.
        """
        run, _, number = id_.partition("-")
        if run != self._run or not (number.isascii() and number.isdigit()):
            return list(self._events), True
        after = int(number)
        oldest = self._events[0].number if self._events else self._count + 1
        return [event for event in self._events if event.number > after], after + 1 < oldest

    def follow(self) -> Follower:
        """Be told each event from now on; to be ended by :meth:`leave`.

        Raises:
            TooManyFollowers: there are MAX_FOLLOWERS.
        """
        if len(self._followers) >= MAX_FOLLOWERS:
            raise TooManyFollowers(f"{MAX_FOLLOWERS} follow the events already")
        follower = Follower()
        self._followers.add(follower)
        return follower

    def leave(self, follower: Follower) -> None:
        self._followers.discard(follower)

    @property
    def followers(self) -> int:
        return len(self._followers)

    def __repr__(self) -> str:
        return f"<Journal {self._count} events, {len(self._followers)} followers>"


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return value[: MAX_TEXT - 1] + "…"
    if isinstance(value, list | tuple):
        shown = [_cut(item) for item in value[:MAX_ITEMS]]
        return shown if len(value) <= MAX_ITEMS else [*shown, f"and {len(value) - MAX_ITEMS} more"]
    return value

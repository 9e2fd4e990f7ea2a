"""A timer wheel: setting a deadline is one attribute store, not a ``call_later`` and a ``cancel``.

Connections are on the wheel, not requests: a connection has one ``deadline`` that its phases move
about. An entry sits in the slot of ``due``; when the wheel reaches it and the deadline has moved
on, the entry moves too. Only a deadline *before* ``due`` needs a new entry, and the one left
behind is recognised by its slot and dropped. So a busy connection touches the wheel about once
per turn, however many requests it carries.
"""

import asyncio
from collections.abc import Callable
from typing import Final

NEVER: Final = float("inf")

TICK: Final = 0.025
"""Seconds between two looks at the wheel: how late a deadline may be noticed."""

SLOTS: Final = 512
"""One turn is 12.8 s; what is due later goes round again."""


class Timed:
    """Something with a deadline. ``deadline`` and ``due`` are NEVER while there is none."""

    __slots__ = ("deadline", "due")

    def __init__(self) -> None:
        self.deadline = NEVER
        self.due = NEVER

    def expired(self, now: float) -> None:
        """The deadline has passed; it is NEVER now."""
        raise NotImplementedError


class Wheel:
    """Ticks only while something is on it.

    Args:
        clock: monotonic seconds.
        on_tick: called once per tick, for what else is to be looked at now and then.
    """

    __slots__ = ("_clock", "_cursor", "_entries", "_handle", "_on_tick", "_slots")

    def __init__(self, clock: Callable[[], float], on_tick: Callable[[float], None]) -> None:
        self._clock = clock
        self._on_tick = on_tick
        self._slots: list[list[tuple[float, Timed]]] = [[] for _ in range(SLOTS)]
        self._cursor = int(clock() / TICK)
        self._entries = 0
        self._handle: asyncio.TimerHandle | None = None

    def set(self, timed: Timed, deadline: float) -> None:
        """Expire ``timed`` at ``deadline`` (clock seconds), or not at all if it is NEVER."""
        timed.deadline = deadline
        if deadline < timed.due:
            self._place(timed, self._clock())

    def _place(self, timed: Timed, now: float) -> None:
        if self._handle is None:
            self._cursor = int(now / TICK)
            self._handle = asyncio.get_running_loop().call_later(TICK, self._tick)
        # Never the slot under the cursor: it may be the one being emptied.
        turn = min(max(int(timed.deadline / TICK) + 1, self._cursor + 1), self._cursor + SLOTS - 1)
        timed.due = turn * TICK
        self._slots[turn % SLOTS].append((timed.due, timed))
        self._entries += 1

    def _tick(self) -> None:
        now = self._clock()
        reached = int(now / TICK)
        for turn in range(self._cursor + 1, min(reached, self._cursor + SLOTS) + 1):
            self._cursor = turn
            entries = self._slots[turn % SLOTS]
            if entries:
                self._slots[turn % SLOTS] = []
                self._entries -= len(entries)
                for due, timed in entries:
                    if due == timed.due:
                        self._reached(timed, now)
        self._cursor = max(self._cursor, reached)
        self._on_tick(now)
        self._handle = None
        if self._entries:
            self._handle = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _reached(self, timed: Timed, now: float) -> None:
        timed.due = NEVER
        if timed.deadline <= now:
            timed.deadline = NEVER
            try:
                timed.expired(now)
            except Exception as error:  # one connection's fault must not stop everybody's clock
                context = {"message": f"deadline of {timed!r}", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
        elif timed.deadline != NEVER:
            self._place(timed, now)

    def stop(self) -> None:
        """Drop all entries and tick no more."""
        self._slots = [[] for _ in range(SLOTS)]
        self._entries = 0
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def __repr__(self) -> str:
        return f"<Wheel entries={self._entries} ticking={self._handle is not None}>"

"""An event loop whose time stands still while there is anything to do.

Where nothing is ready, it moves on at once to the next timer. So a scenario's seconds take no
time, and what comes out does not depend on how fast the machine is. It holds for what happens
within one process: what another one does takes time that this loop does not see.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

GRACE = 0.001
"""Real seconds in which what was sent over the loopback may still arrive before time moves on."""


class _Selector(selectors.DefaultSelector):
    """Lets its loop's time pass instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        ready = super().select(GRACE if timeout is not None else None)
        if not ready and timeout is not None:
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def in_virtual_time(story: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Make an ordinary test of a story that runs on such a loop."""

    @functools.wraps(story)
    def test() -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(story())

    return test

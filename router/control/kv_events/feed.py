"""What one worker is still to be told of caches.

A worker enters a few thousand names in a millisecond or two, while its streams wait. So it is told
so many at a time, and not before it has read what went before. One that falls too far behind is
told to rely on nothing, and then everything anew.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from router.control.messages import CachesChanged
from router.control.worker_process import WorkerProcess
from router.core.engine_cache.news import CacheNews

AT_ONCE: Final = 32 << 10
"""Bytes of names that are told at one time."""
MOST: Final = 16 << 20
"""Bytes that wait for one worker: two million names."""
MOST_UNREAD: Final = 1 << 20
"""Bytes in the worker's channel from which it is told nothing more for now."""

_EACH: Final = 64


class Feed:
    """Of one worker."""

    def __init__(self, worker: WorkerProcess) -> None:
        self._worker = worker
        self._waiting: deque[CacheNews] = deque()
        self._size = 0

    @property
    def open(self) -> bool:
        return self._worker.channel.open

    def add(self, news: Iterable[CacheNews]) -> bool:
        """Returns whether there was room; if not, it is left out."""
        news = list(news)
        size = sum(map(_size, news))
        if self._size + size > MOST:
            return False
        self._waiting.extend(news)
        self._size += size
        return True

    def begin_anew(self, news: Iterable[CacheNews]) -> None:
        """Forget what waits; tell this, for which there is always room."""
        self._waiting = deque(news)
        self._size = sum(map(_size, self._waiting))

    def tell(self) -> bool:
        """Send some of it; returns whether more waits."""
        if self._waiting and self._worker.channel.backlog < MOST_UNREAD:
            part: list[CacheNews] = []
            size = 0
            while self._waiting and size < AT_ONCE:
                part.append(self._waiting.popleft())
                size += _size(part[-1])
            self._size -= size
            self._worker.send(CachesChanged(caches=tuple(part)))
        return bool(self._waiting)

    def __repr__(self) -> str:
        return f"<Feed of worker {self._worker.column}, {self._size} bytes wait>"


def _size(news: CacheNews) -> int:
    return _EACH + len(news.lost) + len(news.held)

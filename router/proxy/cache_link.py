"""A worker's part in knowing what engines hold: control listens to them, answers pass here.

Which blocks a prompt has an answer says in its head. What was heard of that gathers for some
milliseconds and is told to control, which ties names to blocks and tells all workers what becomes
of them. So nothing of an engine's events is read while streams wait for their tokens, and what one
worker has seen the others know. What there is no room for is not told: those names are estimated.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from router.control.messages import CachesChanged, Message, TipsSeen
from router.core.director import Director
from router.core.engine_cache.news import TipSeen
from router.core.forecast.certainty import heed
from router.core.forecast.forecast import Forecast
from router.core.forecast.notes import pack
from router.core.forecast.work import PrefillWork
from router.core.model import EndpointId
from router.core.prefix.ends import end_of

GATHER: Final = 0.02
"""Seconds in which tips gather."""

MOST: Final = 4096
"""Tips that gather; more are not told."""


class CacheLink:
    """Of one worker; implements ``core.forecast.forecast.Tips`` for all its clusters.

    Args:
        send: tells control; returns whether it could.

    Attributes:
        told: tips that control was told of.
        kept_back: tips for which there was no room.
    """

    def __init__(self, send: Callable[[Message], bool]) -> None:
        self.told = 0
        self.kept_back = 0
        self._send = send
        self._tips: list[TipSeen] = []
        self._forecasts: dict[str, Forecast] = {}

    def follow(self, director: Director) -> None:
        """Take part for the clusters of a new snapshot whose engines are listened to."""
        before, self._forecasts = self._forecasts, {}
        for name, cluster in director.snapshot.clusters.items():
            if cluster.kv_events is None:
                continue
            accounts = director.traffic(name).accounts
            if isinstance(accounts, Forecast):
                accounts.tips = self
                self._forecasts.update((endpoint.id, accounts) for endpoint in cluster.endpoints)
        heard = set(self._forecasts.values())
        for id_, forecast in before.items():
            if id_ not in self._forecasts:
                forecast.doubt(EndpointId(id_))
            if forecast not in heard:
                forecast.tips = None

    def seen(self, work: PrefillWork, block: int, count: int) -> None:
        """An answer names the last block of its prompt."""
        if len(self._tips) >= MOST:
            self.kept_back += 1
            return
        # A prompt of less than a block of bytes has no other name than its conversation's.
        names = work.checkpoints or ((work.conversation,) if work.conversation else ())
        end = end_of(work.checkpoints, work.conversation)
        self._tips.append(TipSeen(work.outlook.id, block, count, work.blocks, end, pack(names)))
        if len(self._tips) == 1:
            asyncio.get_running_loop().call_later(GATHER, self._tell)

    def heed(self, message: CachesChanged) -> None:
        """Control has heard of caches. What it says of endpoints that are gone means nothing."""
        for news in message.caches:
            forecast = self._forecasts.get(news.endpoint)
            if forecast is not None:
                heed(forecast, news)

    def _tell(self) -> None:
        tips, self._tips = self._tips, []
        if self._send(TipsSeen(tips=tuple(tips))):
            self.told += len(tips)
        else:
            self.kept_back += len(tips)

    def __repr__(self) -> str:
        return f"<CacheLink {len(self._forecasts)} endpoints, told={self.told}>"

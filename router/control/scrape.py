"""Reads the engines' metrics pages, so that balancers know more than what this router sent.

A report that is too old is unknown, never zero: a load of zero would draw all traffic to an
engine that does not answer. An engine whose page fails is asked less and less often, up to eight
times its interval or ten seconds.
"""

import asyncio
import random

from router.control.dialects import BY_NAME
from router.control.dialects.base import DialectError
from router.control.engine_client import EngineClient, EngineUnreachable
from router.control.roster import Roster, Standing
from router.control.watches import Watches
from router.core.cluster import Scrape
from router.core.load import LoadReport
from router.core.model import AdminState
from router.core.snapshot import Snapshot

MAX_DOUBLINGS = 3
LONGEST_PAUSE = 10.0


class Scraper:
    """Scrapes every endpoint of the clusters that ask for it."""

    def __init__(self, client: EngineClient, roster: Roster, rng: random.Random) -> None:
        self._client = client
        self._roster = roster
        self._rng = rng
        self._watches = Watches("scrape", self._watch)

    def reconcile(self, snapshot: Snapshot) -> None:
        """Follow a new configuration."""
        wanted: dict[str, tuple[Standing, object]] = {}
        for id_, standing in self._roster.standings.items():
            cluster = snapshot.clusters[standing.endpoint.cluster]
            if cluster.scrape is not None:
                wanted[id_] = (standing, (cluster.engine, cluster.scrape))
            else:
                standing.scrape_error = None
                self._roster.set_load(standing, None, fresh=False)
        self._watches.reconcile(wanted)

    async def close(self) -> None:
        await self._watches.close()

    async def _watch(self, standing: Standing, settings: tuple[str, Scrape]) -> None:
        engine, scrape = settings
        failures = 0
        while True:
            if standing.admin is not AdminState.MAINT:
                standing.scrape_error = await self._scrape(standing, engine, scrape)
                failures = 0 if standing.scrape_error is None else failures + 1
            pause = scrape.interval * 2 ** min(failures, MAX_DOUBLINGS)
            pause = max(scrape.interval, min(pause, LONGEST_PAUSE))
            await asyncio.sleep(pause * (0.9 + 0.2 * self._rng.random()))

    async def _scrape(self, standing: Standing, engine: str, scrape: Scrape) -> str | None:
        """Take one report; returns what went wrong, None if nothing."""
        loop = asyncio.get_running_loop()
        try:
            status, page = await self._client.get(standing.endpoint, scrape.path, scrape.timeout)
            if status != 200:
                return f"answered {status}"
            report = BY_NAME[engine].load(page, loop.time())
        except (EngineUnreachable, DialectError) as error:
            return str(error)
        self._roster.set_load(standing, report, fresh=True)
        loop.call_later(scrape.stale_after, self._expire, standing, report)
        return None

    def _expire(self, standing: Standing, report: LoadReport) -> None:
        if standing.load is report:
            self._roster.set_load(standing, None, fresh=False)

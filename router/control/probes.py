"""Active health checks: rise and fall, as in HAProxy, spread by jitter.

The first result of a new endpoint decides at once, so that a start does not take ``rise``
intervals; from then on a verdict changes only after a streak. An endpoint in maintenance is left
alone and keeps its last verdict; its next first result decides again.
"""

import asyncio
import random
from collections.abc import Callable

from router.control.engine_client import EngineClient, EngineUnreachable
from router.control.journal import Tell, nobody
from router.control.roster import Roster, Standing
from router.control.watches import Watches
from router.core.cluster import ActiveHealth
from router.core.model import AdminState
from router.core.snapshot import Snapshot
from router.telemetry.logs import logger


class Streak:
    """Turns single results into verdicts.

    Args:
        rise: passes in a row that make healthy.
        fall: failures in a row that make unhealthy.
    """

    def __init__(self, rise: int, fall: int) -> None:
        self._rise = rise
        self._fall = fall
        self._run = 0
        self.healthy: bool | None = None

    def result(self, passed: bool) -> bool:
        """Take one result, return the verdict."""
        if self.healthy is None:
            self.healthy = passed
        elif passed is self.healthy:
            self._run = 0
        else:
            self._run += 1
            if self._run >= (self._rise if passed else self._fall):
                self.healthy = passed
                self._run = 0
        return self.healthy

    def restart(self) -> None:
        """Let the next result decide alone."""
        self.healthy = None
        self._run = 0

    def __repr__(self) -> str:
        return f"<Streak healthy={self.healthy} against={self._run}>"


class Prober:
    """Probes every endpoint of the clusters that have active health checks.

    Args:
        passed: told of every check that an endpoint passed.
        tell: told when a verdict changes.
    """

    def __init__(
        self,
        client: EngineClient,
        roster: Roster,
        rng: random.Random,
        passed: Callable[[Standing], None] | None = None,
        tell: Tell = nobody,
    ) -> None:
        self._tell = tell
        self._passed = passed
        self._client = client
        self._roster = roster
        self._rng = rng
        self._watches = Watches("probes", self._watch)
        self._log = logger("probes")

    def reconcile(self, snapshot: Snapshot) -> None:
        """Follow a new configuration. Endpoints without checks count as healthy."""
        wanted: dict[str, tuple[Standing, object]] = {}
        for id_, standing in self._roster.standings.items():
            endpoint = standing.endpoint
            health = snapshot.clusters[endpoint.cluster].health
            if health is None:
                standing.healthy = standing.probe_error = None
            else:
                wanted[id_] = (standing, health)
        self._watches.reconcile(wanted)

    async def close(self) -> None:
        await self._watches.close()

    async def _watch(self, standing: Standing, health: ActiveHealth) -> None:
        streak = Streak(health.rise, health.fall)
        loop = asyncio.get_running_loop()
        while True:
            if standing.admin is AdminState.MAINT:
                streak.restart()
            else:
                error = await self._probe(standing, health)
                standing.probe_error = error
                standing.probed_at = loop.time()
                before, healthy = standing.healthy, streak.result(error is None)
                self._roster.set_health(standing, healthy)
                if error is None and self._passed is not None:
                    self._passed(standing)
                if before is not healthy and not (before is None and healthy):
                    self._log.warning(
                        "endpoint is " + ("healthy" if healthy else "unhealthy"),
                        endpoint=standing.endpoint.id,
                        error=error,
                    )
                    self._tell(
                        "health", endpoint=standing.endpoint.id, healthy=healthy, error=error
                    )
            await asyncio.sleep(health.interval * (1 + health.jitter * self._rng.random()))

    async def _probe(self, standing: Standing, health: ActiveHealth) -> str | None:
        """What is wrong with the endpoint, None if nothing."""
        try:
            status, _ = await self._client.get(
                standing.endpoint, health.path, health.timeout, want_body=False
            )
        except EngineUnreachable as error:
            return str(error)
        low, high = health.expected
        return None if low <= status <= high else f"answered {status}, not {low}-{high}"

"""What control does for a scenario, in the scenario's own process: ejections and health checks.

The parts are control's own; only the way of their verdicts is shorter, from the roster straight
into the fleet.
"""

import asyncio
import random
from typing import Any

from router.control.engine_client import EngineClient
from router.control.messages import HostUpdate
from router.control.outliers import OutlierWatch
from router.control.probes import Prober
from router.control.roster import Roster
from router.core.fleet import Fleet
from router.core.health.detector import OutlierEvent
from router.core.health.outlier import Detector
from router.core.model import EndpointId
from router.core.snapshot import Snapshot
from router.telemetry.totals import Totals


class Control:
    """Outlier detection and health checks of one process.

    Attributes:
        events: (time, event) of every verdict of outlier detection.
    """

    def __init__(self) -> None:
        self.roster = Roster()
        self.fleet = Fleet(suspect=self._suspected)
        self.events: list[tuple[float, OutlierEvent]] = []
        self.outliers = _Watch(self)
        self._client = EngineClient()
        self._prober = Prober(
            self._client, self.roster, random.Random(1), self.outliers.passed_health_check
        )

    async def start(self, snapshot: Snapshot) -> None:
        await self._client.__aenter__()
        self.roster.reconcile(snapshot.endpoints())
        self.roster.subscribe(self._tell)
        self.outliers.reconcile(snapshot)
        self._prober.reconcile(snapshot)

    async def close(self) -> None:
        await self.outliers.close()
        await self._prober.close()
        await self._client.__aexit__()

    def ejected(self, cluster: str) -> set[str]:
        """Addresses of the endpoints that are out of rotation."""
        return {
            standing.endpoint.address
            for standing in self.roster.standings.values()
            if standing.endpoint.cluster == cluster and standing.ejected
        }

    def forget(self, id_: EndpointId) -> None:
        host = self.fleet.hosts.get(id_)
        if host is not None:
            self.fleet.failures[host.slot] = 0

    def _suspected(self, id_: EndpointId, detector: Detector) -> None:
        self.outliers.suspected(id_, str(detector))

    def _tell(self, updates: tuple[HostUpdate, ...]) -> None:
        for update in updates:
            self.fleet.set_health(EndpointId(update.id), update.healthy)
            self.fleet.set_ejected(EndpointId(update.id), update.ejected)


class _Watch(OutlierWatch):
    """Keeps its verdicts."""

    def __init__(self, control: Control) -> None:
        super().__init__(control.roster, Totals, control.forget, random.Random(2))
        self._control = control

    def _act(self, cluster: str, events: list[OutlierEvent]) -> None:
        now = asyncio.get_running_loop().time()
        self._control.events += [(now, event) for event in events]
        super()._act(cluster, events)

    @property
    def clusters(self) -> list[str]:
        return list(self._clusters)

    def summary_of(self, cluster: str) -> dict[str, Any]:
        found = self.summary(cluster)
        assert found is not None
        return found

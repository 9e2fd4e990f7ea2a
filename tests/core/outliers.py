"""A watched cluster for tests: monitors, their detector, its ticks, and a hand clock."""

import random
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from router.core.clock import HandClock
from router.core.health.detector import OutlierDetector, OutlierEvent
from router.core.health.monitor import FailureMonitor
from router.core.health.outlier import Detector, Outlier, SuccessRate
from router.core.health.statistics import Tally
from router.core.model import EndpointId


def as_envoy(**fields: Any) -> Outlier:
    """A policy with Envoy's defaults where ours differ."""
    defaults: dict[str, Any] = {
        "max_ejection_percent": 10,
        "always_eject_one_host": False,
        "success_rate": SuccessRate(),
        "successful_active_health_check_uneject": True,
    }
    return Outlier(**(defaults | fields))


class Watched:
    """Endpoints ``b0``, ``b1``, ... and what is thought of them.

    Args:
        hosts: a number, or names.
        phase: seconds at which the first interval closes; an interval after 0 by default.
    """

    def __init__(
        self, hosts: int | Iterable[str], policy: Outlier, phase: float | None = None, seed: int = 1
    ) -> None:
        names = [f"b{index}" for index in range(hosts)] if isinstance(hosts, int) else hosts
        self.clock = HandClock()
        self.words: dict[int, int] = defaultdict(int)
        self.detector = OutlierDetector(policy, random.Random(seed))
        self.events: list[tuple[float, OutlierEvent]] = []
        self.tallies: dict[EndpointId, Tally] = {}
        self.next_tick = policy.interval if phase is None else phase
        self.names = [EndpointId(name) for name in names]
        self.slots = {name: slot for slot, name in enumerate(self.names)}
        self.reload(policy)

    def reload(self, policy: Outlier) -> None:
        self.policy = policy
        self.detector.reconcile(self.names, policy)
        self.monitors = {
            name: FailureMonitor(name, self.slots[name], self.words, policy, self._suspect)
            for name in self.names
        }

    def _suspect(self, id_: EndpointId, detector: Detector) -> None:
        self._happened(self.detector.suspected(id_, detector, self.clock.now()))

    def _happened(self, events: list[OutlierEvent]) -> None:
        for event in events:
            self.events.append((self.clock.now(), event))
            if event.action == "uneject":
                self.words[self.slots[event.endpoint]] = 0

    def at(self, time: float) -> "Watched":
        """Let the time pass until then, ticks included."""
        while self.next_tick <= time:
            self.clock.advance(self.next_tick - self.clock.now())
            self._happened(self.detector.tick(self.tallies, self.next_tick))
            self.tallies = {}
            self.next_tick += self.policy.interval
        self.clock.advance(max(0.0, time - self.clock.now()))
        return self

    def answers(self, name: str, *statuses: int) -> "Watched":
        """The host answers with these, one after the other; 0 means that no answer came."""
        monitor = self.monitors[EndpointId(name)]
        for status in statuses:
            if status:
                monitor.connected()
                monitor.answered(status)
            else:
                monitor.unanswered()
        return self

    def health_check_passes(self, name: str) -> None:
        self._happened(self.detector.passed_health_check(EndpointId(name), self.clock.now()))

    @property
    def out(self) -> set[str]:
        return {name for name, record in self.detector.records.items() if record.ejected}

    def log(self) -> list[tuple[str, str, str, int, bool]]:
        """Events without their times: action, host, detector, ejections so far, enforced."""
        return [
            (e.action, str(e.endpoint), str(e.detector), e.ejections, e.enforced)
            for _, e in self.events
        ]

    def __repr__(self) -> str:
        return f"<Watched {self.clock!r} {self.detector!r} out={sorted(self.out)}>"

"""Decides which endpoints of a cluster are out of rotation, once for the machine.

Failures in a row come in one by one as workers meet a threshold, and are acted upon at once. Rates
and latencies are looked at when an interval closes, which is also the only time at which an
ejection ends by itself. ``max_ejection_percent`` stands above all detectors: what it forbids is
counted as overflow. A finding may be logged only, by its detector's enforcing percentage.

The semantics are Envoy's; see docs/outlier-detection.md for the departures.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from router.core.clock import Rng
from router.core.health import statistics
from router.core.health.ejection import EjectionRecord
from router.core.health.outlier import Detector, Outlier
from router.core.health.statistics import Detail, Tally
from router.core.model import EndpointId


class OutlierEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be logged, and if ``enforced`` or an un-ejection, to be told the workers.

    ``detector`` of an un-ejection is what had ejected. ``ejections`` counts those enforced so
    far. ``since_last_action``: seconds, None for the endpoint's first event.
    """

    endpoint: EndpointId
    action: Literal["eject", "uneject"]
    detector: Detector
    enforced: bool
    ejections: int
    since_last_action: float | None
    detail: Detail = {}


class OutlierDetector:
    """One cluster's.

    Args:
        policy: what to do when.
        rng: draws jitter and, where a percentage is between 0 and 100, enforcement.

    Attributes:
        detected: findings by detector, since the start.
        enforced, unenforced: those that led to an ejection, and those only logged.
        overflow: findings that ``max_ejection_percent`` forbade to act upon.
    """

    def __init__(self, policy: Outlier, rng: Rng) -> None:
        self.policy = policy
        self.records: dict[EndpointId, EjectionRecord] = {}
        self.detected: dict[Detector, int] = {}
        self.enforced: dict[Detector, int] = {}
        self.unenforced: dict[Detector, int] = {}
        self.overflow = 0
        self._rng = rng

    @property
    def active(self) -> int:
        """Endpoints out of rotation now."""
        return sum(1 for record in self.records.values() if record.ejected)

    def reconcile(self, endpoints: Iterable[EndpointId], policy: Outlier) -> None:
        """Follow a reload; endpoints that stay keep their record, ejected ones stay out."""
        self.policy = policy
        self.records = {id_: self.records.get(id_) or EjectionRecord() for id_ in endpoints}

    def suspected(self, id_: EndpointId, detector: Detector, now: float) -> list[OutlierEvent]:
        """An endpoint's failures in a row have met this detector's threshold."""
        return self._found(id_, detector, now, {})

    def tick(self, tallies: Mapping[EndpointId, Tally], now: float) -> list[OutlierEvent]:
        """An interval has closed.

        Args:
            tallies: what came of the attempts in it.
            now: when it should have closed; the plan's time keeps ticks an interval apart.
        """
        events: list[OutlierEvent] = []
        for id_, record in self.records.items():
            if record.over(self.policy, now):
                events.append(self._uneject(id_, record, now))
            elif not record.ejected:
                record.decay(self.policy, now)
        data = {
            id_: tallies[id_]
            for id_, record in self.records.items()
            if id_ in tallies and not record.ejected
        }
        for detector, found in self._outliers(data):
            for id_, detail in found.items():
                events += self._found(id_, detector, now, detail)
        return events

    def passed_health_check(self, id_: EndpointId, now: float) -> list[OutlierEvent]:
        """An active health check passed; where the policy says so, that ends an ejection."""
        record = self.records.get(id_)
        if record is None or not self.policy.successful_active_health_check_uneject:
            return []
        return [self._uneject(id_, record, now)] if record.ejected else []

    def dismiss(self, now: float) -> list[OutlierEvent]:
        """Outlier detection is switched off: everybody comes back."""
        ejected = [(id_, record) for id_, record in self.records.items() if record.ejected]
        return [self._uneject(id_, record, now) for id_, record in ejected]

    # --- deciding -----------------------------------------------------------------------------

    def _outliers(
        self, data: Mapping[EndpointId, Tally]
    ) -> Iterable[tuple[Detector, dict[EndpointId, Detail]]]:
        policy = self.policy
        split = policy.split_external_local_origin_errors
        external = statistics.external_shares(data) if split else statistics.shares(data)
        local = statistics.local_shares(data) if split else {}
        if (rate := policy.success_rate) is not None:
            yield Detector.SUCCESS_RATE, statistics.low_success_rates(external, rate)
            yield Detector.SUCCESS_RATE_LOCAL_ORIGIN, statistics.low_success_rates(local, rate)
        if (share := policy.failure_percentage) is not None:
            found = statistics.high_failure_percentages(external, share)
            yield Detector.FAILURE_PERCENTAGE, found
            found = statistics.high_failure_percentages(local, share)
            yield Detector.FAILURE_PERCENTAGE_LOCAL_ORIGIN, found
        if policy.latency is not None:
            yield Detector.FIRST_BYTE_LATENCY, statistics.slow_first_bytes(data, policy.latency)

    def _found(
        self, id_: EndpointId, detector: Detector, now: float, detail: Detail
    ) -> list[OutlierEvent]:
        record = self.records.get(id_)
        if record is None or record.ejected:
            return []  # it left with a reload, or another detector was first
        self.detected[detector] = self.detected.get(detector, 0) + 1
        if not self._room():
            self.overflow += 1
            return []
        enforced = self._enforces(detector)
        counts = self.enforced if enforced else self.unenforced
        counts[detector] = counts.get(detector, 0) + 1
        if enforced:
            jitter = self.policy.max_ejection_time_jitter
            record.eject(detector, jitter and jitter * self._rng.random(), self.policy, now)
        return [self._event(id_, record, "eject", detector, enforced, now, detail)]

    def _room(self) -> bool:
        active = self.active
        if active == 0 and self.policy.always_eject_one_host:
            return True
        return 100.0 * (active + 1) / len(self.records) <= self.policy.max_ejection_percent

    def _enforces(self, detector: Detector) -> bool:
        percent = self.policy.enforcing(detector)
        if 0.0 < percent < 100.0:
            return self._rng.random() * 100.0 < percent
        return percent >= 100.0

    def _uneject(self, id_: EndpointId, record: EjectionRecord, now: float) -> OutlierEvent:
        assert record.detector is not None
        record.uneject(now)
        return self._event(id_, record, "uneject", record.detector, False, now, {})

    def _event(
        self,
        id_: EndpointId,
        record: EjectionRecord,
        action: Literal["eject", "uneject"],
        detector: Detector,
        enforced: bool,
        now: float,
        detail: Detail,
    ) -> OutlierEvent:
        since = None if record.acted_at is None else max(0.0, now - record.acted_at)
        record.acted_at = now
        return OutlierEvent(
            endpoint=id_,
            action=action,
            detector=detector,
            enforced=enforced,
            ejections=record.ejections,
            since_last_action=since,
            detail=detail,
        )

    def __repr__(self) -> str:
        return f"<OutlierDetector {self.active}/{len(self.records)} out overflow={self.overflow}>"

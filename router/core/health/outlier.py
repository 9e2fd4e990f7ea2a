"""What outlier detection is told: detectors, thresholds, times. Names are Envoy's.

An *outlier* is an endpoint that fails while its cluster does not. Detectors notice it, an ejection
takes it out of rotation for a while, longer each time. ``monitor`` counts failures in a row where
requests are served; ``detector`` decides, once for the machine.
"""

import enum
from collections.abc import Mapping

import msgspec


class Detector(enum.StrEnum):
    """What can find an endpoint at fault; the value is its name in logs and metrics."""

    CONSECUTIVE_5XX = "consecutive_5xx"
    CONSECUTIVE_GATEWAY_FAILURE = "consecutive_gateway_failure"
    CONSECUTIVE_LOCAL_ORIGIN_FAILURE = "consecutive_local_origin_failure"
    CONSECUTIVE_TRUNCATED = "consecutive_truncated"
    SUCCESS_RATE = "success_rate"
    SUCCESS_RATE_LOCAL_ORIGIN = "success_rate_local_origin"
    FAILURE_PERCENTAGE = "failure_percentage"
    FAILURE_PERCENTAGE_LOCAL_ORIGIN = "failure_percentage_local_origin"
    FIRST_BYTE_LATENCY = "first_byte_latency"


class SuccessRate(msgspec.Struct, frozen=True, kw_only=True):
    """Ejects below ``mean - stdev * stdev_factor / 1000`` of the endpoints' success rates.

    Looks at endpoints with ``request_volume`` attempts in the last interval, if there are
    ``minimum_hosts`` of them. ``enforcing`` in percent: how many findings are acted upon; the
    rest is only logged.
    """

    minimum_hosts: int = 5
    request_volume: int = 100
    stdev_factor: int = 1900
    enforcing: float = 100.0
    enforcing_local_origin: float = 100.0


class FailurePercentage(msgspec.Struct, frozen=True, kw_only=True):
    """Ejects endpoints of which ``threshold`` percent of the attempts failed; else as above."""

    threshold: float = 85.0
    minimum_hosts: int = 5
    request_volume: int = 50
    enforcing: float = 100.0
    enforcing_local_origin: float = 100.0


class FirstByteLatency(msgspec.Struct, frozen=True, kw_only=True):
    """Ejects endpoints whose streams begin much later than the cluster's.

    At fault is who in the last interval took on average more than ``factor`` times the median of
    the endpoints' averages, and more than ``minimum`` seconds.
    """

    factor: float = 3.0
    minimum: float = 1.0
    minimum_hosts: int = 3
    request_volume: int = 10
    enforcing: float = 100.0


class Outlier(msgspec.Struct, frozen=True, kw_only=True):
    """Outlier detection of one cluster. Times in seconds, shares in percent.

    A threshold of 0 switches its detector off. Defaults are Envoy's but for four. Detection is on
    unless switched off. ``always_eject_one_host`` holds and ``max_ejection_percent`` is 50, not
    10, which in a cluster of less than ten endpoints would never eject any. The statistical
    detectors are off until configured. A passed health check does not un-eject: that an engine
    answers its health path says little of its answers to requests.
    """

    consecutive_5xx: int = 5
    consecutive_gateway_failure: int = 5
    consecutive_local_origin_failure: int = 5
    consecutive_truncated: int = 5
    enforcing_consecutive_5xx: float = 100.0
    enforcing_consecutive_gateway_failure: float = 0.0
    enforcing_consecutive_local_origin_failure: float = 100.0
    enforcing_consecutive_truncated: float = 100.0
    split_external_local_origin_errors: bool = False
    interval: float = 10.0
    base_ejection_time: float = 30.0
    max_ejection_time: float = 300.0
    max_ejection_time_jitter: float = 0.0
    max_ejection_percent: float = 50.0
    always_eject_one_host: bool = True
    success_rate: SuccessRate | None = None
    failure_percentage: FailurePercentage | None = None
    latency: FirstByteLatency | None = None
    successful_active_health_check_uneject: bool = False

    @property
    def looks_at_rates(self) -> bool:
        """Whether it matters what came of all attempts of an interval."""
        return (self.success_rate or self.failure_percentage or self.latency) is not None

    def enforcing(self, detector: Detector) -> float:
        """Percent of this detector's findings that lead to an ejection."""
        rate, failures = self.success_rate, self.failure_percentage
        percentages: Mapping[Detector, float] = {
            Detector.CONSECUTIVE_5XX: self.enforcing_consecutive_5xx,
            Detector.CONSECUTIVE_GATEWAY_FAILURE: self.enforcing_consecutive_gateway_failure,
            Detector.CONSECUTIVE_LOCAL_ORIGIN_FAILURE: (
                self.enforcing_consecutive_local_origin_failure
            ),
            Detector.CONSECUTIVE_TRUNCATED: self.enforcing_consecutive_truncated,
            Detector.SUCCESS_RATE: 0.0 if rate is None else rate.enforcing,
            Detector.SUCCESS_RATE_LOCAL_ORIGIN: (
                0.0 if rate is None else rate.enforcing_local_origin
            ),
            Detector.FAILURE_PERCENTAGE: 0.0 if failures is None else failures.enforcing,
            Detector.FAILURE_PERCENTAGE_LOCAL_ORIGIN: (
                0.0 if failures is None else failures.enforcing_local_origin
            ),
            Detector.FIRST_BYTE_LATENCY: 0.0 if self.latency is None else self.latency.enforcing,
        }
        return percentages[detector]

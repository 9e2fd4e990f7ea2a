"""Outlier detection in the configuration file. Fields have Envoy's names and meaning.

A field whose name says percent, and every ``enforcing``, is a plain number from 0 to 100.
"""

from typing import Annotated

import msgspec

from router.config.section import Section, doc
from router.config.units import Duration, Interval
from router.core.health import outlier as core

Threshold = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
PercentNumber = Annotated[float, msgspec.Meta(ge=0, le=100)]
Hosts = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Volume = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]

_ENFORCING = "Percent of its findings that lead to an ejection; the rest is only logged."
_ENFORCING_LOCAL = "The same for failures of local origin, where they are told apart."
_MINIMUM_HOSTS = "With fewer endpoints that had enough requests nobody is compared."
_VOLUME = "Requests in the interval below which an endpoint is left out."


class SuccessRate(Section, frozen=True, kw_only=True):
    """Ejects endpoints whose success rate is far below the cluster's mean."""

    minimum_hosts: Annotated[Hosts, doc(_MINIMUM_HOSTS)] = 5
    request_volume: Annotated[Volume, doc(_VOLUME)] = 100
    stdev_factor: Annotated[
        int,
        doc("Thousandths of the standard deviation that are too far.", ge=0, le=100_000),
    ] = 1900
    enforcing: Annotated[PercentNumber, doc(_ENFORCING)] = 100.0
    enforcing_local_origin: Annotated[PercentNumber, doc(_ENFORCING_LOCAL)] = 100.0


class FailurePercentage(Section, frozen=True, kw_only=True):
    """Ejects endpoints of whose requests too many fail, whatever the others do."""

    threshold: Annotated[PercentNumber, doc("Percent of failures that is too many.")] = 85.0
    minimum_hosts: Annotated[Hosts, doc(_MINIMUM_HOSTS)] = 5
    request_volume: Annotated[Volume, doc(_VOLUME)] = 50
    enforcing: Annotated[PercentNumber, doc(_ENFORCING)] = 100.0
    enforcing_local_origin: Annotated[PercentNumber, doc(_ENFORCING_LOCAL)] = 100.0


class FirstByteLatency(Section, frozen=True, kw_only=True):
    """Ejects endpoints whose streams begin much later than the cluster's median."""

    factor: Annotated[
        float, doc("Times the median that an endpoint's mean may take.", ge=1, le=1000)
    ] = 3.0
    minimum: Annotated[Duration, doc("What takes no longer is never too late.")] = Duration(1)
    minimum_hosts: Annotated[Hosts, doc(_MINIMUM_HOSTS)] = 3
    request_volume: Annotated[
        Volume, doc("Streams in the interval below which an endpoint is left out.")
    ] = 10
    enforcing: Annotated[PercentNumber, doc(_ENFORCING)] = 100.0


class Outlier(Section, frozen=True, kw_only=True):
    """Takes endpoints that fail while others do not out of rotation for a while; off: never."""

    consecutive_5xx: Annotated[
        Threshold, doc("Server errors in a row; no answer counts as one. 0 for any number.")
    ] = 5
    consecutive_gateway_failure: Annotated[
        Threshold, doc("502, 503 or 504 in a row; no answer counts as one. 0 for any number.")
    ] = 5
    consecutive_local_origin_failure: Annotated[
        Threshold, doc("Attempts without an answer in a row, where told apart. 0 for any number.")
    ] = 5
    consecutive_truncated: Annotated[
        Threshold, doc("Answers in a row that were cut short or fell silent. 0 for any number.")
    ] = 5
    enforcing_consecutive_5xx: Annotated[PercentNumber, doc(_ENFORCING)] = 100.0
    enforcing_consecutive_gateway_failure: Annotated[PercentNumber, doc(_ENFORCING)] = 0.0
    enforcing_consecutive_local_origin_failure: Annotated[PercentNumber, doc(_ENFORCING)] = 100.0
    enforcing_consecutive_truncated: Annotated[PercentNumber, doc(_ENFORCING)] = 100.0
    split_external_local_origin_errors: Annotated[
        bool, doc("Tell attempts without an answer apart from those answered with an error.")
    ] = False
    interval: Annotated[Interval, doc("How often ejections are ended, and rates looked at.")] = (
        Interval(10)
    )
    base_ejection_time: Annotated[
        Interval, doc("How long the first ejection lasts; the next ones twice, thrice as long.")
    ] = Interval(30)
    max_ejection_time: Annotated[
        Interval, doc("No ejection lasts longer, but for the base time, the jitter and the tick.")
    ] = Interval(300)
    max_ejection_time_jitter: Annotated[
        Duration, doc("Up to so much is added at random to each ejection.")
    ] = Duration(0)
    max_ejection_percent: Annotated[
        PercentNumber, doc("Percent of the endpoints that may be ejected at one time.")
    ] = 50.0
    always_eject_one_host: Annotated[
        bool, doc("One endpoint may be ejected whatever max_ejection_percent says.")
    ] = True
    success_rate: SuccessRate | None = None
    failure_percentage: FailurePercentage | None = None
    latency: FirstByteLatency | None = None
    successful_active_health_check_uneject: Annotated[
        bool, doc("A passed health check ends an ejection at once.")
    ] = False


def policy(spec: Outlier) -> core.Outlier:
    """The core's form; a longer base time lengthens the longest, as in Envoy."""
    fields = msgspec.structs.asdict(spec)
    rate, share, latency = spec.success_rate, spec.failure_percentage, spec.latency
    for name in ("interval", "base_ejection_time", "max_ejection_time_jitter"):
        fields[name] = float(fields[name])
    return core.Outlier(
        **fields
        | {
            "max_ejection_time": float(max(spec.max_ejection_time, spec.base_ejection_time)),
            "success_rate": None
            if rate is None
            else core.SuccessRate(**msgspec.structs.asdict(rate)),
            "failure_percentage": None
            if share is None
            else core.FailurePercentage(**msgspec.structs.asdict(share)),
            "latency": None
            if latency is None
            else core.FirstByteLatency(
                **msgspec.structs.asdict(latency) | {"minimum": float(latency.minimum)}
            ),
        }
    )

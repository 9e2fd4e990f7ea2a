"""Who stands out in an interval: by success rate, by share of failures, by first-byte latency.

Each function takes what every endpoint in rotation did in the interval that has just closed, and
names those at fault with the figures that say why. Too few requests or endpoints: nobody is.
"""

import statistics
from collections.abc import Mapping

import msgspec

from router.core.health.outlier import FailurePercentage, FirstByteLatency, SuccessRate
from router.core.model import EndpointId

Detail = Mapping[str, float]


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What attempts at one endpoint came to in one interval.

    ``answered_well`` and ``answered_badly`` count attempts that were answered, ``unanswered``
    those that failed before. Streams of which a first byte came are ``streams``, the seconds
    they waited for it, all together, ``first_byte_seconds``.
    """

    answered_well: int = 0
    answered_badly: int = 0
    unanswered: int = 0
    streams: int = 0
    first_byte_seconds: float = 0.0


Shares = Mapping[EndpointId, tuple[int, int]]
"""Of each endpoint: attempts that went well, and all of them."""


def shares(tallies: Mapping[EndpointId, Tally]) -> Shares:
    """All failures alike."""
    return {
        id_: (t.answered_well, t.answered_well + t.answered_badly + t.unanswered)
        for id_, t in tallies.items()
    }


def external_shares(tallies: Mapping[EndpointId, Tally]) -> Shares:
    """Only what the endpoints answered."""
    return {
        id_: (t.answered_well, t.answered_well + t.answered_badly) for id_, t in tallies.items()
    }


def local_shares(tallies: Mapping[EndpointId, Tally]) -> Shares:
    """Only whether the endpoints answered."""
    answered = {id_: t.answered_well + t.answered_badly for id_, t in tallies.items()}
    return {id_: (answered[id_], answered[id_] + t.unanswered) for id_, t in tallies.items()}


def low_success_rates(data: Shares, rule: SuccessRate) -> dict[EndpointId, Detail]:
    """Endpoints below the mean by more than the factor times the population deviation."""
    rates = {
        id_: 100.0 * well / count
        for id_, (well, count) in data.items()
        if count and count >= rule.request_volume
    }
    if not rates or len(rates) < rule.minimum_hosts:
        return {}
    mean = statistics.fmean(rates.values())
    threshold = mean - statistics.pstdev(rates.values(), mean) * rule.stdev_factor / 1000.0
    return {
        id_: {
            "host_success_rate": round(rate, 2),
            "cluster_average_success_rate": round(mean, 2),
            "cluster_success_rate_ejection_threshold": round(threshold, 2),
        }
        for id_, rate in rates.items()
        if rate < threshold
    }


def high_failure_percentages(data: Shares, rule: FailurePercentage) -> dict[EndpointId, Detail]:
    """Endpoints at or above the threshold."""
    failed = {
        id_: 100.0 * (count - well) / count
        for id_, (well, count) in data.items()
        if count and count >= rule.request_volume
    }
    if len(failed) < rule.minimum_hosts:
        return {}
    return {
        id_: {"host_failure_percentage": round(share, 2)}
        for id_, share in failed.items()
        if share >= rule.threshold
    }


def slow_first_bytes(
    tallies: Mapping[EndpointId, Tally], rule: FirstByteLatency
) -> dict[EndpointId, Detail]:
    """Endpoints whose mean is beyond the factor times the median of all means."""
    means = {
        id_: tally.first_byte_seconds / tally.streams
        for id_, tally in tallies.items()
        if tally.streams and tally.streams >= rule.request_volume
    }
    if not means or len(means) < rule.minimum_hosts:
        return {}
    median = statistics.median(means.values())
    limit = max(rule.factor * median, rule.minimum)
    return {
        id_: {
            "host_first_byte_seconds": round(mean, 4),
            "cluster_median_first_byte_seconds": round(median, 4),
            "cluster_first_byte_ejection_threshold": round(limit, 4),
        }
        for id_, mean in means.items()
        if mean > limit
    }

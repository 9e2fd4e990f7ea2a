"""What a worker tells of its forecasts and of what it hears from others, in a form that travels."""

from collections.abc import Iterable, Mapping

from router.core.forecast.forecast import Forecast
from router.core.forecast.gossip import Gossip
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import EndpointId
from router.core.prefix.blocks import BLOCK
from router.telemetry.totals import Labels, Mean, Totals

ENDPOINT_MEANS = (
    "endpoint_prefill_queue_seconds",
    "endpoint_pace",
    "endpoint_cached_prefixes",
    "endpoint_sure_prefixes",
)
CLUSTER_MEANS = (
    "cache_mirror_believed",
    "cache_mirror_error",
    "cache_mirror_capacity_tokens",
    "prompt_bytes_per_token",
)
CLUSTER_COUNTERS = (
    "cache_mirror_shed_total",
    "cache_mirror_compared_tokens_total",
    "cache_mirror_expected_tokens_total",
    "cache_mirror_found_tokens_total",
    "first_token_predicted_seconds_total",
    "first_token_observed_seconds_total",
    "first_token_error_seconds_total",
)


def add_forecasts(
    totals: Totals,
    memories: Iterable[tuple[str, ClusterMemory]],
    hosts: Mapping[EndpointId, HostState],
    now: float,
) -> None:
    """Add what these clusters' balancers predict; nothing for a cluster whose balancer does not.

    Args:
        now: monotonic seconds.
    """
    for name in (*ENDPOINT_MEANS, *CLUSTER_MEANS):
        totals.means[name] = {}
    for name in CLUSTER_COUNTERS:
        totals.counters[name] = {}
    for cluster, memory in memories:
        forecast = memory.kept.get(Forecast)
        if isinstance(forecast, Forecast):
            _add_cluster(totals, (cluster,), forecast)
            _add_endpoints(totals, forecast, hosts, now)


def _add_cluster(totals: Totals, labels: Labels, forecast: Forecast) -> None:
    trust, mirror, foresight = forecast.trust, forecast.mirror, forecast.foresight
    means = (
        float(trust.believed),
        trust.error,
        mirror.capacity * BLOCK / forecast.bytes_per_token,
        forecast.bytes_per_token,
    )
    for name, value in zip(CLUSTER_MEANS, means, strict=True):
        totals.means[name][labels] = Mean(value)
    counts = (
        mirror.shed,
        trust.prompts,
        trust.expected,
        trust.found,
        foresight.predicted,
        foresight.observed,
        foresight.error,
    )
    for name, count in zip(CLUSTER_COUNTERS, counts, strict=True):
        totals.counters[name][labels] = count


def _add_endpoints(
    totals: Totals, forecast: Forecast, hosts: Mapping[EndpointId, HostState], now: float
) -> None:
    for id_, outlook in forecast.outlooks():
        host = hosts.get(id_)
        if host is not None:
            labels = (host.endpoint.cluster, host.endpoint.address)
            held, sure = len(outlook.page), len(outlook.page.sure)
            values = (outlook.wait(now), outlook.pace, float(held), float(sure))
            for name, value in zip(ENDPOINT_MEANS, values, strict=True):
                totals.means[name][labels] = Mean(value)


def add_tips(totals: Totals, told: int, kept_back: int) -> None:
    """Add how many answers named the blocks of their prompts."""
    totals.counters["kv_event_tips_total"] = {("told",): told, ("kept_back",): kept_back}


def add_gossip(totals: Totals, gossip: Gossip, missed: int) -> None:
    """Add what was told and heard.

    Args:
        missed: datagrams that one of the others had no room for.
    """
    herald, peers = gossip.herald, gossip.peers
    totals.means["gossip_peers"] = {(): Mean(float(len(peers)))}
    totals.gauges["gossip_requests_under_way"] = {(): float(peers.works)}
    totals.counters["gossip_requests_total"] = {
        ("told",): herald.told,
        ("heard",): peers.heard,
        ("unknown",): peers.unknown,
        ("expired",): peers.expired,
    }
    totals.counters["gossip_notes_total"] = {
        ("sent",): gossip.sent,
        ("heard",): gossip.heard,
        ("kept_back",): herald.kept_back,
    }
    totals.counters["gossip_datagrams_lost_total"] = {
        ("full",): missed,
        ("missing",): peers.lost,
        ("late",): peers.late,
        ("unreadable",): gossip.unreadable,
        ("too_many_peers",): peers.refused,
    }

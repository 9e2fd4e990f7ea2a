"""What balancers predict, as the admin API shows it: the mean of what the workers see."""

from typing import Any

from router.core.cluster import Cluster
from router.core.model import Endpoint
from router.telemetry.totals import Totals


def cluster_forecast(cluster: Cluster, totals: Totals) -> dict[str, Any] | None:
    """None where the cluster's balancer does not predict, or no request has come yet."""
    labels = (cluster.name,)
    believed = totals.mean("cache_mirror_believed", labels)
    if believed is None:
        return None
    return {
        "believed": round(believed, 3),
        "error": _rounded(totals.mean("cache_mirror_error", labels), 3),
        "capacity_tokens": _rounded(totals.mean("cache_mirror_capacity_tokens", labels)),
        "bytes_per_token": _rounded(totals.mean("prompt_bytes_per_token", labels), 2),
        "expected_tokens": int(totals.counter("cache_mirror_expected_tokens_total", labels)),
        "found_tokens": int(totals.counter("cache_mirror_found_tokens_total", labels)),
        "compared_tokens": int(totals.counter("cache_mirror_compared_tokens_total", labels)),
    }


def endpoint_forecast(
    endpoint: Endpoint, totals: Totals, events: dict[str, Any] | None
) -> dict[str, Any] | None:
    """None where nothing is predicted of the endpoint.

    Args:
        events: what is known of its KV events, None where nobody listens.
    """
    labels = (endpoint.cluster, endpoint.address)
    queue = totals.mean("endpoint_prefill_queue_seconds", labels)
    if queue is None:
        return None
    return {
        "queue_seconds": round(queue, 4),
        "pace": _rounded(totals.mean("endpoint_pace", labels), 3),
        "cached_prefixes": _rounded(totals.mean("endpoint_cached_prefixes", labels)),
        "sure_prefixes": _rounded(totals.mean("endpoint_sure_prefixes", labels)),
        "caches": _known_by(events),
    }


def _known_by(events: dict[str, Any] | None) -> str:
    """How it is known what a cache holds."""
    if events is None or not events["in_step"]:
        return "estimated"
    return "exact" if events["names"] else "counted"


def _rounded(value: float | None, digits: int | None = None) -> float | None:
    return None if value is None else round(value, digits)

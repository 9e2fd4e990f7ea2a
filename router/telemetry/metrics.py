"""The catalogue: every metric the router publishes, in one table.

Labels hold only what the configuration names (cluster, endpoint, route, model) or a fixed set
(code, flag, outcome, state, result), never a request's free text, so the number of series is
bounded. Units are in the names: seconds, bytes, tokens; counters end in ``_total``.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

Kind = Literal["counter", "gauge", "histogram"]

# Powers of two from 5 ms as the OpenTelemetry GenAI convention has them, up to ten minutes.
DURATION_BUCKETS = (
    *(0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12),
    *(10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 600.0),
)
FIRST_TOKEN_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
WAIT_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LAG_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

PREFIX = "warmpath_"


class Metric(msgspec.Struct, frozen=True):
    """``name`` without the prefix. ``buckets``: upper bounds of a histogram without +Inf."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        return PREFIX + self.name


def _counter(name: str, help_: str, *labels: str) -> Metric:
    return Metric(name, "counter", help_, labels)


def _gauge(name: str, help_: str, *labels: str) -> Metric:
    return Metric(name, "gauge", help_, labels)


def _histogram(name: str, help_: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(name, "histogram", help_, labels, buckets)


CATALOGUE: tuple[Metric, ...] = (
    _counter(
        "requests_total",
        "Requests that ended, by route, answer and Envoy response flag.",
        *("route", "cluster", "model", "code", "flag"),
    ),
    _histogram(
        "request_duration_seconds",
        "From the request's arrival to the end of its response.",
        DURATION_BUCKETS,
        *("cluster", "model"),
    ),
    _histogram(
        "time_to_first_token_seconds",
        "From a streaming request's arrival to the first byte of its response body.",
        FIRST_TOKEN_BUCKETS,
        *("cluster", "model"),
    ),
    _histogram(
        "queue_wait_seconds",
        "Time that requests which had to wait spent in the pending queue.",
        WAIT_BUCKETS,
        "cluster",
    ),
    _gauge("queue_depth", "Requests waiting for a place in the cluster.", "cluster"),
    _gauge(
        "queue_waiting",
        "The same by priority; breaker: high where that priority has places of its own.",
        *("cluster", "breaker", "priority"),
    ),
    _gauge(
        "queue_drain_rate",
        "Places a second that became free while the cluster was full, when last it was.",
        *("cluster", "breaker"),
    ),
    _counter("queue_granted_total", "Waiting requests given a place.", "cluster", "breaker"),
    _counter(
        "queue_rejected_total",
        "Requests refused a place, by cause: max_requests, endpoints, max_pending, max_per_tenant, "
        "displaced, shed or deadline.",
        *("cluster", "breaker", "cause"),
    ),
    _gauge(
        "breaker_remaining",
        "What is left of each threshold of the circuit breaker; 0: it is open.",
        *("cluster", "breaker", "threshold"),
    ),
    _gauge(
        "endpoint_places_remaining",
        "Attempts that the endpoint takes until it is full; absent without such a limit.",
        *("cluster", "endpoint"),
    ),
    _counter("retries_total", "Attempts beyond a request's first.", "cluster"),
    _gauge("retries_in_flight", "Retries under way, or waiting for their turn.", "cluster"),
    _counter(
        "retries_refused_total",
        "Failures worth a retry that got none, by reason: limit (of the route), budget or body "
        "(streamed, so that it could not be sent again).",
        *("cluster", "reason"),
    ),
    _counter(
        "hedges_total",
        "Second attempts beside a slow one, by result: sent, won (of those), or not sent for want "
        "of budget, of a place or of an endpoint.",
        *("cluster", "result"),
    ),
    _counter(
        "retry_waits_total",
        "Retries that waited first, by kind: random, or named by the endpoint.",
        *("cluster", "kind"),
    ),
    _counter(
        "mirrored_requests_total",
        "Copies that mirrors were sent, by outcome: completed, error (5xx), failed, timed_out or "
        "cancelled.",
        *("route", "cluster", "outcome"),
    ),
    _counter(
        "mirrors_skipped_total",
        "Copies that were not sent, by reason: body (streamed), memory, in_flight, saturated, "
        "unavailable or tokens.",
        *("route", "cluster", "reason"),
    ),
    _counter(
        "mirrored_tokens_total",
        "Tokens that copies came to, from usage, prompt and answer together.",
        *("route", "cluster"),
    ),
    _gauge("mirrors_in_flight", "Copies under way.", "route", "cluster"),
    _counter(
        "fallbacks_total",
        "Requests that went on to the route's next cluster, by reason: unavailable, saturated or "
        "failed.",
        *("route", "cluster", "fallback", "reason"),
    ),
    _counter(
        "faults_injected_total",
        "Faults that a route injected on purpose: delay, abort, cut or stall.",
        *("route", "fault"),
    ),
    _counter(
        "faults_overflow_total",
        "Delays and stalls left out because the route's fault.max_active was reached.",
        "route",
    ),
    _gauge("faults_active", "Requests and streams that a fault holds at present.", "route"),
    _counter("input_tokens_total", "Prompt tokens, from responses' usage.", "cluster", "model"),
    _counter("output_tokens_total", "Completion tokens, from usage.", "cluster", "model"),
    _counter(
        "cached_input_tokens_total",
        "Prompt tokens that the engine found in its prefix cache, from usage.",
        *("cluster", "model"),
    ),
    _counter("received_bytes_total", "Request body bytes from clients.", "cluster"),
    _counter("sent_bytes_total", "Response body bytes to clients.", "cluster"),
    _gauge("endpoint_in_flight", "Attempts under way at the endpoint.", "cluster", "endpoint"),
    _counter(
        "endpoint_requests_total",
        "Attempts that ended, by what became of them.",
        *("cluster", "endpoint", "outcome"),
    ),
    _counter(
        "endpoint_first_bytes_total",
        "Streams of which a first byte came, the base of endpoint_first_byte_seconds_total.",
        *("cluster", "endpoint"),
    ),
    _counter(
        "endpoint_first_byte_seconds_total",
        "What streams waited for their first byte, from the attempt, added up.",
        *("cluster", "endpoint"),
    ),
    _gauge(
        "endpoint_healthy",
        "1 if the endpoint passes its health checks (or has none), else 0.",
        *("cluster", "endpoint"),
    ),
    _gauge(
        "ejected_endpoints",
        "Endpoints that outlier detection keeps out of rotation.",
        "cluster",
    ),
    _counter(
        "ejections_total",
        "Endpoints found at fault, by detector; enforced: false where only logged.",
        *("cluster", "detector", "enforced"),
    ),
    _counter(
        "ejections_overflow_total",
        "Endpoints found at fault that max_ejection_percent kept in rotation.",
        "cluster",
    ),
    _gauge(
        "endpoint_admin_state",
        "1 for the state that the operator wants: ready, drain or maint.",
        *("cluster", "endpoint", "state"),
    ),
    _gauge("endpoint_weight", "Effective load-balancing weight.", "cluster", "endpoint"),
    _gauge(
        "endpoint_pushed_back",
        "1 while the endpoint wants no new request (429, or 503 with Retry-After).",
        *("cluster", "endpoint"),
    ),
    _gauge(
        "priority_load_percent",
        "Percent of the cluster's requests that go to endpoints of this priority.",
        *("cluster", "priority"),
    ),
    _gauge(
        "priority_panic",
        "1 while too few endpoints of this priority are healthy, so health is ignored.",
        *("cluster", "priority"),
    ),
    _gauge("endpoint_running", "Requests the engine says it runs.", "cluster", "endpoint"),
    _gauge("endpoint_waiting", "Requests the engine says it queues.", "cluster", "endpoint"),
    _gauge(
        "endpoint_kv_cache_usage",
        "Share of the engine's KV cache in use, 0 to 1.",
        *("cluster", "endpoint"),
    ),
    _gauge(
        "load_report_age_seconds",
        "Age of the engine's last load report; absent if there is none.",
        *("cluster", "endpoint"),
    ),
    _counter(
        "sessions_total",
        "Requests of clusters with sessions: kept at their endpoint, new, or moved to another.",
        *("cluster", "result"),
    ),
    _counter(
        "sessions_forgotten_total",
        "Sessions given up before their time because the table was full.",
    ),
    _gauge(
        "prefix_index_entries",
        "Pairs of a prompt's beginning and an endpoint it went to that balancers remember, "
        "over all workers.",
        "cluster",
    ),
    _gauge(
        "endpoint_prefill_queue_seconds",
        "Predicted seconds of prompts in line at the endpoint, of all routers that tell.",
        *("cluster", "endpoint"),
    ),
    _gauge(
        "endpoint_pace",
        "Observed seconds of prefill for each predicted one; 2: half as fast as assumed.",
        *("cluster", "endpoint"),
    ),
    _gauge(
        "endpoint_cached_prefixes",
        "Beginnings of prompts that the endpoint's cache is thought to hold.",
        *("cluster", "endpoint"),
    ),
    _gauge(
        "cache_mirror_believed",
        "Share of workers whose picks rest on what caches are thought to hold; below 1: what "
        "engines find is something else.",
        "cluster",
    ),
    _gauge(
        "cache_mirror_error",
        "Mean difference of cached tokens expected and found, as a share of the prompt.",
        "cluster",
    ),
    _gauge(
        "cache_mirror_capacity_tokens",
        "Tokens that one endpoint's cache is thought to hold, learned from answers.",
        "cluster",
    ),
    _gauge("prompt_bytes_per_token", "Of prompts, learned from answers' usage.", "cluster"),
    _counter(
        "cache_mirror_shed_total",
        "Pairs of a prompt's beginning and an endpoint forgotten because max_entries was reached.",
        "cluster",
    ),
    _counter(
        "cache_mirror_compared_tokens_total",
        "Tokens of prompts whose answers said how many of them were cached.",
        "cluster",
    ),
    _counter(
        "cache_mirror_expected_tokens_total",
        "Tokens of those prompts that were expected to be cached.",
        "cluster",
    ),
    _counter(
        "cache_mirror_found_tokens_total",
        "Tokens of those prompts that were cached.",
        "cluster",
    ),
    _counter(
        "first_token_predicted_seconds_total",
        "Seconds to the first token that streams were expected to take, added up.",
        "cluster",
    ),
    _counter(
        "first_token_observed_seconds_total",
        "Seconds to the first token that the same streams took, added up.",
        "cluster",
    ),
    _counter(
        "first_token_error_seconds_total",
        "Seconds by which each of those predictions was wrong, added up.",
        "cluster",
    ),
    _gauge(
        "gossip_peers",
        "Other routers' processes that a worker hears of, those of its own machine among them.",
    ),
    _gauge(
        "gossip_requests_under_way",
        "Requests of others under way, over all workers that know of them.",
    ),
    _counter(
        "gossip_requests_total",
        "Requests that workers told each other of: told, heard, unknown (to endpoints that are not "
        "known here) or expired (nobody said that they ended).",
        "result",
    ),
    _counter(
        "gossip_notes_total",
        "What workers tell each other: sent, heard, or kept_back for want of room.",
        "result",
    ),
    _counter(
        "gossip_datagrams_lost_total",
        "Datagrams that were of no use: full (the reader had no room), missing (by their numbers), "
        "late (or twice), unreadable, or too_many_peers.",
        "reason",
    ),
    _gauge(
        "gossip_redis_reached",
        "1 while other machines hear of this one's requests, and it of theirs, through Redis.",
    ),
    _counter(
        "gossip_relayed_total",
        "Datagrams sent to other machines, and heard from them.",
        "result",
    ),
    _counter(
        "gossip_relay_lost_total",
        "Datagrams lost between machines, by reason: unreached (Redis), overflow, unreadable or "
        "worker_full.",
        "reason",
    ),
    _gauge("connections", "Open client connections."),
    _gauge("buffered_bytes", "Request bytes held in memory."),
    _counter(
        "refused_total",
        "Requests refused before they were routed: malformed, too large, too slow.",
        *("code", "flag"),
    ),
    _counter(
        "rate_limited_total",
        "Requests over a rate limit; enforced: false where they were let pass.",
        *("limit", "enforced"),
    ),
    _counter(
        "limited_tokens_total",
        "LLM tokens under limits: reserved at admission, charged in the end, or forgiven beyond a "
        "bucket's bound of debt.",
        "result",
    ),
    _counter(
        "rate_limit_buckets_forgotten_total",
        "Rate limit buckets given up for others before they were full again.",
    ),
    _counter(
        "shared_limit_questions_total",
        "Requests whose limits are shared by all routers, by whether Redis answered in time.",
        "result",
    ),
    _counter(
        "shared_limit_charges_lost_total",
        "Charges to limits of all routers that may not have reached Redis.",
    ),
    _gauge("shared_limits_reached", "Workers that reach the Redis of shared limits."),
    _counter(
        "denied_total",
        "Not let in: `address` and `handshake` are connections, the rest requests without a good "
        "credential.",
        *("listener", "reason"),
    ),
    _counter("tenant_requests_total", "Requests by who sent them.", "tenant", "code"),
    _counter("issuer_fetches_total", "Fetches of a token issuer's keys.", "issuer", "result"),
    _gauge(
        "issuer_keys_age_seconds",
        "Since a token issuer's keys were last fetched; absent before the first time.",
        "issuer",
    ),
    _counter("access_log_dropped_total", "Access log lines dropped because the log was full."),
    _histogram("event_loop_lag_seconds", "How late a worker's timer fires.", LAG_BUCKETS),
    _gauge("config_generation", "Generation of the configuration in force."),
    _counter("config_reloads_total", "Reloads, by result: accepted or refused.", "result"),
    _counter(
        "discovery_updates_total",
        "Answers of a cluster's discovery: changed, unchanged, empty (kept the last) or failed.",
        *("cluster", "result"),
    ),
    _gauge(
        "discovery_age_seconds",
        "Since the cluster's endpoints were last confirmed; absent before the first time.",
        "cluster",
    ),
    _gauge(
        "discovery_stale",
        "1 while the endpoints in use may differ from what the source would say.",
        "cluster",
    ),
    _gauge("workers_ready", "Worker processes that serve the configuration in force."),
    _counter("worker_restarts_total", "Worker processes replaced because they died."),
    _gauge("draining", "1 while the router fails its readiness on purpose."),
    _gauge("build_info", "Always 1; the version is in the label.", "version"),
)

BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in CATALOGUE}

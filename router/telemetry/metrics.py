"""The catalogue: every metric the router publishes, in one table.

Labels hold only what the configuration names (cluster, endpoint, route, model) or a fixed set
(code, flag, outcome, state, result), never a request's free text, so the number of series is
bounded. Units are in the names: seconds, bytes, tokens; counters end in ``_total``.
"""

from collections.abc import Mapping

from router.telemetry.metric import Metric, counter, gauge, histogram
from router.telemetry.prediction_metrics import PREDICTION

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

CATALOGUE: tuple[Metric, ...] = (
    counter(
        "requests_total",
        "Requests that ended, by route, answer and Envoy response flag.",
        *("route", "cluster", "model", "code", "flag"),
    ),
    histogram(
        "request_duration_seconds",
        "From the request's arrival to the end of its response.",
        DURATION_BUCKETS,
        *("cluster", "model"),
    ),
    histogram(
        "time_to_first_token_seconds",
        "From a streaming request's arrival to the first byte of its response body.",
        FIRST_TOKEN_BUCKETS,
        *("cluster", "model"),
    ),
    histogram(
        "queue_wait_seconds",
        "Time that requests which had to wait spent in the pending queue.",
        WAIT_BUCKETS,
        "cluster",
    ),
    gauge("queue_depth", "Requests waiting for a place in the cluster.", "cluster"),
    gauge(
        "queue_waiting",
        "The same by priority; breaker: high where that priority has places of its own.",
        *("cluster", "breaker", "priority"),
    ),
    gauge(
        "queue_drain_rate",
        "Places a second that became free while the cluster was full, when last it was.",
        *("cluster", "breaker"),
    ),
    counter("queue_granted_total", "Waiting requests given a place.", "cluster", "breaker"),
    counter(
        "queue_rejected_total",
        "Requests refused a place, by cause: max_requests, endpoints, max_pending, max_per_tenant, "
        "displaced, shed or deadline.",
        *("cluster", "breaker", "cause"),
    ),
    gauge(
        "breaker_remaining",
        "What is left of each threshold of the circuit breaker; 0: it is open.",
        *("cluster", "breaker", "threshold"),
    ),
    gauge(
        "endpoint_places_remaining",
        "Attempts that the endpoint takes until it is full; absent without such a limit.",
        *("cluster", "endpoint"),
    ),
    counter("retries_total", "Attempts beyond a request's first.", "cluster"),
    gauge("retries_in_flight", "Retries under way, or waiting for their turn.", "cluster"),
    counter(
        "retries_refused_total",
        "Failures worth a retry that got none, by reason: limit (of the route), budget or body "
        "(streamed, so that it could not be sent again).",
        *("cluster", "reason"),
    ),
    counter(
        "hedges_total",
        "Second attempts beside a slow one, by result: sent, won (of those), or not sent for want "
        "of budget, of a place or of an endpoint.",
        *("cluster", "result"),
    ),
    counter(
        "retry_waits_total",
        "Retries that waited first, by kind: random, or named by the endpoint.",
        *("cluster", "kind"),
    ),
    counter(
        "mirrored_requests_total",
        "Copies that mirrors were sent, by outcome: completed, error (5xx), failed, timed_out or "
        "cancelled.",
        *("route", "cluster", "outcome"),
    ),
    counter(
        "mirrors_skipped_total",
        "Copies that were not sent, by reason: body (streamed), memory, in_flight, saturated, "
        "unavailable or tokens.",
        *("route", "cluster", "reason"),
    ),
    counter(
        "mirrored_tokens_total",
        "Tokens that copies came to, from usage, prompt and answer together.",
        *("route", "cluster"),
    ),
    gauge("mirrors_in_flight", "Copies under way.", "route", "cluster"),
    counter(
        "fallbacks_total",
        "Requests that went on to the route's next cluster, by reason: unavailable, saturated or "
        "failed.",
        *("route", "cluster", "fallback", "reason"),
    ),
    counter(
        "faults_injected_total",
        "Faults that a route injected on purpose: delay, abort, cut or stall.",
        *("route", "fault"),
    ),
    counter(
        "faults_overflow_total",
        "Delays and stalls left out because the route's fault.max_active was reached.",
        "route",
    ),
    gauge("faults_active", "Requests and streams that a fault holds at present.", "route"),
    counter("input_tokens_total", "Prompt tokens, from responses' usage.", "cluster", "model"),
    counter("output_tokens_total", "Completion tokens, from usage.", "cluster", "model"),
    counter(
        "cached_input_tokens_total",
        "Prompt tokens that the engine found in its prefix cache, from usage.",
        *("cluster", "model"),
    ),
    counter("received_bytes_total", "Request body bytes from clients.", "cluster"),
    counter("sent_bytes_total", "Response body bytes to clients.", "cluster"),
    gauge("endpoint_in_flight", "Attempts under way at the endpoint.", "cluster", "endpoint"),
    counter(
        "endpoint_requests_total",
        "Attempts that ended, by what became of them.",
        *("cluster", "endpoint", "outcome"),
    ),
    counter(
        "endpoint_first_bytes_total",
        "Streams of which a first byte came, the base of endpoint_first_byte_seconds_total.",
        *("cluster", "endpoint"),
    ),
    counter(
        "endpoint_first_byte_seconds_total",
        "What streams waited for their first byte, from the attempt, added up.",
        *("cluster", "endpoint"),
    ),
    gauge(
        "endpoint_healthy",
        "1 if the endpoint passes its health checks (or has none), else 0.",
        *("cluster", "endpoint"),
    ),
    gauge(
        "ejected_endpoints",
        "Endpoints that outlier detection keeps out of rotation.",
        "cluster",
    ),
    counter(
        "ejections_total",
        "Endpoints found at fault, by detector; enforced: false where only logged.",
        *("cluster", "detector", "enforced"),
    ),
    counter(
        "ejections_overflow_total",
        "Endpoints found at fault that max_ejection_percent kept in rotation.",
        "cluster",
    ),
    gauge(
        "endpoint_admin_state",
        "1 for the state that the operator wants: ready, drain or maint.",
        *("cluster", "endpoint", "state"),
    ),
    gauge("endpoint_weight", "Effective load-balancing weight.", "cluster", "endpoint"),
    gauge(
        "endpoint_pushed_back",
        "1 while the endpoint wants no new request (429, or 503 with Retry-After).",
        *("cluster", "endpoint"),
    ),
    gauge(
        "priority_load_percent",
        "Percent of the cluster's requests that go to endpoints of this priority.",
        *("cluster", "priority"),
    ),
    gauge(
        "priority_panic",
        "1 while too few endpoints of this priority are healthy, so health is ignored.",
        *("cluster", "priority"),
    ),
    gauge("endpoint_running", "Requests the engine says it runs.", "cluster", "endpoint"),
    gauge("endpoint_waiting", "Requests the engine says it queues.", "cluster", "endpoint"),
    gauge(
        "endpoint_kv_cache_usage",
        "Share of the engine's KV cache in use, 0 to 1.",
        *("cluster", "endpoint"),
    ),
    gauge(
        "load_report_age_seconds",
        "Age of the engine's last load report; absent if there is none.",
        *("cluster", "endpoint"),
    ),
    counter(
        "sessions_total",
        "Requests of clusters with sessions: kept at their endpoint, new, or moved to another.",
        *("cluster", "result"),
    ),
    counter(
        "sessions_forgotten_total",
        "Sessions given up before their time because the table was full.",
    ),
    gauge(
        "prefix_index_entries",
        "Pairs of a prompt's beginning and an endpoint it went to that balancers remember, "
        "over all workers.",
        "cluster",
    ),
    *PREDICTION,
    gauge("connections", "Open client connections."),
    gauge("buffered_bytes", "Request bytes held in memory."),
    counter(
        "refused_total",
        "Requests refused before they were routed: malformed, too large, too slow.",
        *("code", "flag"),
    ),
    counter(
        "rate_limited_total",
        "Requests over a rate limit; enforced: false where they were let pass.",
        *("limit", "enforced"),
    ),
    counter(
        "limited_tokens_total",
        "LLM tokens under limits: reserved at admission, charged in the end, or forgiven beyond a "
        "bucket's bound of debt.",
        "result",
    ),
    counter(
        "rate_limit_buckets_forgotten_total",
        "Rate limit buckets given up for others before they were full again.",
    ),
    counter(
        "shared_limit_questions_total",
        "Requests whose limits are shared by all routers, by whether Redis answered in time.",
        "result",
    ),
    counter(
        "shared_limit_charges_lost_total",
        "Charges to limits of all routers that may not have reached Redis.",
    ),
    gauge("shared_limits_reached", "Workers that reach the Redis of shared limits."),
    counter(
        "denied_total",
        "Not let in: `address` and `handshake` are connections, the rest requests without a good "
        "credential.",
        *("listener", "reason"),
    ),
    counter("tenant_requests_total", "Requests by who sent them.", "tenant", "code"),
    counter("issuer_fetches_total", "Fetches of a token issuer's keys.", "issuer", "result"),
    gauge(
        "issuer_keys_age_seconds",
        "Since a token issuer's keys were last fetched; absent before the first time.",
        "issuer",
    ),
    counter("access_log_dropped_total", "Access log lines dropped because the log was full."),
    histogram("event_loop_lag_seconds", "How late a worker's timer fires.", LAG_BUCKETS),
    gauge("config_generation", "Generation of the configuration in force."),
    counter("config_reloads_total", "Reloads, by result: accepted or refused.", "result"),
    counter(
        "discovery_updates_total",
        "Answers of a cluster's discovery: changed, unchanged, empty (kept the last) or failed.",
        *("cluster", "result"),
    ),
    gauge(
        "discovery_age_seconds",
        "Since the cluster's endpoints were last confirmed; absent before the first time.",
        "cluster",
    ),
    gauge(
        "discovery_stale",
        "1 while the endpoints in use may differ from what the source would say.",
        "cluster",
    ),
    gauge("workers_ready", "Worker processes that serve the configuration in force."),
    counter("worker_restarts_total", "Worker processes replaced because they died."),
    gauge("draining", "1 while the router fails its readiness on purpose."),
    gauge("build_info", "Always 1; the version is in the label.", "version"),
)

BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in CATALOGUE}

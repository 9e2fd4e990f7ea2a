"""The dashboard of what clients see, and of who waits for what."""

from deploy.grafana.detours import DETOURS
from deploy.grafana.panel import PICK, Panel, quantiles, rate

OVERVIEW = (
    Panel(
        "Requests by answer",
        "reqps",
        {"{{code}} {{flag}}": rate("warmpath_requests_total", "code, flag")},
        "The flag is Envoy's response flag: UH no healthy endpoint, UF connect failure, UO"
        " overflow, UT timeout, NR no route, DC client gone.",
        stacked=True,
    ),
    Panel(
        "Errors",
        "percentunit",
        {"{{cluster}}": f"warmpath:error_ratio:rate5m{{{PICK}}}"},
        "Share of 5xx answers over five minutes.",
    ),
    Panel(
        "Requests in flight",
        "short",
        {"{{cluster}}": f"sum by (cluster) (warmpath_endpoint_in_flight{{{PICK}}})"},
    ),
    Panel("Time to first token", "s", quantiles("warmpath_time_to_first_token_seconds", "model")),
    Panel("Duration of requests", "s", quantiles("warmpath_request_duration_seconds", "model")),
    Panel(
        "Prefix cache hits",
        "percentunit",
        {"{{model}}": f"warmpath:cached_input_ratio:rate5m{{{PICK}}}"},
        "Share of prompt tokens that the engines did not have to compute.",
    ),
    Panel(
        "Tokens",
        "short",
        {
            "in {{model}}": rate("warmpath_input_tokens_total", "model"),
            "out {{model}}": rate("warmpath_output_tokens_total", "model"),
        },
        "Tokens per second, as the engines' usage reports them.",
    ),
    Panel(
        "Waiting for a place",
        "short",
        {"{{cluster}}": f"warmpath_queue_depth{{{PICK}}}"},
        "Requests beyond the cluster's circuit breaker.",
    ),
    Panel("Time spent waiting", "s", quantiles("warmpath_queue_wait_seconds")),
    Panel(
        "Waiting by priority",
        "short",
        {
            "{{cluster}} {{priority}}": "sum by (cluster, priority)"
            f" (warmpath_queue_waiting{{{PICK}}})"
        },
        stacked=True,
    ),
    Panel(
        "Queue: granted and refused",
        "reqps",
        {
            "granted {{cluster}}": rate("warmpath_queue_granted_total", "cluster"),
            "{{cause}} {{cluster}}": rate("warmpath_queue_rejected_total", "cluster, cause"),
            "drain rate {{cluster}}": f"sum by (cluster) (warmpath_queue_drain_rate{{{PICK}}})",
        },
        "The drain rate is what a full cluster serves; what comes beyond it waits or is refused.",
    ),
    Panel(
        "Circuit breakers: what is left",
        "short",
        {
            "{{cluster}} {{breaker}} {{threshold}}": f"warmpath_breaker_remaining{{{PICK}}}",
            "{{endpoint}}": f"warmpath_endpoint_places_remaining{{{PICK}}}",
        },
        "At 0 the breaker is open.",
    ),
    Panel(
        "Second attempts",
        "reqps",
        {"{{cluster}}": rate("warmpath_retries_total", "cluster")},
        "Retries per second: a request that failed before its first byte goes to another endpoint.",
        width=12,
    ),
    Panel(
        "Retries refused and hedges",
        "reqps",
        {
            "no retry: {{reason}}": rate("warmpath_retries_refused_total", "reason"),
            "hedge {{result}}": rate("warmpath_hedges_total", "result"),
            "waited {{kind}}": rate("warmpath_retry_waits_total", "kind"),
            "under way": f"sum (warmpath_retries_in_flight{{{PICK}}})",
        },
        width=12,
    ),
    *DETOURS,
    Panel(
        "Bytes",
        "Bps",
        {
            "from clients {{cluster}}": rate("warmpath_received_bytes_total", "cluster"),
            "to clients {{cluster}}": rate("warmpath_sent_bytes_total", "cluster"),
        },
        width=12,
    ),
)

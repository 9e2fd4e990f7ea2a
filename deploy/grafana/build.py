"""Writes the Grafana dashboards: a row of the tables below is a panel.

    python -m deploy.grafana.build            rewrite dashboards/
    python -m deploy.grafana.build --check    fail if they are not what this file says

Panels name only metrics of ``router/telemetry/metrics.py`` and rules of
``deploy/prometheus/rules.yaml``; a test holds them to it.
"""

import json
import sys
from pathlib import Path
from typing import Any

from deploy.grafana.overview import OVERVIEW
from deploy.grafana.panel import PICK, Panel, rate
from deploy.grafana.prediction import PREDICTION

DASHBOARDS = Path(__file__).parent / "dashboards"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


ENDPOINTS = (
    Panel(
        "Healthy",
        "short",
        {"{{endpoint}}": f"warmpath_endpoint_healthy{{{PICK}}}"},
        "1 while the endpoint passes its health checks.",
        kind="state-timeline",
        width=12,
    ),
    Panel(
        "State wanted by operators",
        "short",
        {"{{endpoint}} {{state}}": f"warmpath_endpoint_admin_state{{{PICK}}} == 1"},
        kind="state-timeline",
        width=12,
    ),
    Panel("In flight", "short", {"{{endpoint}}": f"warmpath_endpoint_in_flight{{{PICK}}}"}),
    Panel("Running", "short", {"{{endpoint}}": f"warmpath_endpoint_running{{{PICK}}}"}),
    Panel(
        "Queued in the engine", "short", {"{{endpoint}}": f"warmpath_endpoint_waiting{{{PICK}}}"}
    ),
    Panel(
        "KV cache in use",
        "percentunit",
        {"{{endpoint}}": f"warmpath_endpoint_kv_cache_usage{{{PICK}}}"},
    ),
    Panel(
        "Attempts by outcome",
        "reqps",
        {"{{outcome}}": rate("warmpath_endpoint_requests_total", "outcome")},
        stacked=True,
    ),
    Panel(
        "Mean wait for the first byte",
        "s",
        {
            "{{endpoint}}": rate("warmpath_endpoint_first_byte_seconds_total", "endpoint")
            + " / "
            + rate("warmpath_endpoint_first_bytes_total", "endpoint")
        },
        "Of streams, from the attempt to the endpoint.",
    ),
    Panel(
        "Ejected",
        "short",
        {"{{cluster}}": f"warmpath_ejected_endpoints{{{PICK}}}"},
        "Endpoints that outlier detection keeps out of rotation.",
    ),
    Panel(
        "Ejections",
        "short",
        {
            "{{cluster}} {{detector}} enforced={{enforced}}": "sum by (cluster, detector, enforced)"
            f" (increase(warmpath_ejections_total{{{PICK}}}[$__interval]))",
            "{{cluster}} kept by max_ejection_percent": "sum by (cluster)"
            f" (increase(warmpath_ejections_overflow_total{{{PICK}}}[$__interval]))",
        },
    ),
    Panel(
        "Imbalance",
        "short",
        {
            "{{cluster}}": f"max by (cluster) (warmpath_endpoint_in_flight{{{PICK}}})"
            f" / avg by (cluster) (warmpath_endpoint_in_flight{{{PICK}}})"
        },
        "The busiest endpoint over the mean: 1 is even.",
    ),
    Panel(
        "Age of load reports",
        "s",
        {"{{endpoint}}": f"warmpath_load_report_age_seconds{{{PICK}}}"},
    ),
    Panel("Weight", "short", {"{{endpoint}}": f"warmpath_endpoint_weight{{{PICK}}}"}),
    Panel(
        "Pushed back",
        "short",
        {"{{endpoint}}": f"warmpath_endpoint_pushed_back{{{PICK}}}"},
        "1 while the endpoint wants no new request: it answered 429, or 503 with Retry-After.",
        kind="state-timeline",
    ),
    Panel(
        "Sessions",
        "reqps",
        {
            "{{cluster}} {{result}}": rate("warmpath_sessions_total", "cluster, result"),
            "forgotten": "sum(rate(warmpath_sessions_forgotten_total[$__rate_interval]))",
        },
        "Requests that stayed at their session's endpoint, began one or had to move; forgotten: the"
        " table is too small.",
    ),
    Panel(
        "Load by priority",
        "percent",
        {
            "{{cluster}} {{priority}}": f"warmpath_priority_load_percent{{{PICK}}}",
            "{{cluster}} {{priority}} panic": f"100 * (warmpath_priority_panic{{{PICK}}} == 1)",
        },
        "What lower priorities get while endpoints of the first are down.",
    ),
)

ROUTER = (
    Panel("Client connections", "short", {"{{instance}}": "warmpath_connections"}),
    Panel("Request bytes held", "bytes", {"{{instance}}": "warmpath_buffered_bytes"}),
    Panel(
        "Event loop lag",
        "s",
        {
            "p99 {{instance}}": "histogram_quantile(0.99, sum by (instance, le)"
            " (rate(warmpath_event_loop_lag_seconds_bucket[$__rate_interval])))"
        },
        "A late loop delays every token of every stream.",
    ),
    Panel(
        "Refused before routing",
        "reqps",
        {"{{code}} {{flag}}": rate("warmpath_refused_total", "code, flag", "")},
        "Malformed, too large or too slow.",
    ),
    Panel(
        "Over a rate limit",
        "reqps",
        {
            "{{limit}} enforced={{enforced}}": rate(
                "warmpath_rate_limited_total", "limit, enforced", ""
            )
        },
        "Refused with 429, or let pass where the limit only counts.",
        width=12,
    ),
    Panel(
        "LLM tokens under limits",
        "short",
        {
            "{{result}}": rate("warmpath_limited_tokens_total", "result", ""),
            "buckets forgotten": rate("warmpath_rate_limit_buckets_forgotten_total", "job", ""),
        },
        "Per second. Reserved far above charged: estimates are too high. Forgiven: beyond debt.",
        width=12,
    ),
    Panel(
        "Limits of all routers",
        "reqps",
        {
            "{{result}}": rate("warmpath_shared_limit_questions_total", "result", ""),
            "charges lost": rate("warmpath_shared_limit_charges_lost_total", "job", ""),
            "workers that reach Redis": "sum(warmpath_shared_limits_reached)",
        },
        "Questions to Redis, and those that redis.on_failure had to answer.",
        width=12,
    ),
    Panel(
        "Not let in",
        "reqps",
        {"{{listener}} {{reason}}": rate("warmpath_denied_total", "listener, reason", "")},
        "Connections (address, handshake) and requests without a good credential.",
    ),
    Panel(
        "Requests by tenant",
        "reqps",
        {"{{tenant}} {{code}}": rate("warmpath_tenant_requests_total", "tenant, code", "")},
    ),
    Panel(
        "Age of token issuers' keys",
        "s",
        {"{{issuer}}": "max by (issuer) (warmpath_issuer_keys_age_seconds)"},
        "Grows while an issuer's keys cannot be fetched; the last good ones stay in use.",
    ),
    Panel(
        "Fetches of token issuers' keys",
        "reqps",
        {"{{issuer}} {{result}}": rate("warmpath_issuer_fetches_total", "issuer, result", "")},
    ),
    Panel("Generation in force", "short", {"{{instance}}": "warmpath_config_generation"}),
    Panel(
        "Reloads",
        "short",
        {"{{result}}": "sum by (result) (increase(warmpath_config_reloads_total[$__interval]))"},
    ),
    Panel(
        "Discovery",
        "short",
        {
            "{{result}} {{cluster}}": "sum by (cluster, result)"
            " (increase(warmpath_discovery_updates_total[$__interval]))",
            "stale {{cluster}}": "max by (cluster) (warmpath_discovery_stale)",
        },
        "Failed and empty answers keep the last known endpoints, which are stale meanwhile.",
        width=12,
    ),
    Panel(
        "Age of discovered endpoints",
        "s",
        {"{{instance}} {{cluster}}": "warmpath_discovery_age_seconds"},
        "Since the source last confirmed them.",
        width=12,
    ),
    Panel(
        "Workers",
        "short",
        {
            "ready {{instance}}": "warmpath_workers_ready",
            "draining {{instance}}": "warmpath_draining",
        },
    ),
    Panel(
        "Workers replaced",
        "short",
        {"{{instance}}": "increase(warmpath_worker_restarts_total[$__interval])"},
    ),
    Panel(
        "Access log lines dropped",
        "short",
        {"{{instance}}": "increase(warmpath_access_log_dropped_total[$__interval])"},
    ),
    Panel(
        "Prompts remembered",
        "short",
        {"{{cluster}}": "sum by (cluster) (warmpath_prefix_index_entries)"},
        "Beginnings of prompts and where they went; half a million a worker at most.",
    ),
    Panel("Versions", "short", {"{{instance}} {{version}}": "warmpath_build_info"}, width=24),
)

BOARDS = {
    "overview": ("Warmpath / Overview", OVERVIEW),
    "endpoints": ("Warmpath / Endpoints", ENDPOINTS),
    "prediction": ("Warmpath / Prediction", PREDICTION),
    "router": ("Warmpath / Router internals", ROUTER),
}


def dashboard(name: str) -> dict[str, Any]:
    title, panels = BOARDS[name]
    return {
        "uid": f"warmpath-{name}",
        "title": title,
        "description": "Written by deploy/grafana/build.py.",
        "tags": ["warmpath"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["warmpath"], "title": "Warmpath"}],
        "templating": {"list": [_datasource_variable(), _cluster_variable()]},
        "panels": list(_placed(panels)),
    }


def _placed(panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    """Panels left to right, top to bottom, each 8 units high."""
    placed: list[dict[str, Any]] = []
    x = y = 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > 24:
            x, y = 0, y + 8
        placed.append(_panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": 8}))
        x += panel.width
    return placed


def _panel(panel: Panel, number: int, position: dict[str, int]) -> dict[str, Any]:
    custom = {"fillOpacity": 20, "stacking": {"mode": "normal"}} if panel.stacked else {}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": expression,
                "legendFormat": legend,
            }
            for index, (legend, expression) in enumerate(panel.queries.items())
        ],
    }


def _datasource_variable() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus"}


def _cluster_variable() -> dict[str, Any]:
    return {
        "name": "cluster",
        "type": "query",
        "datasource": DATASOURCE,
        "query": "label_values(warmpath_endpoint_healthy, cluster)",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def render(name: str) -> str:
    return json.dumps(dashboard(name), indent=1) + "\n"


def main(arguments: list[str]) -> int:
    stale = []
    for name in BOARDS:
        path = DASHBOARDS / f"{name}.json"
        if arguments == ["--check"]:
            if not path.exists() or path.read_text() != render(name):
                stale.append(path.name)
        else:
            path.write_text(render(name))
    if stale:
        sys.stderr.write(f"not what build.py says: {', '.join(stale)}\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

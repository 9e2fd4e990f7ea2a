"""Load in the head of an answer, as vLLM tells it and Envoy reads it (ORCA).

Where a request has `endpoint-load-metrics-format: TEXT` or `JSON`, its answer has
`endpoint-load-metrics` with the load at the moment the head was written, the request itself
included while it waits or runs.  Other formats (ORCA knows a binary one) get no report, as with
vLLM: the request is still answered.
"""

from __future__ import annotations

from typing import Final

import msgspec

from engine.metrics import EngineGauges

REQUEST_HEADER: Final = "endpoint-load-metrics-format"
RESPONSE_HEADER: Final = "endpoint-load-metrics"


def load_report(form: str, gauges: EngineGauges) -> str | None:
    """Value of the response header in the format asked for; None if there is no such format."""
    metrics = {
        "kv_cache_usage_perc": round(gauges.kv_usage, 6),
        "num_requests_waiting": gauges.waiting,
        "num_requests_running": gauges.running,
        "queued_prefill_tokens": gauges.queued_prefill_tokens,
    }
    match form.strip().upper():
        case "TEXT":
            pairs = (f"named_metrics.{name}={value}" for name, value in metrics.items())
            return f"TEXT {', '.join(pairs)}"
        case "JSON":
            return f"JSON {msgspec.json.encode({'named_metrics': metrics}).decode()}"
        case _:
            return None

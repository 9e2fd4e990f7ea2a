"""The load report, read as its readers read it."""

from __future__ import annotations

import json

import pytest

from engine.load_report import load_report
from engine.metrics import EngineGauges

GAUGES = EngineGauges(running=3, waiting=2, kv_usage=1 / 3, queued_prefill_tokens=4096)
METRICS = {
    "kv_cache_usage_perc": 0.333333,
    "num_requests_waiting": 2,
    "num_requests_running": 3,
    "queued_prefill_tokens": 4096,
}


@pytest.mark.parametrize("form", ["TEXT", "text", " Text "])
def test_text_is_what_envoy_parses(form: str) -> None:
    report = load_report(form, GAUGES)
    assert report is not None
    # Envoy: the prefix, then pairs separated by commas, name and value by an equals sign.
    assert report.startswith("TEXT ")
    pairs = [pair.strip().split("=") for pair in report.removeprefix("TEXT ").split(",")]
    assert all(name.startswith("named_metrics.") for name, _ in pairs)
    assert {name.removeprefix("named_metrics."): float(v) for name, v in pairs} == METRICS


@pytest.mark.parametrize("form", ["JSON", "json"])
def test_json_is_orcas_message(form: str) -> None:
    report = load_report(form, GAUGES)
    assert report is not None
    assert report.startswith("JSON ")
    assert json.loads(report.removeprefix("JSON ")) == {"named_metrics": METRICS}


@pytest.mark.parametrize("form", ["BIN", "", "yaml", "TEXT,JSON"])
def test_other_formats_get_no_report(form: str) -> None:
    assert load_report(form, GAUGES) is None

"""Counting in workers, adding up in control, and the page."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from router.telemetry import counting
from router.telemetry.counting import CountingRecorder, Distribution
from router.telemetry.metrics import BY_NAME, CATALOGUE
from router.telemetry.page import MetricsPage
from router.telemetry.record import ExchangeRecord
from router.telemetry.reference import reference
from router.telemetry.totals import Totals


def record(**changes) -> ExchangeRecord:
    plain = ExchangeRecord(
        request_id="id",
        method="POST",
        path="/v1/chat/completions",
        client="10.0.0.1",
        route="r",
        cluster="c",
        endpoint="c/h:1",
        model="m",
        stream=True,
        status=200,
        flag="-",
        reason="least loaded",
        attempts=1,
        started_at=1_700_000_000.25,
        duration=2.0,
        queued=0.0,
        first_byte=0.1,
        ttft=0.15,
        bytes_in=100,
        bytes_out=1000,
        chunks=10,
    )
    return dataclasses.replace(plain, **changes)


def recorder() -> CountingRecorder:
    made = CountingRecorder()
    made.know_models(("m", "n"))
    return made


def test_an_exchange_is_counted_once_in_each_family():
    counts = recorder()
    counts.exchange_ended(
        record(prompt_tokens=50, completion_tokens=7, cached_tokens=32, attempts=3, queued=0.5)
    )
    totals = counts.totals()
    assert totals.counter("requests_total", ("r", "c", "m", "200", "-")) == 1
    assert totals.counter("retries_total", ("c",)) == 2
    assert totals.counter("input_tokens_total", ("c", "m")) == 50
    assert totals.counter("output_tokens_total", ("c", "m")) == 7
    assert totals.counter("cached_input_tokens_total", ("c", "m")) == 32
    assert totals.counter("received_bytes_total", ("c",)) == 100
    assert totals.counter("sent_bytes_total", ("c",)) == 1000
    assert totals.histograms["queue_wait_seconds"]["c",].sum == 0.5
    assert totals.histograms["request_duration_seconds"]["c", "m"].sum == 2.0
    assert totals.histograms["time_to_first_token_seconds"]["c", "m"].sum == 0.15


@pytest.mark.parametrize(
    ("changes", "first_tokens"),
    [({}, 1), ({"stream": False}, 0), ({"ttft": None}, 0), ({"status": 503}, 1)],
)
def test_first_tokens_are_those_of_streams(changes, first_tokens):
    counts = recorder()
    counts.exchange_ended(record(**changes))
    (spread,) = counts.totals().histograms["time_to_first_token_seconds"].values()
    assert sum(spread.counts) == first_tokens


@pytest.mark.parametrize(("model", "label"), [("n", "n"), ("-", "-"), ("evil" * 100, "other")])
def test_a_clients_free_text_is_no_label(model, label):
    counts = recorder()
    counts.exchange_ended(record(model=model))
    assert counts.totals().counter("requests_total", ("r", "c", label, "200", "-")) == 1


def test_series_are_bounded(monkeypatch):
    monkeypatch.setattr(counting, "MAX_SERIES", 5)
    counts = recorder()
    for status in range(400, 420):
        counts.refused(status, "-", None)
        counts.exchange_ended(record(route=f"r{status}", cluster=f"c{status}"))
    totals = counts.totals()
    assert sum(totals.counters["refused_total"].values()) == 20
    assert sum(totals.counters["requests_total"].values()) == 20
    assert sum(totals.counters["sent_bytes_total"].values()) == 20_000
    for family in (*totals.counters.values(), *totals.histograms.values()):
        assert len(family) <= 6
    assert totals.counter("refused_total", ("other", "other")) == 15


@pytest.mark.parametrize("value", [0.0, 0.001, 0.0011, 59.9, 60.0, 61.0, 1e9])
def test_a_bound_includes_its_own_value(value):
    distribution = Distribution("queue_wait_seconds")
    distribution.observe(value)
    bounds = [*BY_NAME["queue_wait_seconds"].buckets, float("inf")]
    (bucket,) = [bounds[i] for i, n in enumerate(distribution.counts) if n]
    assert bucket == min(bound for bound in bounds if value <= bound)


LABELS = st.tuples(st.sampled_from("ab"), st.sampled_from("xy"))
PARTS = st.lists(st.dictionaries(LABELS, st.integers(0, 9), max_size=4), max_size=5)


@given(PARTS)
def test_totals_add_up_in_any_order(parts):
    forth, back = Totals(), Totals()
    for part in parts:
        forth.add(Totals(counters={"input_tokens_total": part}))
    for part in reversed(parts):
        back.add(Totals(counters={"input_tokens_total": part}))
    assert forth == back
    for labels in {key for part in parts for key in part}:
        expected = sum(part.get(labels, 0) for part in parts)
        assert forth.counter("input_tokens_total", labels) == expected


def test_the_dead_keep_their_counts_and_lose_their_gauges():
    counts = recorder()
    counts.connection_opened()
    counts.exchange_ended(record())
    merged = Totals()
    merged.add(counts.totals(), gauges=False)
    merged.add(counts.totals())
    assert merged.gauge("connections") == 1
    assert merged.counter("requests_total", ("r", "c", "m", "200", "-")) == 2
    assert sum(merged.histograms["request_duration_seconds"]["c", "m"].counts) == 2


class TestPage:
    def page(self, totals: Totals, accept: str = "") -> tuple[str, str]:
        body, content_type = MetricsPage(lambda: totals).render(accept)
        return body.decode(), content_type

    def test_it_parses_and_its_numbers_are_right(self):
        counts = recorder()
        for duration in (0.004, 0.3, 1000.0):
            counts.exchange_ended(record(duration=duration))
        text, content_type = self.page(counts.totals())
        assert content_type.startswith("text/plain")
        families = {f.name: f for f in text_string_to_metric_families(text)}
        buckets = {
            sample.labels["le"]: sample.value
            for sample in families["warmpath_request_duration_seconds"].samples
            if sample.name.endswith("_bucket")
        }
        assert buckets["0.005"] == 1
        assert buckets["0.32"] == 2
        assert buckets["600.0"] == 2
        assert buckets["+Inf"] == 3

    def test_openmetrics_where_it_is_asked_for(self):
        text, content_type = self.page(Totals(), "application/openmetrics-text; version=1.0.0")
        assert "openmetrics" in content_type
        assert text.endswith("# EOF\n")

    def test_an_empty_page_still_tells_of_every_family(self):
        text, _ = self.page(Totals())
        assert text.count("# TYPE") == len(CATALOGUE)


class TestCatalogue:
    @pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
    def test_names_follow_the_conventions(self, metric):
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert (metric.kind == "histogram") == bool(metric.buckets)
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert metric.help.endswith(".")
        allowed = {"cluster", "endpoint", "route", "model", "code", "flag"}
        allowed |= {"outcome", "state", "result", "version", "detector", "enforced"}
        allowed |= {
            "priority",
            "reason",
            "kind",
            "limit",
            "fault",
            "fallback",
            "listener",
            "tenant",
            "issuer",
        }
        allowed |= {"breaker", "priority", "cause", "threshold"}
        assert set(metric.labels) <= allowed

    def test_names_are_unique(self):
        assert len(BY_NAME) == len(CATALOGUE)

    def test_the_reference_is_up_to_date(self, root):
        assert (root / "docs" / "metrics.md").read_text() == reference()

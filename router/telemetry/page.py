"""From merged totals to the Prometheus page.

The page is a collector over a function that yields the totals of the moment; families come in
the catalogue's order, and only those of the catalogue. Series of a family without any samples
still show their help and type.
"""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family

from router.telemetry.metric import Metric
from router.telemetry.metrics import CATALOGUE
from router.telemetry.totals import Spread, Totals


class MetricsPage:
    """Renders the catalogue.

    Args:
        totals: called for each page.
    """

    def __init__(self, totals: Callable[[], Totals]) -> None:
        self._totals = totals
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def describe(self) -> list[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        totals = self._totals()
        for metric in CATALOGUE:
            yield _family(metric, totals)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page in the format that an ``Accept`` header asks for, and its content type."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry), content_type


def _family(metric: Metric, totals: Totals) -> Family:
    name, labels = metric.full_name, list(metric.labels)
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(name, metric.help, labels=labels)
        for values, spread in totals.histograms.get(metric.name, {}).items():
            histogram.add_metric(list(values), _cumulative(metric.buckets, spread), spread.sum)
        return histogram
    if metric.kind == "counter":
        counter = CounterMetricFamily(name, metric.help, labels=labels)
        for values, number in totals.counters.get(metric.name, {}).items():
            counter.add_metric(list(values), number)
        return counter
    gauge = GaugeMetricFamily(name, metric.help, labels=labels)
    for values, number in totals.gauges.get(metric.name, {}).items():
        gauge.add_metric(list(values), number)
    for values, mean in totals.means.get(metric.name, {}).items():
        gauge.add_metric(list(values), mean.value)
    return gauge


def _cumulative(bounds: tuple[float, ...], spread: Spread) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, bounds), "+Inf"), spread.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets

"""What a worker counts, cheaply: plain dictionaries and bisected lists, no locks, no ``labels()``.

``CountingRecorder`` is called on the data path at the end of each exchange. Everything that needs
a label set is found by one dictionary look-up per group of series; the series of a cluster and
model are bound together in one object.
"""

from bisect import bisect_left
from collections.abc import Callable

from router.telemetry.metrics import BY_NAME
from router.telemetry.record import ExchangeRecord
from router.telemetry.totals import Labels, Spread, Totals

MAX_SERIES = 8192
"""Label sets of one family; beyond it a new one is counted as ``other`` in every label."""

OTHER = "other"


class Distribution:
    """Observations in buckets. A bound includes its own value."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, metric: str) -> None:
        self._bounds = BY_NAME[metric].buckets
        self.counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def spread(self) -> Spread:
        return Spread(list(self.counts), self.sum)


class ModelSeries:
    """The series of one cluster and model."""

    __slots__ = ("cached", "duration", "first_token", "input", "output")

    def __init__(self) -> None:
        self.duration = Distribution("request_duration_seconds")
        self.first_token = Distribution("time_to_first_token_seconds")
        self.input = 0
        self.output = 0
        self.cached = 0


class ClusterSeries:
    """The series of one cluster."""

    __slots__ = ("bytes_in", "bytes_out", "retries", "waited", "waits")

    def __init__(self) -> None:
        self.waits = Distribution("queue_wait_seconds")
        self.waited = False
        self.retries = 0
        self.bytes_in = 0
        self.bytes_out = 0


class CountingRecorder:
    """Implements ``Recorder``.

    Args:
        log: takes each finished exchange for the access log; None: nobody does.
    """

    def __init__(self, log: Callable[[ExchangeRecord], None] | None = None) -> None:
        self.log = log
        self.connections = 0
        self.lag = Distribution("event_loop_lag_seconds")
        self._models: frozenset[str] = frozenset()
        self._requests: dict[Labels, float] = {}
        self._refused: dict[Labels, float] = {}
        self._by_model: dict[tuple[str, str], ModelSeries] = {}
        self._by_cluster: dict[str, ClusterSeries] = {}

    def know_models(self, names: tuple[str, ...]) -> None:
        """The model names that may appear as labels; all others are counted as ``other``."""
        self._models = frozenset(names)

    def exchange_ended(self, record: ExchangeRecord) -> None:
        model = record.model
        if model not in self._models and model != "-":
            model = OTHER
        cluster = record.cluster
        _count(self._requests, (record.route, cluster, model, str(record.status), record.flag))
        series = self._by_model.get((cluster, model))
        if series is None:
            series = self._bind_model(cluster, model)
        series.duration.observe(record.duration)
        if record.stream and record.ttft is not None:
            series.first_token.observe(record.ttft)
        if record.prompt_tokens is not None:
            series.input += record.prompt_tokens
            series.output += record.completion_tokens or 0
            series.cached += record.cached_tokens or 0
        place = self._by_cluster.get(cluster)
        if place is None:
            place = self._bind_cluster(cluster)
        place.bytes_in += record.bytes_in
        place.bytes_out += record.bytes_out
        if record.attempts > 1:
            place.retries += record.attempts - 1
        if record.queued:
            place.waits.observe(record.queued)
            place.waited = True
        if self.log is not None:
            self.log(record)

    def refused(self, status: int, flag: str) -> None:
        _count(self._refused, (str(status), flag))

    def connection_opened(self) -> None:
        self.connections += 1

    def connection_closed(self) -> None:
        self.connections -= 1

    def totals(self) -> Totals:
        """A copy of all counts."""
        by_model, by_cluster = self._by_model, self._by_cluster
        waits: dict[Labels, Spread] = {
            (name,): s.waits.spread() for name, s in by_cluster.items() if s.waited
        }
        return Totals(
            counters={
                "requests_total": dict(self._requests),
                "refused_total": dict(self._refused),
                "retries_total": {(n,): s.retries for n, s in by_cluster.items()},
                "received_bytes_total": {(n,): s.bytes_in for n, s in by_cluster.items()},
                "sent_bytes_total": {(n,): s.bytes_out for n, s in by_cluster.items()},
                "input_tokens_total": {key: s.input for key, s in by_model.items()},
                "output_tokens_total": {key: s.output for key, s in by_model.items()},
                "cached_input_tokens_total": {key: s.cached for key, s in by_model.items()},
            },
            gauges={"connections": {(): self.connections}},
            histograms={
                "request_duration_seconds": {k: s.duration.spread() for k, s in by_model.items()},
                "time_to_first_token_seconds": {
                    k: s.first_token.spread() for k, s in by_model.items()
                },
                "queue_wait_seconds": waits,
                "event_loop_lag_seconds": {(): self.lag.spread()},
            },
        )

    def _bind_model(self, cluster: str, model: str) -> ModelSeries:
        if len(self._by_model) >= MAX_SERIES:
            cluster = model = OTHER
        return self._by_model.setdefault((cluster, model), ModelSeries())

    def _bind_cluster(self, cluster: str) -> ClusterSeries:
        if len(self._by_cluster) >= MAX_SERIES:
            cluster = OTHER
        return self._by_cluster.setdefault(cluster, ClusterSeries())


def _count(counts: dict[Labels, float], labels: Labels) -> None:
    try:
        counts[labels] += 1
    except KeyError:
        if len(counts) >= MAX_SERIES:
            labels = (OTHER,) * len(labels)
        counts[labels] = counts.get(labels, 0) + 1

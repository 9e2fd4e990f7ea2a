"""What a worker counts, cheaply: plain dictionaries and bisected lists, no locks, no ``labels()``.

``CountingRecorder`` is called on the data path at the end of each exchange. Everything that needs
a label set is found by one dictionary look-up: what an exchange adds to is bound together in one
object per distinct route, cluster, model, status and flag.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import Final

from router.telemetry.metrics import BY_NAME
from router.telemetry.record import ExchangeRecord
from router.telemetry.totals import Labels, Spread, Totals

MAX_SERIES: Final = 8192
"""Label sets of one family; beyond it a new one is counted as ``other`` in every label."""

OTHER: Final = "other"
_place: Final = bisect_left


class Distribution:
    """Observations in buckets. A bound includes its own value."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, metric: str) -> None:
        self._bounds = BY_NAME[metric].buckets
        self.counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[_place(self._bounds, value)] += 1
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


class Outcome:
    """All that exchanges with the same labels add to."""

    __slots__ = ("cluster", "count", "model")

    def __init__(self, model: ModelSeries, cluster: ClusterSeries) -> None:
        self.count = 0
        self.model = model
        self.cluster = cluster


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
        # By route, cluster, model, status and flag.
        self._outcomes: dict[tuple[str, str, str, int, str], Outcome] = {}
        self._uncounted = 0  # in ``_outcomes``, which were full
        self._refused: dict[Labels, float] = {}
        self._denied: dict[Labels, float] = {}
        self._tenants: dict[Labels, float] = {}
        self._by_model: dict[tuple[str, str], ModelSeries] = {}
        self._by_cluster: dict[str, ClusterSeries] = {}

    def know_models(self, names: tuple[str, ...]) -> None:
        """The model names that may appear as labels; all others are counted as ``other``."""
        self._models = frozenset(names)

    def exchange_ended(self, record: ExchangeRecord) -> None:
        model = record.model
        if model not in self._models and model != "-":
            model = OTHER
        key = (record.route, record.cluster, model, record.status, record.flag)
        outcome = self._outcomes.get(key) or self._bind(key)
        outcome.count += 1
        series, place = outcome.model, outcome.cluster
        series.duration.observe(record.duration)
        if record.stream and record.ttft is not None:
            series.first_token.observe(record.ttft)
        if record.prompt_tokens is not None:
            series.input += record.prompt_tokens
            series.output += record.completion_tokens or 0
            series.cached += record.cached_tokens or 0
        place.bytes_in += record.bytes_in
        place.bytes_out += record.bytes_out
        if record.attempts > 1:
            place.retries += record.attempts - 1 - record.hedges
        if record.queued:
            place.waits.observe(record.queued)
            place.waited = True
        if record.tenant is not None:
            _count(self._tenants, (record.tenant, str(record.status)))
        if self.log is not None:
            self.log(record)

    def shadow_ended(self, record: ExchangeRecord) -> None:
        if self.log is not None:
            self.log(record)

    def refused(self, status: int, flag: str, record: ExchangeRecord | None) -> None:
        _count(self._refused, (str(status), flag))
        if record is not None and self.log is not None:
            self.log(record)

    def denied(self, listener: str, reason: str) -> None:
        _count(self._denied, (listener, reason))

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
        requests: dict[Labels, float] = {
            (route, cluster, model, str(status), flag): outcome.count
            for (route, cluster, model, status, flag), outcome in self._outcomes.items()
        }
        if self._uncounted:
            requests[(OTHER,) * 5] = self._uncounted
        return Totals(
            counters={
                "requests_total": requests,
                "refused_total": dict(self._refused),
                "denied_total": dict(self._denied),
                "tenant_requests_total": dict(self._tenants),
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

    def _bind(self, key: tuple[str, str, str, int, str]) -> Outcome:
        cluster, model = key[1], key[2]
        outcome = Outcome(self._model(cluster, model), self._cluster(cluster))
        if len(self._outcomes) < MAX_SERIES:
            self._outcomes[key] = outcome
        else:
            self._uncounted += 1
        return outcome

    def _model(self, cluster: str, model: str) -> ModelSeries:
        known = self._by_model
        if (cluster, model) not in known and len(known) >= MAX_SERIES:
            cluster = model = OTHER
        return known.setdefault((cluster, model), ModelSeries())

    def _cluster(self, cluster: str) -> ClusterSeries:
        known = self._by_cluster
        if cluster not in known and len(known) >= MAX_SERIES:
            cluster = OTHER
        return known.setdefault(cluster, ClusterSeries())


def _count(counts: dict[Labels, float], labels: Labels) -> None:
    try:
        counts[labels] += 1
    except KeyError:
        if len(counts) >= MAX_SERIES:
            labels = (OTHER,) * len(labels)
        counts[labels] = counts.get(labels, 0) + 1

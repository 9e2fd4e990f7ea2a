"""Counts in a form that travels: what one worker counted since it started.

Totals are cumulative, so a report that got lost costs nothing, and those of a worker that died
are simply kept. Names are the catalogue's, without prefix; label values in the catalogue's order.
"""

import msgspec

Labels = tuple[str, ...]


class Spread(msgspec.Struct, array_like=True):
    """A histogram: observations per bucket, the last one +Inf, and the sum of all."""

    counts: list[int]
    sum: float = 0.0

    def add(self, other: "Spread") -> None:
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


class Mean(msgspec.Struct, array_like=True):
    """What each worker sees of the same thing: workers that report it, and their sum."""

    sum: float
    count: int = 1

    @property
    def value(self) -> float:
        return self.sum / self.count


class Totals(msgspec.Struct, kw_only=True):
    """All metrics here add up over workers, gauges too, but for ``means``: gauges of which each
    worker has a view of the whole."""

    counters: dict[str, dict[Labels, float]] = msgspec.field(default_factory=dict)
    gauges: dict[str, dict[Labels, float]] = msgspec.field(default_factory=dict)
    means: dict[str, dict[Labels, Mean]] = msgspec.field(default_factory=dict)
    histograms: dict[str, dict[Labels, Spread]] = msgspec.field(default_factory=dict)

    def add(self, other: "Totals", *, gauges: bool = True) -> None:
        """Add another worker's totals to these; without ``gauges`` for one that is gone."""
        _add_numbers(self.counters, other.counters)
        if gauges:
            _add_numbers(self.gauges, other.gauges)
            self._add_means(other)
        for name, series in other.histograms.items():
            mine = self.histograms.setdefault(name, {})
            for labels, spread in series.items():
                present = mine.get(labels)
                if present is None:
                    mine[labels] = Spread(list(spread.counts), spread.sum)
                else:
                    present.add(spread)

    def _add_means(self, other: "Totals") -> None:
        for name, series in other.means.items():
            mine = self.means.setdefault(name, {})
            for labels, mean in series.items():
                present = mine.get(labels, Mean(0.0, 0))
                mine[labels] = Mean(present.sum + mean.sum, present.count + mean.count)

    def counter(self, name: str, labels: Labels = ()) -> float:
        return self.counters.get(name, {}).get(labels, 0.0)

    def gauge(self, name: str, labels: Labels = ()) -> float:
        return self.gauges.get(name, {}).get(labels, 0.0)

    def mean(self, name: str, labels: Labels = ()) -> float | None:
        """None where no worker reports it."""
        mean = self.means.get(name, {}).get(labels)
        return None if mean is None else mean.value


def _add_numbers(
    into: dict[str, dict[Labels, float]], other: dict[str, dict[Labels, float]]
) -> None:
    for name, series in other.items():
        mine = into.setdefault(name, {})
        for labels, value in series.items():
            mine[labels] = mine.get(labels, 0.0) + value

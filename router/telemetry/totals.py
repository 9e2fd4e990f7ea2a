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


class Totals(msgspec.Struct, kw_only=True):
    """All metrics here add up over workers, gauges too."""

    counters: dict[str, dict[Labels, float]] = msgspec.field(default_factory=dict)
    gauges: dict[str, dict[Labels, float]] = msgspec.field(default_factory=dict)
    histograms: dict[str, dict[Labels, Spread]] = msgspec.field(default_factory=dict)

    def add(self, other: "Totals", *, gauges: bool = True) -> None:
        """Add another worker's totals to these; without ``gauges`` for one that is gone."""
        _add_numbers(self.counters, other.counters)
        if gauges:
            _add_numbers(self.gauges, other.gauges)
        for name, series in other.histograms.items():
            mine = self.histograms.setdefault(name, {})
            for labels, spread in series.items():
                present = mine.get(labels)
                if present is None:
                    mine[labels] = Spread(list(spread.counts), spread.sum)
                else:
                    present.add(spread)

    def counter(self, name: str, labels: Labels = ()) -> float:
        return self.counters.get(name, {}).get(labels, 0.0)

    def gauge(self, name: str, labels: Labels = ()) -> float:
        return self.gauges.get(name, {}).get(labels, 0.0)


def _add_numbers(
    into: dict[str, dict[Labels, float]], other: dict[str, dict[Labels, float]]
) -> None:
    for name, series in other.items():
        mine = into.setdefault(name, {})
        for labels, value in series.items():
            mine[labels] = mine.get(labels, 0.0) + value

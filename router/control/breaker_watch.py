"""Tells when a cluster's circuit breaker begins to refuse requests, and when it no longer does.

Workers decide alone and at once; control sees what they counted. Looked at a few times a second:
a breaker counts as open while the cluster is at its limit or requests were refused since the last
look.
"""

from collections.abc import Callable, Iterable

from router.control.journal import Tell
from router.core.cluster import Cluster
from router.telemetry.totals import Totals

OVERFLOW = "UO"


class BreakerWatch:
    """Which breakers are open.

    Args:
        tell: told of each opening and closing.
        in_flight: requests in flight in a cluster.
        totals: what the workers counted.
    """

    def __init__(
        self, tell: Tell, in_flight: Callable[[str], int], totals: Callable[[], Totals]
    ) -> None:
        self._tell = tell
        self._in_flight = in_flight
        self._totals = totals
        self._open: dict[str, float] = {}
        self._refused: dict[str, float] = {}

    def look(self, clusters: Iterable[Cluster]) -> None:
        """Compare with the last look, and tell what changed."""
        refused = self._counted()
        names = set()
        for cluster in clusters:
            name = cluster.name
            names.add(name)
            count = refused.get(name, 0)
            more = count > self._refused.get(name, 0)
            limit = cluster.breaker.max_requests
            active = self._in_flight(name)
            if active >= limit or more:
                if name not in self._open:
                    self._open[name] = self._refused.get(name, 0)
                    self._tell(
                        "breaker", cluster=name, state="open", in_flight=active, max_requests=limit
                    )
            elif name in self._open:
                since = count - self._open.pop(name)
                self._tell("breaker", cluster=name, state="closed", refused=int(since))
        self._refused = {name: refused.get(name, 0) for name in names}
        self._open = {name: at for name, at in self._open.items() if name in names}

    def _counted(self) -> dict[str, float]:
        """Requests that overflowed, by cluster."""
        counts: dict[str, float] = {}
        for labels, count in self._totals().counters.get("requests_total", {}).items():
            cluster, flag = labels[1], labels[4]
            if OVERFLOW in flag.split(","):
                counts[cluster] = counts.get(cluster, 0) + count
        return counts

    def __repr__(self) -> str:
        return f"<BreakerWatch open={sorted(self._open)}>"

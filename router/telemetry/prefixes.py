"""What is counted of the prompts that balancers remember, in a form that travels."""

from collections.abc import Iterable

from router.core.memory import ClusterMemory
from router.core.prefix.placements import Placements
from router.telemetry.totals import Totals


def add_prefixes(totals: Totals, memories: Iterable[tuple[str, ClusterMemory]]) -> None:
    """Add the sizes of these clusters' indexes; none for a cluster whose balancer keeps none."""
    totals.gauges["prefix_index_entries"] = {
        (cluster,): placements.index.entries
        for cluster, memory in memories
        if isinstance(placements := memory.kept.get(Placements), Placements)
    }

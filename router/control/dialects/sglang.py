"""SGLang's words; it publishes them if started with ``--enable-metrics``.

Ranks of tensor and pipeline parallelism may all tell the same: of the samples of one data parallel
rank the largest counts, and those of different ranks add up. Where requests have priorities there
is a sample for each besides the sum, whose ``priority`` is empty.
"""

from router.control.dialects.base import DialectError
from router.control.dialects.samples import labelled
from router.core.load import LoadReport

RUNNING = b"sglang:num_running_reqs"
WAITING = b"sglang:num_queue_reqs"
USAGE = b"sglang:token_usage"
CAPACITY = b"sglang:max_total_num_tokens"


class Sglang:
    name = "sglang"

    def load(self, page: bytes, at: float) -> LoadReport:
        running, waiting = _by_rank(page, RUNNING), _by_rank(page, WAITING)
        if not running or not waiting:
            missing = WAITING if running else RUNNING
            raise DialectError(
                f"no {missing.decode()} on the metrics page; SGLang needs --enable-metrics"
            )
        usage, capacity = _by_rank(page, USAGE), _by_rank(page, CAPACITY)
        return LoadReport(
            at,
            round(sum(running)),
            round(sum(waiting)),
            min(max(sum(usage) / len(usage), 0.0), 1.0) if usage else None,
            capacity=round(sum(capacity)) if capacity else None,
        )


def _by_rank(page: bytes, name: bytes) -> list[float]:
    """A value for each data parallel rank."""
    ranks: dict[bytes, float] = {}
    for labels, value in labelled(page, name):
        if not labels.get(b"priority"):
            rank = labels.get(b"dp_rank", b"")
            ranks[rank] = max(value, ranks.get(rank, value))
    return list(ranks.values())

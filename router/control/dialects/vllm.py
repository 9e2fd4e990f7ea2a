"""vLLM's words, of both generations: ``kv_cache_usage_perc`` was ``gpu_cache_usage_perc``.

One process may report several engines (data parallel ranks): their requests add up, and of their
cache usages the mean counts.
"""

from router.control.dialects.base import DialectError
from router.control.dialects.samples import values
from router.core.load import LoadReport

RUNNING = b"vllm:num_requests_running"
WAITING = b"vllm:num_requests_waiting"
KV_USAGE = (b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc")


class Vllm:
    name = "vllm"

    def load(self, page: bytes, at: float) -> LoadReport:
        running = values(page, RUNNING)
        waiting = values(page, WAITING)
        if not running or not waiting:
            missing = RUNNING if not running else WAITING
            raise DialectError(f"no {missing.decode()} on the metrics page")
        usage: float | None = None
        for name in KV_USAGE:
            if shares := values(page, name):
                usage = min(max(sum(shares) / len(shares), 0.0), 1.0)
                break
        return LoadReport(at, round(sum(running)), round(sum(waiting)), usage)

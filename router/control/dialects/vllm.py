"""vLLM's words, of both generations: ``kv_cache_usage_perc`` was ``gpu_cache_usage_perc``.

A page has hundreds of lines of which three matter, once a second, for every engine: they are
looked up in the bytes instead of parsing the page. One process may report several engines (data
parallel ranks): their requests add up, and of their cache usages the mean counts.
"""

import math

from router.control.dialects.base import DialectError
from router.core.load import LoadReport

RUNNING = b"vllm:num_requests_running"
WAITING = b"vllm:num_requests_waiting"
KV_USAGE = (b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc")


class Vllm:
    name = "vllm"

    def load(self, page: bytes, at: float) -> LoadReport:
        running = _samples(page, RUNNING)
        waiting = _samples(page, WAITING)
        if not running or not waiting:
            missing = RUNNING if not running else WAITING
            raise DialectError(f"no {missing.decode()} on the metrics page")
        usage: float | None = None
        for name in KV_USAGE:
            if shares := _samples(page, name):
                usage = min(max(sum(shares) / len(shares), 0.0), 1.0)
                break
        return LoadReport(at, round(sum(running)), round(sum(waiting)), usage)


def _samples(page: bytes, name: bytes) -> list[float]:
    """Values of all finite samples of a family, whatever their labels."""
    values: list[float] = []
    start = 0
    while (found := page.find(name, start)) >= 0:
        end = page.find(b"\n", found)
        end = len(page) if end < 0 else end
        start = end
        rest = page[found + len(name) : end]
        starts_line = found == 0 or page[found - 1 : found] == b"\n"
        if not starts_line or rest[:1] not in (b"{", b" "):
            continue  # a comment, or a longer name
        # A label value may hold any character, so the last brace counts; a timestamp may follow.
        words = rest[rest.rfind(b"}") + 1 :].split()
        try:
            value = float(words[0])
        except (IndexError, ValueError):
            continue
        if math.isfinite(value):
            values.append(value)
    return values

"""The words of llama.cpp's server; it publishes them if started with ``--metrics``.

Only some of its versions tell how full the KV cache is.
"""

from router.control.dialects.base import DialectError
from router.control.dialects.samples import values
from router.core.load import LoadReport

RUNNING = b"llamacpp:requests_processing"
WAITING = b"llamacpp:requests_deferred"
USAGE = b"llamacpp:kv_cache_usage_ratio"


class LlamaCpp:
    name = "llamacpp"

    def load(self, page: bytes, at: float) -> LoadReport:
        running, waiting = values(page, RUNNING), values(page, WAITING)
        if not running or not waiting:
            missing = WAITING if running else RUNNING
            raise DialectError(
                f"no {missing.decode()} on the metrics page; llama.cpp needs --metrics"
            )
        usage = values(page, USAGE)
        return LoadReport(
            at,
            round(running[0]),
            round(waiting[0]),
            min(max(usage[0], 0.0), 1.0) if usage else None,
        )

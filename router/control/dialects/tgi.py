"""The words of Hugging Face's Text Generation Inference, which has no gauge of its KV cache.

A gauge is on the page from the first batch on: before that it is 0, but a page without any of
TGI's words is somebody else's.
"""

from router.control.dialects.base import DialectError
from router.control.dialects.samples import values
from router.core.load import LoadReport

RUNNING = b"tgi_batch_current_size"
WAITING = b"tgi_queue_size"


class Tgi:
    name = "tgi"

    def load(self, page: bytes, at: float) -> LoadReport:
        if b"tgi_" not in page:
            raise DialectError(f"no {RUNNING.decode()} on the metrics page")
        running, waiting = (round(sum(values(page, name))) for name in (RUNNING, WAITING))
        return LoadReport(at, running, waiting)

"""vLLM's words, of both generations: ``kv_cache_usage_perc`` was ``gpu_cache_usage_perc``.

One process may report several engines (data parallel ranks): their requests and their caches add
up, and of their cache usages the mean counts. What is no number stands in labels: how large a cache
is, and lists of LoRA adapters, beside the time at which they were so; older ones stay on the page.
"""

from router.control.dialects.base import DialectError
from router.control.dialects.samples import labelled, values
from router.core.load import Adapters, LoadReport

RUNNING = b"vllm:num_requests_running"
WAITING = b"vllm:num_requests_waiting"
KV_USAGE = (b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc")
CACHE = b"vllm:cache_config_info"
ADAPTERS = b"vllm:lora_requests_info"
MAX_DIGITS = 15


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
        return LoadReport(
            at,
            round(sum(running)),
            round(sum(waiting)),
            usage,
            capacity=_capacity(page),
            adapters=_adapters(page),
        )


def _capacity(page: bytes) -> int | None:
    """Tokens that the caches of all engines hold; None unless all of them say."""
    engines: dict[bytes, int] = {}
    for labels, _ in labelled(page, CACHE):
        blocks, size = labels.get(b"num_gpu_blocks", b""), labels.get(b"block_size", b"")
        # "None" until the engine has measured it.
        if not (blocks.isdigit() and size.isdigit()) or len(blocks) + len(size) > MAX_DIGITS:
            return None
        engines[labels.get(b"engine", b"")] = int(blocks) * int(size)
    return sum(engines.values()) or None


def _adapters(page: bytes) -> Adapters | None:
    found = labelled(page, ADAPTERS)
    if not found:
        return None
    labels, _ = max(found, key=lambda sample: sample[1])
    slots = labels.get(b"max_lora", b"")
    return Adapters(
        _names(labels.get(b"running_lora_adapters", b"")),
        _names(labels.get(b"waiting_lora_adapters", b"")),
        int(slots) if slots.isdigit() and len(slots) <= MAX_DIGITS else 0,
    )


def _names(listed: bytes) -> frozenset[str]:
    names = (name.strip() for name in listed.decode("utf-8", "replace").split(","))
    return frozenset(name for name in names if name)

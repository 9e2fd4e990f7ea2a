"""An engine's load in the head of its answer: asked for, read, and kept from the client.

The header is ORCA's, as vLLM, Triton and ``warmpath-engine`` send it: ``endpoint-load-metrics``,
its value a word for the form and then the metrics, as text or JSON; some leave the word out. The
line is taken out before the head is looked up among those that were checked before: with a load in
them no two would be alike. A client that asks for the load itself gets it, in the form it wants.
"""

import math
import re
from typing import Final

import msgspec

from router.core.load import LoadReport
from router.proxy.headers import RequestHead

FORMAT: Final = b"endpoint-load-metrics-format"
_NAME: Final = b"\r\nendpoint-load-metrics:"
_ASKING: Final = FORMAT + b": TEXT\r\n"
_LINE: Final = re.compile(
    rb"\r\nendpoint-load-metrics:[ \t]*(?:(TEXT|JSON)[ \t]+)?([\x20-\x7e\t]*)(?=\r\n)",
    re.IGNORECASE,
)
_METRIC: Final = re.compile(
    rb"(?:^|[ ,\t])(?:named_metrics\.)?([a-z_]+)=([0-9.eE+-]{1,24})(?=[ ,\t]|$)"
)

MAX_REMEMBERED: Final = 1024
# By the front of a head.
_asking: dict[bytes, bytes] = {}


class _Report(msgspec.Struct, gc=False):
    named_metrics: dict[str, float] = {}


_read_json: Final = msgspec.json.Decoder(_Report, strict=False).decode


def asks(head: RequestHead) -> bool:
    """Whether the client itself wants to be told."""
    return any(name == FORMAT for name, _ in head.fields)


def asking(head: RequestHead) -> RequestHead:
    """The head, asking for the load unless the client does."""
    if asks(head):
        return head
    front = _asking.get(head.front)
    if front is None:
        first, end, rest = head.front.partition(b"\r\n")
        front = first + end + _ASKING + rest
        if len(_asking) >= MAX_REMEMBERED:
            _asking.clear()
        _asking[head.front] = front
    dressed = RequestHead(head.shape, head.length, head.fields, head.request_id)
    dressed.front, dressed.middle = front, head.middle
    return dressed


def heard(raw: bytes, known: LoadReport | None, now: float) -> tuple[bytes, LoadReport | None]:
    """A response head without the line, and what that says; None if there is none, or nothing.

    Args:
        raw: the head with its empty line.
        known: the last report of the endpoint, for what an answer does not tell.
    """
    found = _LINE.search(raw) if _NAME in raw.lower() else None
    if found is None:
        return raw, None
    rest = raw[: found.start()] + raw[found.end() :]
    text = found[2].strip()
    try:
        named = _from_json(text) if text[:1] == b"{" else _from_text(text)
    except (msgspec.DecodeError, ValueError):
        return rest, None
    return rest, _report(named, known, now)


def _from_text(text: bytes) -> dict[str, float]:
    return {name.decode("ascii"): float(value) for name, value in _METRIC.findall(text)}


def _from_json(text: bytes) -> dict[str, float]:
    return _read_json(text).named_metrics


def _report(named: dict[str, float], known: LoadReport | None, now: float) -> LoadReport | None:
    running, waiting = _count(named, "num_requests_running"), _count(named, "num_requests_waiting")
    if running is None and known is not None:
        running = known.running  # vLLM does not tell
    if running is None or waiting is None:
        return None
    usage = named.get("kv_cache_usage_perc")
    return LoadReport(
        now,
        running,
        waiting,
        None if usage is None or not math.isfinite(usage) else min(max(usage, 0.0), 1.0),
        _count(named, "queued_prefill_tokens"),
        None if known is None else known.capacity,
        None if known is None else known.adapters,
        told=True,
    )


def _count(named: dict[str, float], name: str) -> int | None:
    value = named.get(name)
    return None if value is None or not 0 <= value < 1e12 else round(value)

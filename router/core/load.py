"""What an engine says of its own load."""

import msgspec


class LoadReport(msgspec.Struct, frozen=True):
    """An engine's own word on its load. ``at`` is when it was read, monotonic seconds.

    ``queued_prefill``: prompt tokens that it has accepted and not computed yet. ``capacity``:
    tokens that its KV cache holds. None: it does not say.
    """

    at: float
    running: int
    waiting: int
    kv_usage: float | None = None
    queued_prefill: int | None = None
    capacity: int | None = None

"""What an engine says of its own load."""

import msgspec


class LoadReport(msgspec.Struct, frozen=True):
    """An engine's own word on its load. ``at`` is when it was read, monotonic seconds."""

    at: float
    running: int
    waiting: int
    kv_usage: float | None = None

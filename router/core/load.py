"""What an engine says of its own load."""

import msgspec


class Adapters(msgspec.Struct, frozen=True):
    """LoRA adapters of an engine: in use, waiting to be loaded, and how many may be in use."""

    running: frozenset[str]
    waiting: frozenset[str]
    slots: int


class LoadReport(msgspec.Struct, frozen=True):
    """An engine's own word on its load. ``at`` is when it was read, monotonic seconds.

    ``told``: in the head of an answer, not on its metrics page.

    ``queued_prefill``: prompt tokens that it has accepted and not computed yet. ``capacity``:
    tokens that its KV cache holds. ``adapters``: those it has loaded. None: it does not say.
    """

    at: float
    running: int
    waiting: int
    kv_usage: float | None = None
    queued_prefill: int | None = None
    capacity: int | None = None
    adapters: Adapters | None = None
    told: bool = False

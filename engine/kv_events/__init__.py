"""KV events: which blocks a prefix cache holds, told to whoever routes requests, as vLLM tells it.

A cache notes every change in an `EventLog`; after each step the engine hands the log's contents to
a `Publisher`, which encodes and sends them in a thread of its own.  `docs/kv-events.md` has what
goes over the wire.
"""

from engine.kv_events.config import KvEventsConfig, KvEventsError
from engine.kv_events.events import Event, EventLog
from engine.kv_events.publisher import Publisher

__all__ = ["Event", "EventLog", "KvEventsConfig", "KvEventsError", "Publisher"]

"""One exchange as it will be counted and logged, and who counts and logs it."""

from typing import Protocol

import msgspec


class ExchangeRecord(msgspec.Struct, gc=False):
    """Filled by a face when an exchange has ended. Durations in seconds; ``-`` for unknown text.

    ``first_byte`` is from the request's arrival to the response head, ``ttft`` to the first byte
    of the response body, both None if it never came. ``chunks`` counts reads relayed.
    ``hedges`` of the ``attempts`` were made beside another. Token
    counts come from the response's ``usage`` and are None where it had none. Made on the data path,
    by position: two dozen keywords cost ten times as much.
    """

    request_id: str
    method: str
    path: str
    client: str
    route: str
    cluster: str
    endpoint: str
    model: str
    stream: bool
    status: int
    flag: str
    reason: str
    attempts: int
    started_at: float
    """Wall clock, Unix seconds."""
    duration: float
    queued: float
    first_byte: float | None
    ttft: float | None
    bytes_in: int
    bytes_out: int
    chunks: int
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    tenant: str | None = None
    trace_id: str | None = None
    """Of the W3C trace context."""
    protocol: str = "HTTP/1.1"
    fields: dict[str, str] | None = None
    """Header values that the log's format asks for."""
    fallback: str | None = None
    """The clusters that the request went through, with why it left them; None for most."""
    hedges: int = 0
    prompt_bytes: int | None = None
    prefix: tuple[int, ...] | None = None
    """The prompt's checkpoints (``router.core.prefix.blocks``), None unless they are to be logged.
    They leave the process for control alone, which makes other names of them."""
    shadow: bool = False
    """A copy that a mirror was sent; ``reason`` says what became of it."""


class Recorder(Protocol):
    """Where a worker's face reports. Called on the event loop: must not block or log."""

    def exchange_ended(self, record: ExchangeRecord) -> None: ...

    def shadow_ended(self, record: ExchangeRecord) -> None:
        """A copy for a mirror that is to be logged has ended; it is counted elsewhere."""
        ...

    def refused(self, status: int, flag: str) -> None:
        """A request ended before it became an exchange (malformed, too large, too slow)."""
        ...

    def denied(self, listener: str, reason: str, record: ExchangeRecord | None) -> None:
        """Somebody was not let in; ``record`` None where no request had come yet."""
        ...

    def connection_opened(self) -> None:
        """A client connected."""
        ...

    def connection_closed(self) -> None: ...


class NoRecorder:
    """Counts nothing; for tests."""

    def exchange_ended(self, record: ExchangeRecord) -> None:
        return None

    def shadow_ended(self, record: ExchangeRecord) -> None:
        return None

    def refused(self, status: int, flag: str) -> None:
        return None

    def denied(self, listener: str, reason: str, record: ExchangeRecord | None) -> None:
        return None

    def connection_opened(self) -> None:
        return None

    def connection_closed(self) -> None:
        return None

"""Who counts and logs what has ended."""

from typing import Protocol

from router.telemetry.record import ExchangeRecord


class Recorder(Protocol):
    """Where a worker's face reports. Called on the event loop: must not block or log."""

    def exchange_ended(self, record: ExchangeRecord) -> None: ...

    def shadow_ended(self, record: ExchangeRecord) -> None:
        """A copy for a mirror that is to be logged has ended; it is counted elsewhere."""
        ...

    def refused(self, status: int, flag: str, record: ExchangeRecord | None) -> None:
        """A request ended before it became an exchange (malformed, too large, too slow).

        ``record`` None: its head could not be read, or it is reported as an exchange too.
        """
        ...

    def denied(self, listener: str, reason: str) -> None:
        """Somebody was not let in, with a request or before one had come."""
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

    def refused(self, status: int, flag: str, record: ExchangeRecord | None) -> None:
        return None

    def denied(self, listener: str, reason: str) -> None:
        return None

    def connection_opened(self) -> None:
        return None

    def connection_closed(self) -> None:
        return None

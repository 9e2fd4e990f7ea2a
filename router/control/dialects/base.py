"""What a dialect is: how one kind of engine words its load."""

from typing import Protocol

from router.core.load import LoadReport


class DialectError(ValueError):
    """The page is not what this kind of engine publishes; the message says what is missing."""


class Dialect(Protocol):
    name: str

    def load(self, page: bytes, at: float) -> LoadReport:
        """Read a metrics page.

        Args:
            page: body of the engine's metrics page.
            at: when it was read, monotonic seconds.

        Raises:
            DialectError: the page lacks what is needed.
        """
        ...

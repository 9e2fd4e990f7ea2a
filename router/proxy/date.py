"""The Date field, for answers that have none: RFC 9110 6.6.1. Written anew once a second."""

import time
from email.utils import formatdate
from typing import Final


class _Clock:
    """The line of the present second."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = b"date: " + formatdate(second, usegmt=True).encode("ascii")
        return self._line


line: Final = _Clock().line
"""The header line of now, without CRLF."""

"""The Date field, for answers that have none: RFC 9110 6.6.1. Written anew once a second."""

from email.utils import formatdate
from time import time
from typing import Final

_time: Final = time


class _Clock:
    """The line of the present second."""

    __slots__ = ("_ending", "_line", "_next")

    def __init__(self) -> None:
        self._next = 0.0
        self._line = self._ending = b""

    def line(self) -> bytes:
        now = _time()
        # A clock that was set back writes lines of the future for a while, but not for long.
        if now >= self._next or now < self._next - 2.0:
            second = int(now)
            self._next = second + 1.0
            self._line = b"date: " + formatdate(second, usegmt=True).encode("ascii")
            self._ending = b"\r\n%b\r\n\r\n" % self._line
        return self._line

    def ending(self) -> bytes:
        self.line()
        return self._ending


_clock: Final = _Clock()


def line() -> bytes:
    """The header line of now, without CRLF."""
    return _clock.line()


def ending() -> bytes:
    """The end of a head whose last line lacks its CRLF: the line of now, and the empty one."""
    return _clock.ending()

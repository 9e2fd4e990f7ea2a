"""Identities for requests that come without one."""

import random
from typing import Final

_LAST: Final = [b"%03x" % number for number in range(1 << 12)]
_RENEWED: Final = 1 << 8


class _RequestIds:
    """Random UUIDs (version 4): random bits in front, a count from a random start behind.

    Formatting 128 fresh bits costs 1 us, putting the last twelve of them behind the others a
    twentieth. The count gets a new random front long before it could come round.
    """

    __slots__ = ("_bits", "_count", "_front", "_left", "_place")

    def __init__(self) -> None:
        self._bits = self._count = self._left = 0
        self._front = b""
        self._place = len(_LAST)

    def next(self) -> bytes:
        place = self._place
        if place == len(_LAST):
            self._turn()
            place = 0
        self._place = place + 1
        return self._front + _LAST[place]

    def _turn(self) -> None:
        if not self._left:
            self._bits = random.getrandbits(80)
            self._count = random.getrandbits(35)
            self._left = _RENEWED
        self._left -= 1
        self._count += 1
        bits = self._bits
        self._front = b"%08x-%04x-4%03x-%04x-%09x" % (
            bits >> 48,
            bits >> 32 & 0xFFFF,
            bits >> 16 & 0xFFF,
            bits & 0x3FFF | 0x8000,
            self._count,
        )


_ids: Final = _RequestIds()


def new_request_id() -> bytes:
    """One that no other request has."""
    return _ids.next()

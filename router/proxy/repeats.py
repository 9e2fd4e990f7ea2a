"""Heads that come again on a connection with nothing changed but the digits of Content-Length.

Nearly all that a connection carries are such. Where the last head is known as the bytes before
those digits and the bytes behind them, down to the empty line, the next one is recognised by two
comparisons, and no end is searched for. What is recognised is a head that was checked, byte for
byte, but for digits that are read each time: so what is accepted does not depend on it.
"""

from typing import Final

DIGITS: Final = 18
"""Of a length, at most."""


def digits_at(data: bytes, start: int) -> tuple[int, int]:
    """Where the digits that begin at ``start`` end, and their value; ``start`` itself and 0 where
    there are none. They are read one by one: compiled, that costs a tenth of calling ``int``."""
    stop, value, last = start, 0, min(len(data), start + DIGITS)
    while stop < last and 0x30 <= data[stop] <= 0x39:
        value = value * 10 + data[stop] - 0x30
        stop += 1
    return stop, value


def digits_between(data: bytes, before: bytes, after: bytes) -> tuple[int, int]:
    """Where the digits end that ``data`` has between the two, and their value.

    Args:
        before: what ``data`` must begin with; not empty.
        after: what must follow the digits; ends with an empty line.

    Returns:
        (0, 0) if there are none, or it is another head.
    """
    start, size = len(before), len(data)
    if size <= start + len(after) or data[:start] != before:
        return 0, 0
    stop, value = digits_at(data, start)
    end = stop + len(after)
    if stop == start or end > size or data[stop:end] != after:
        return 0, 0
    return stop, value

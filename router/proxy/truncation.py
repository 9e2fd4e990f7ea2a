"""How to end a stream that broke off: with an event that says so, where the framing allows it.

Chunks of the engine go to the client as they came, so the client may be in the middle of one.
llhttp knows how much of it is missing but does not say. It is asked, once the connection is dead
anyway, by feeding it one byte after the other until it objects: inside chunk data it takes any
byte, everywhere else in the coding it takes no ``?``. The bytes missing are made up by line ends,
which end whatever event was cut.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from router.proxy.chunked import chunk

if TYPE_CHECKING:
    from router.proxy.upstream import Upstream

MAX_FILL: Final = 64 * 1024
"""Missing bytes that are made up; a chunk that lacks more is left as it is (about 5 ms)."""


def close_chunk(upstream: "Upstream", tail: deque[bytes], event: bytes) -> bytes:
    """What to write so that ``event`` is the last thing the client reads; empty if it cannot be.

    Args:
        upstream: the connection whose response broke off.
        tail: the last reads that were passed on.
    """
    last = tail[-1] if tail else b"\n"  # no body yet: the head's end is a boundary too
    missing = upstream.missing_of_chunk(MAX_FILL)
    if missing:
        return b"\n" * missing + b"\r\n" + chunk(event)
    # Between chunks: not inside a size line, and not before the CRLF that ends a chunk.
    if missing == 0 and upstream.chunks_closed() and last.endswith(b"\n"):
        return chunk(event)
    return b""

"""Messages over a socket pair: four bytes of length, big endian, then MessagePack.

The same protocol object serves both ends. It never waits: ``send`` queues, and whoever may send
much (the access log) looks at ``backlog`` first. A peer that lets its queue grow beyond the limit
is not reading and is cut off; for a worker that means a restart.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Any, cast

from router.control.messages import Message, encode

MAX_MESSAGE = 64 * 1024 * 1024
MAX_BACKLOG = 128 * 1024 * 1024
_LENGTH = struct.Struct(">I")


class Channel(asyncio.Protocol):
    """One end of a control channel.

    Args:
        decode: bytes to a message; what it raises ends the channel.
        received: called with each message, on the event loop.
        lost: called once when the other end is gone.
    """

    def __init__(
        self,
        decode: Callable[[bytes], Any],
        received: Callable[[Any], None],
        lost: Callable[[], None],
    ) -> None:
        self._decode = decode
        self._received = received
        self._lost = lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > MAX_MESSAGE:
                self.abort()
                return
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            frame = bytes(buffer[start + _LENGTH.size : end])
            start = end
            self._received(self._decode(frame))
        if start:
            del buffer[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost()

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def backlog(self) -> int:
        """Bytes queued and not yet taken by the other end."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, message: Message) -> None:
        """Queue one message; dropped if the channel is closed.

        Raises:
            ValueError: if the message is larger than 64 MiB.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        payload = encode(message)
        if len(payload) > MAX_MESSAGE:
            raise ValueError(f"a control message may have at most {MAX_MESSAGE} bytes")
        if transport.get_write_buffer_size() > MAX_BACKLOG:
            transport.abort()
            return
        transport.write(_LENGTH.pack(len(payload)) + payload)

    def close(self) -> None:
        """Close after what is queued was sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

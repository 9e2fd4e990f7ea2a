"""A backend that does what a scenario tells it: answers, is slow, hangs, streams or breaks off."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

Behaviour = dict[str, Any]
"""Any of: status, headers, delay, hang, stream {chunks, interval, size}, reset."""


class Backend:
    """Listens on a port of its own; one that is ``down`` holds its port, so connects are refused.

    Attributes:
        behaviour: what it does once its script is over.
        script: what it does with the next requests, one each.
        head: of the last request, as it came.
        hits: requests read.
        busiest: the most requests that were being answered at one time.
    """

    def __init__(
        self,
        name: str,
        behaviour: Behaviour,
        *,
        script: Sequence[Behaviour] = (),
        down: bool = False,
    ) -> None:
        self.name = name
        self.behaviour = behaviour
        self.script = list(script)
        self.head = b""
        self.hits = 0
        self.busiest = 0
        self._busy = 0
        self._down = down
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        if not self._down:
            self._server = await asyncio.start_server(
                self._connection, sock=self._socket, limit=1 << 20
            )

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._socket.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                self.head = await _read_request(reader)
                head_only = self.head.startswith(b"HEAD ")
                self.hits += 1
                self._busy += 1
                self.busiest = max(self.busiest, self._busy)
                try:
                    if not await self._answer(writer, head_only):
                        break
                finally:
                    self._busy -= 1
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _answer(self, writer: asyncio.StreamWriter, head_only: bool) -> bool:
        """Whether the connection can take another request."""
        behaviour = self.script.pop(0) if self.script else self.behaviour
        reset = behaviour.get("reset")
        if behaviour.get("hang"):
            await asyncio.sleep(3600)
        await asyncio.sleep(behaviour.get("delay", 0))
        if reset == "before_headers":
            _reset(writer)
            return False
        if reset == "fin_before_headers":
            writer.close()
            await writer.wait_closed()
            return False
        stream = behaviour.get("stream")
        body = self.name.encode()
        length = len(body) + (1000 if reset else 0)
        head = [
            f"HTTP/1.1 {behaviour.get('status', 200)} X",
            f"x-backend: {self.name}",
            "content-type: text/plain",
            *(["transfer-encoding: chunked"] if stream else []),
            *([f"content-length: {length}"] if not stream and not head_only else []),
            *(f"{name}: {value}" for name, value in behaviour.get("headers", {}).items()),
        ]
        whole = b"" if stream or head_only else body
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + whole)
        if stream:
            for _ in range(stream["chunks"]):
                await asyncio.sleep(stream["interval"])
                writer.write(b"8\r\nxxxxxxx\n\r\n")
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        if reset == "after_headers":
            await asyncio.sleep(0.02)
            _reset(writer)
            return False
        return True


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    """The head, once the body has been read too."""
    raw = await reader.readuntil(b"\r\n\r\n")
    head = raw.lower()
    if b"transfer-encoding: chunked" in head:
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
    elif b"content-length:" in head:
        await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
    return raw

"""A real Redis on a free port, in memory."""

import asyncio
import socket
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError


class RedisServer:
    """Args: the path of ``redis-server`` and a folder of its own."""

    def __init__(self, path: str, folder: Path) -> None:
        self._path = path
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._process: asyncio.subprocess.Process | None = None
        self.client = Redis(port=self.port)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        arguments += ["--appendonly", "no", "--dir", str(self._folder)]
        self._process = await asyncio.create_subprocess_exec(
            self._path, *arguments, stdout=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(20):
            while True:
                try:
                    await self.client.ping()
                except (RedisError, OSError):
                    await asyncio.sleep(0.02)
                else:
                    return

    async def stop(self) -> None:
        await self.client.aclose()
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    async def levels(self) -> list[int]:
        """What the buckets held when they were last drawn on, rounded."""
        keys = [key async for key in self.client.scan_iter()]
        return sorted([round(float(await self.client.hget(key, "level"))) for key in keys])

"""Reloading when the configuration's files change, as SIGHUP would.

What counts as known are the files as they were at the last read, whoever asked for it, so that a
reload by signal or by the admin API is not followed by one more. Files that are refused are not
tried again before they change.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from router.config.load import files_of, load
from router.config.schema import Config
from router.control.discovery.changes import Changes
from router.telemetry.logs import logger

INTERVAL = 1.0
"""Seconds between two looks."""


class ConfigWatch:
    """Reads a configuration and notices that it changed.

    Args:
        path: a file, or a directory of them.
        interval: seconds between two looks.
    """

    def __init__(self, path: Path, interval: float = INTERVAL) -> None:
        self.path = path
        self._interval = interval
        self._changes = Changes(lambda: files_of(path))
        self._log = logger("reload")

    def read(self) -> Config:
        """Read the configuration. May run in a thread.

        Raises:
            ConfigError: it is not usable.
        """
        self._changes.mark()
        return load(self.path)

    async def run(self, reload: Callable[[], Awaitable[None]]) -> None:
        """Call ``reload``, which is to call :meth:`read`, after each change, for ever."""
        while True:
            await asyncio.sleep(self._interval)
            if await self._changes.settled():
                self._log.info("the configuration's files changed", path=str(self.path))
                await reload()

    def __repr__(self) -> str:
        return f"<ConfigWatch {self.path}>"

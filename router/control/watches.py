"""One task per endpoint, kept in step with the configuration.

What watches an endpoint (probes, scrapes, model lists) restarts its task when the endpoint's
address or the watch's own settings changed, and only then.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from router.control.roster import Standing
from router.telemetry.logs import logger


class Watches:
    """Tasks by endpoint id.

    Args:
        run: makes the coroutine that watches one endpoint for ever, given its settings.
    """

    def __init__(
        self, name: str, run: Callable[[Standing, Any], Coroutine[Any, Any, None]]
    ) -> None:
        self._run = run
        self._tasks: dict[str, tuple[object, Standing, asyncio.Task[None]]] = {}
        self._log = logger(name)

    def reconcile(self, wanted: Mapping[str, tuple[Standing, object]]) -> None:
        """Make the running tasks equal ``wanted``: standing and settings by endpoint id."""
        for id_ in list(self._tasks):
            settings, standing, task = self._tasks[id_]
            if wanted.get(id_) != (standing, settings):
                task.cancel()
                del self._tasks[id_]
        for id_, (standing, settings) in wanted.items():
            if id_ not in self._tasks:
                task = asyncio.create_task(self._run(standing, settings))
                task.add_done_callback(self._ended)
                self._tasks[id_] = (settings, standing, task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a watch failed", error=repr(error))

    async def close(self) -> None:
        tasks = [task for _, _, task in self._tasks.values()]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._tasks)

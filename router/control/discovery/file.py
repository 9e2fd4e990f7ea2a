"""Endpoints from a file that somebody else keeps up to date.

The file is a list, in YAML or JSON, of what may stand in a cluster's ``endpoints``, or a mapping
with that one field. Nothing in it is read from the environment. Content that is not usable is told
with line and column and changes nothing.
"""

import asyncio
from pathlib import Path

from router.config.check import convert
from router.config.clusters import EndpointSpec
from router.config.discovery import FileDiscovery
from router.config.document import read
from router.config.findings import ConfigError
from router.config.load import read_texts
from router.config.references import endpoint_problems
from router.config.section import Section
from router.control.discovery.answer import Answer, DiscoveryFailed
from router.control.discovery.changes import Changes

MAX_TOLD = 5
"""Findings of one bad file that go into the message."""


class EndpointList(Section, frozen=True, kw_only=True):
    """The content of an endpoint file."""

    endpoints: tuple[EndpointSpec, ...]


def read_endpoints(path: Path) -> tuple[EndpointSpec, ...]:
    """The endpoints of a file; none of an empty list.

    Raises:
        ConfigError: with everything that is wrong and where it stands.
    """
    document = read(read_texts([path]), {}, list_field="endpoints")
    listed, found = convert(document, EndpointList)
    if listed is not None:
        found = list(endpoint_problems(listed.endpoints, ()))
    if found or listed is None:
        raise ConfigError(document.locate(problem) for problem in found)
    return listed.endpoints


class FileSource:
    """Follows one file."""

    Spec = FileDiscovery
    max_pause = 2.0

    def __init__(self, spec: FileDiscovery) -> None:
        self._path = Path(spec.path)
        self._interval = float(spec.interval)
        self._changes = Changes(lambda: [self._path])
        self._answer: Answer | None = None

    async def next(self) -> Answer:
        if self._answer is not None:
            await asyncio.sleep(self._interval)
            if not await asyncio.to_thread(self._path.exists):
                raise DiscoveryFailed(f"{self._path}: no such file")
            if not await self._changes.settled():
                return self._answer
        try:
            self._answer = await asyncio.to_thread(self._read)
        except ConfigError as error:
            self._changes.marked = None  # to be read again, changed or not
            lines = [str(finding) for finding in error.findings[:MAX_TOLD]]
            raise DiscoveryFailed("; ".join(lines)) from None
        return self._answer

    def _read(self) -> Answer:
        self._changes.mark()
        return Answer(endpoints=read_endpoints(self._path))

    async def close(self) -> None:
        """Nothing is held open."""

    def __repr__(self) -> str:
        return f"<FileSource {self._path}>"

"""What a source of endpoints is, and what it says."""

from typing import Protocol

import msgspec

from router.config.clusters import EndpointSpec


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """All endpoints of a cluster, each address once. An empty answer says that there are none."""

    endpoints: tuple[EndpointSpec, ...]


class DiscoveryFailed(Exception):
    """A source could not be asked, or said something that cannot be used; the message says why."""


class Source(Protocol):
    """Looks endpoints up. One per cluster; :meth:`next` is called again and again."""

    max_pause: float
    """Seconds; the longest wait before a failed source is asked again."""

    async def next(self) -> Answer:
        """Wait until there is something to say, if only that nothing changed.

        The first call does not wait.

        Raises:
            DiscoveryFailed: what was known stays; the next call tries again.
        """
        ...

    async def close(self) -> None: ...

"""What the balancers of a cluster remember. Outlives reloads, as the fleet does.

A balancer is made anew when its configuration changes, and there is one for each subset, priority
and locality of a cluster. What they learn of endpoints is the same for all: it is kept here.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar, cast, runtime_checkable

from router.core.balancers.affinity import AffinityTable
from router.core.model import EndpointId

T = TypeVar("T")


@runtime_checkable
class Forgetful(Protocol):
    """What is kept of endpoints and must not outlive them."""

    def lost(self, id_: EndpointId) -> None:
        """The endpoint is down or gone; should it come back, it comes back empty."""
        ...


class ClusterMemory:
    """One cluster's.

    Args:
        affinity: where conversations were sent, of all clusters.
    """

    __slots__ = ("affinity", "kept")

    def __init__(self, affinity: AffinityTable) -> None:
        self.affinity = affinity
        self.kept: dict[object, object] = {}

    def keep(self, kind: type[T], make: Callable[[], T] | None = None) -> T:
        """The cluster's one object of this kind, made on first use.

        Args:
            make: makes it; without it the kind does, with no arguments.
        """
        found = self.kept.get(kind)
        if found is None:
            found = self.kept[kind] = kind() if make is None else make()
        return cast("T", found)

    def lost(self, id_: EndpointId) -> None:
        """An endpoint is down or gone."""
        for kept in self.kept.values():
            if isinstance(kept, Forgetful):
                kept.lost(id_)

    @classmethod
    def alone(cls, words: int = 64) -> "ClusterMemory":
        """A memory that nobody shares, with an affinity table of ``words`` entries."""
        return cls(AffinityTable.of_size(words))

    def __repr__(self) -> str:
        return f"<ClusterMemory {[getattr(kind, '__name__', kind) for kind in self.kept]}>"

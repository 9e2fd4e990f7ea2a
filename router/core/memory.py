"""What the balancers of a cluster remember. Outlives reloads, as the fleet does.

A balancer is made anew when its configuration changes, and there is one for each subset, priority
and locality of a cluster. What they learn of endpoints is the same for all: it is kept here.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar, cast, runtime_checkable

from router.core.affinity import AffinityTable
from router.core.load import LoadReport
from router.core.model import EndpointId

T = TypeVar("T")


@runtime_checkable
class Forgetful(Protocol):
    """What is kept of endpoints and must not outlive them."""

    def lost(self, id_: EndpointId) -> None:
        """The endpoint is down or gone; should it come back, it comes back empty."""
        ...


@runtime_checkable
class Informed(Protocol):
    """What is kept that heeds what engines say of their load."""

    def reported(self, id_: EndpointId, load: LoadReport | None) -> None:
        """A report has come that is newer than the last; None: there is none any more."""
        ...

    def look(self, now: float) -> None:
        """Forget what was said too long ago; asked every second or so."""
        ...


class ClusterMemory:
    """One cluster's.

    Args:
        affinity: where conversations were sent, of all clusters.
    """

    __slots__ = ("_forgetful", "_informed", "affinity", "kept")

    def __init__(self, affinity: AffinityTable) -> None:
        self.affinity = affinity
        self.kept: dict[object, object] = {}
        # Asked once: isinstance of a protocol costs more than what is told.
        self._forgetful: list[Forgetful] = []
        self._informed: list[Informed] = []

    def keep(self, kind: type[T], make: Callable[[], T] | None = None) -> T:
        """The cluster's one object of this kind, made on first use.

        Args:
            make: makes it; without it the kind does, with no arguments.
        """
        found = self.kept.get(kind)
        if found is None:
            found = self.kept[kind] = kind() if make is None else make()
            if isinstance(found, Forgetful):
                self._forgetful.append(found)
            if isinstance(found, Informed):
                self._informed.append(found)
        return cast("T", found)

    def lost(self, id_: EndpointId) -> None:
        """An endpoint is down or gone."""
        for kept in self._forgetful:
            kept.lost(id_)

    def reported(self, id_: EndpointId, load: LoadReport | None) -> None:
        """An engine has told its load, or not for so long that it is not known any more."""
        for kept in self._informed:
            kept.reported(id_, load)

    def look(self, now: float) -> None:
        """Forget reports that are too old."""
        for kept in self._informed:
            kept.look(now)

    @classmethod
    def alone(cls, words: int = 64) -> "ClusterMemory":
        """A memory that nobody shares, with an affinity table of ``words`` entries."""
        return cls(AffinityTable.of_size(words))

    def __repr__(self) -> str:
        return f"<ClusterMemory {[getattr(kind, '__name__', kind) for kind in self.kept]}>"

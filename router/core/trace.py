"""What a decision considered and why it fell as it did.

The director and the balancers report to a trace as they go. Nobody asked is the usual case, so
the default is a null object whose calls do nothing; ``explain`` passes a recording one.
"""

from collections.abc import Sequence
from typing import Final

from router.core.host import HostState
from router.core.routing import Route


class DecisionTrace:
    """Keeps nothing: nobody asked."""

    __slots__ = ()

    def route_rejected(self, route: Route, conditions: tuple[str, ...]) -> None:
        return None

    def route_matched(self, route: Route) -> None:
        return None

    def host_removed(self, host: HostState, reason: str) -> None:
        return None

    def chosen_from(self, hosts: Sequence[HostState]) -> None:
        return None

    def picked(self, host: HostState, reason: str, attempt: int) -> None:
        return None

    def not_retried(self, reason: str) -> None:
        return None


class RecordingTrace(DecisionTrace):
    """Keeps everything, in order, as plain sentences' parts.

    Attributes:
        routes: (route name, conditions that failed; empty for the one that matched).
        removed: (endpoint id, reason).
        candidates: (endpoint id, attempts in flight there) of the last pick.
        picks: (attempt from 1, endpoint id, reason).
        refusals: why a failure that is worth a retry was not followed by one.
    """

    __slots__ = ("candidates", "picks", "refusals", "removed", "routes")

    def __init__(self) -> None:
        self.routes: list[tuple[str, tuple[str, ...]]] = []
        self.removed: list[tuple[str, str]] = []
        self.candidates: list[tuple[str, int]] = []
        self.picks: list[tuple[int, str, str]] = []
        self.refusals: list[str] = []

    def route_rejected(self, route: Route, conditions: tuple[str, ...]) -> None:
        self.routes.append((route.name, conditions))

    def route_matched(self, route: Route) -> None:
        self.routes.append((route.name, ()))

    def host_removed(self, host: HostState, reason: str) -> None:
        self.removed.append((host.id, reason))

    def chosen_from(self, hosts: Sequence[HostState]) -> None:
        self.candidates = [(host.id, host.active) for host in hosts]

    def picked(self, host: HostState, reason: str, attempt: int) -> None:
        self.picks.append((attempt, host.id, reason))

    def not_retried(self, reason: str) -> None:
        self.refusals.append(reason)


NO_TRACE: Final = DecisionTrace()

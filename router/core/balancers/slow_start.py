"""Slow start (Envoy's): an endpoint that has just come gets its share bit by bit.

An endpoint enters the window when it is seen among the usable ones and was not so before: it
joined, turned healthy, or came back from an ejection or a drain. Those that are there when the
balancer starts do not: after a restart of the router all would be slow alike.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from router.core.duration import Interval
from router.core.host import HostState


class SlowStart(msgspec.Struct, frozen=True, kw_only=True):
    """How an endpoint that has just come grows into its weight.

    ``window``: after this time it has its whole weight; set it to what an engine needs to warm
    its caches up. ``aggression``: 1 grows evenly, more grows faster at first: the weight is
    multiplied by (time / window) ** (1 / aggression). ``min_weight_percent``: where it begins, in
    percent of the weight; near 0, an endpoint waits long for its first request.
    """

    window: Interval
    aggression: Annotated[float, msgspec.Meta(gt=0, le=100)] = 1.0
    min_weight_percent: Annotated[float, msgspec.Meta(gt=0, le=100)] = 10.0


class WarmUp:
    """Which endpoints of a balancer are within the window, and how far they are.

    Attributes:
        now: time of the present pick; weights are those of this moment.
    """

    __slots__ = ("_fit", "_since", "_spec", "_until", "now")

    def __init__(self, spec: SlowStart) -> None:
        self._spec = spec
        self._fit: frozenset[HostState] | None = None
        self._since: dict[HostState, float] = {}
        self._until = 0.0
        self.now = 0.0

    @property
    def active(self) -> bool:
        """Whether any endpoint is within the window."""
        return bool(self._since)

    def follow(self, hosts: Sequence[HostState], now: float) -> None:
        """These are the usable endpoints from now on."""
        self.now = now
        # In panic, unhealthy ones are among them: they are not new, nor are they here to stay.
        fit = frozenset(host for host in hosts if host.healthy and not host.ejected)
        window = self._spec.window
        since = {
            host: begun
            for host, begun in self._since.items()
            if host in fit and now - begun < window
        }
        if self._fit is not None:
            since |= dict.fromkeys(fit - self._fit, now)
        self._fit = fit
        self._since = since
        self._until = max(since.values(), default=0.0) + window

    def over(self, now: float) -> bool:
        """Take the time; True once, when the last endpoint has left the window."""
        self.now = now
        if not self._since or now < self._until:
            return False
        self._since = {}
        return True

    def weight(self, host: HostState) -> float:
        """The host's weight as far as it has grown."""
        begun = self._since.get(host)
        if begun is None:
            return host.weight
        spec = self._spec
        grown: float = min(1.0, (self.now - begun) / spec.window) ** (1 / spec.aggression)
        return host.weight * max(spec.min_weight_percent / 100, grown)

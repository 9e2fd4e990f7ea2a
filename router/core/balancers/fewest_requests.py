"""How ``least_request`` picks. Apart from its Spec so that it compiles, see ADR 14."""

from collections.abc import Callable, Sequence

from router.core.balancers.base import Scores
from router.core.balancers.edf import EdfSchedule, weights_differ
from router.core.balancers.loads import least_active, less_loaded
from router.core.balancers.slow_start import SlowStart, WarmUp
from router.core.clock import Rng
from router.core.host import HostState
from router.core.model import EndpointId, LlmRequest


class FewestRequests:
    """A ``Balancer``; ``LeastRequest.Spec`` says what its arguments mean."""

    __slots__ = (
        "_bias",
        "_choices",
        "_draw",
        "_full_scan",
        "_hosts",
        "_rng",
        "_schedule",
        "_warm_up",
    )

    def __init__(
        self, rng: Rng, choices: int, full_scan: bool, bias: float, slow_start: SlowStart | None
    ) -> None:
        self._bias = bias
        self._warm_up = None if slow_start is None else WarmUp(slow_start)
        self._full_scan = full_scan
        self._choices = choices
        self._rng = rng
        self._draw: Callable[[], float] = rng.random
        self._hosts: Sequence[HostState] = ()
        self._schedule: EdfSchedule[HostState] | None = None

    def pick(
        self,
        request: LlmRequest,
        hosts: Sequence[HostState],
        rng: Rng,
        tried: tuple[EndpointId, ...] = (),
        now: float = 0.0,
    ) -> tuple[HostState, str]:
        if hosts is not self._hosts:
            self._hosts = hosts
            if self._warm_up is not None:
                self._warm_up.follow(hosts, now)
            self._plan(hosts)
        elif self._warm_up is not None and self._warm_up.over(now):
            self._plan(hosts)
        if self._schedule is not None:
            return self._schedule.next(), "least loaded by weight"
        if self._full_scan:
            return least_active(hosts, rng), "least loaded"
        if rng is not self._rng:
            # A method of an object that is not compiled is made anew each time it is asked for.
            self._rng, self._draw = rng, rng.random
        return less_loaded(hosts, self._choices, self._draw), "less loaded"

    def explain(self, request: LlmRequest, hosts: Sequence[HostState]) -> Scores:
        if weights_differ(hosts):
            return Scores(
                notes={"selection": "weighted turns, weight / (in flight + 1) ** bias"},
                hosts={host.id: {"dynamic_weight": self._dynamic_weight(host)} for host in hosts},
            )
        drawn = f"the least loaded of {self._choices} drawn from {len(hosts)}"
        selection = "the least loaded of all" if self._full_scan else drawn
        return Scores(
            notes={"selection": selection}, hosts={h.id: {"active": h.burden} for h in hosts}
        )

    def _plan(self, hosts: Sequence[HostState]) -> None:
        warming = self._warm_up is not None and self._warm_up.active
        self._schedule = None
        if warming or weights_differ(hosts):
            self._schedule = EdfSchedule(hosts, self._dynamic_weight)

    def _dynamic_weight(self, host: HostState) -> float:
        divisor: float = (host.burden + 1) ** self._bias
        weight = host.weight if self._warm_up is None else self._warm_up.weight(host)
        return weight / divisor

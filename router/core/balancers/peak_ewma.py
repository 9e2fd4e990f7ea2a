"""The lower cost of two: time to the first byte times requests in flight (Finagle's Peak EWMA).

The time is a moving average that jumps to a peak at once and comes down slowly, so that an endpoint
which turns slow loses its traffic with the first late answer. It is kept with the endpoint, per
worker, and survives reloads; requests in flight are those of the whole machine.

An endpoint that nothing is known of costs little, so that it is tried, but not nothing: at cost
zero it would win every draw until its first answer, however many wait there. An average that no
sample confirms fades to the same little cost. A failed attempt counts as a slow one, however fast
it failed, or the endpoint that refuses everything in a millisecond would look like the best one.
"""

from collections.abc import Sequence
from typing import ClassVar

from router.core.balancers.base import Balancer, BalancerSpec, Scores
from router.core.balancers.edf import weights_differ
from router.core.balancers.weighted import WeightedDraw
from router.core.clock import Rng
from router.core.duration import Interval
from router.core.host import HostState, Latency
from router.core.memory import ClusterMemory
from router.core.model import EndpointId, LlmRequest


class PeakEwma:
    class Spec(BalancerSpec, frozen=True, kw_only=True, tag="peak_ewma"):
        """The endpoint that is likely to answer first: fast lately, and not busy.

        ``tau``: how long a sample counts; after this time its weight is down to 37 %. Shorter
        follows noise, longer leaves an endpoint that has recovered idle for longer.
        ``initial``: time to the first byte that is assumed of an endpoint without samples, and
        that a slow one returns to without new ones. It should be below the real times: a new
        endpoint then draws up to twice its share until its first answers come; above them, it
        gets little until the others are busy. ``penalty``: what a failed attempt or a 429 counts
        for, however fast it came; at 100 times the usual time each worker tries an endpoint that
        always fails about once in 4 tau, and at no more than the usual time it is a black hole.
        """

        reads_conversation: ClassVar[bool] = False

        tau: Interval = Interval(10)
        initial: Interval = Interval(0.01)
        penalty: Interval = Interval(10)

        def build(self, rng: Rng, memory: ClusterMemory) -> Balancer:
            return PeakEwma(self)

    __slots__ = ("_draw", "_hosts", "_spec")

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._hosts: Sequence[HostState] = ()
        self._draw: WeightedDraw | None = None

    def pick(
        self,
        request: LlmRequest,
        hosts: Sequence[HostState],
        rng: Rng,
        tried: tuple[EndpointId, ...] = (),
        now: float = 0.0,
    ) -> tuple[HostState, str]:
        if hosts is not self._hosts:
            self._follow(hosts)
        if tried:
            hosts = [host for host in hosts if host.endpoint.id not in tried] or hosts
        size = len(hosts)
        if size == 1:
            return hosts[0], "the only one"
        if self._draw is not None and not tried:
            one, other = self._draw.draw(rng), self._draw.draw(rng)
            return (one if _cost(one, now) <= _cost(other, now) else other), "lower cost by weight"
        # Two different ones: drawn with replacement, the worst of n gets one request in n * n.
        first = int(rng.random() * size)
        second = int(rng.random() * (size - 1))
        one, other = hosts[first], hosts[second + (second >= first)]
        return (one if _cost(one, now) <= _cost(other, now) else other), "lower cost"

    def explain(self, request: LlmRequest, hosts: Sequence[HostState]) -> Scores:
        """Seconds as they were at the last sample; what has faded since is not taken off."""
        if hosts is not self._hosts:
            self._follow(hosts)
        return Scores(
            notes={"selection": f"the lower cost of 2 drawn from {len(hosts)}"},
            hosts={
                host.id: {"first_byte": _latency(host).estimate(0.0), "cost": _cost(host, 0.0)}
                for host in hosts
            },
        )

    def _follow(self, hosts: Sequence[HostState]) -> None:
        self._hosts = hosts
        self._draw = WeightedDraw(hosts) if weights_differ(hosts) else None
        tau, initial, penalty = map(float, (self._spec.tau, self._spec.initial, self._spec.penalty))
        for host in hosts:
            if host.latency is None:
                host.latency = Latency(tau, initial, penalty)
            else:
                host.latency.tune(tau, initial, penalty)


def _cost(host: HostState, now: float) -> float:
    """Expected seconds of work ahead of one more request.

    Load counts by weight. An idle endpoint's weight is in how often it is drawn: counted here too
    it would keep all requests from the lighter ones.
    """
    return _latency(host).estimate(now) * (host.burden / host.weight + 1)


def _latency(host: HostState) -> Latency:
    assert host.latency is not None
    return host.latency

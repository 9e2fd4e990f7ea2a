"""A bound for routers that decide at once: a greedy choice with perfect knowledge.

It sees each engine's queue, caches and decoding sequences as they are, and for each waiting prompt
how much of it will be found. It takes the replica with the least sum of the time to the request's
own first token and what the request costs those that come after it. No router can know as much;
one that holds requests back can do better, since this one decides when they come.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from router.core.balancers.base import Balancer, BalancerSpec
from router.core.clock import Rng
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import EndpointId, LlmRequest
from router.sim.engine import Engine
from router.sim.profile import PICOSECONDS
from router.sim.replica import Replica
from router.sim.workload import Arrival

EXTERNALITY: Final = 1.5
"""How much a second of computing counts for those behind, in seconds of the request's own wait.
Between 1 and 4 it hardly matters; with 0 system prompts and conversations spread over all replicas,
and hits fall."""

CROWDING: Final = 0.01
"""Seconds that each decoding sequence counts for: it slows the steps of this answer, and this
prompt slows its own."""

DOWN: Final = 1e9
"""Seconds: more than any queue, and fewer than no choice at all."""


class OracleSpec(BalancerSpec, frozen=True, kw_only=True, tag="oracle"):
    """Of one run; no configuration can name it."""

    replicas: Mapping[EndpointId, Replica]
    arrivals: Mapping[str, Arrival]

    def build(self, rng: Rng, memory: ClusterMemory) -> Balancer:
        return Oracle(self)


class Oracle:
    __slots__ = ("_spec",)

    def __init__(self, spec: OracleSpec) -> None:
        self._spec = spec

    def pick(
        self,
        request: LlmRequest,
        hosts: Sequence[HostState],
        rng: Rng,
        tried: tuple[EndpointId, ...] = (),
        now: float = 0.0,
    ) -> tuple[HostState, str]:
        arrival = self._spec.arrivals[request.id]
        instant = round(now * PICOSECONDS)
        best, least, ties = hosts[0], float("inf"), 0
        for host in hosts:
            replica = self._spec.replicas[host.endpoint.id]
            price = self._price(replica.engine, arrival, instant) if replica.up else DOWN
            if price < least:
                best, least, ties = host, price, 1
            elif price == least:
                ties += 1
                if rng.randrange(ties) == 0:
                    best = host
        return best, "cheapest"

    def _price(self, engine: Engine, arrival: Arrival, now: int) -> float:
        """Seconds."""
        profile, decoding = engine.profile, engine.decoding
        found = engine.expect(arrival.blocks, arrival.prompt)
        own_tokens = arrival.prompt - found.cached
        queued_tokens, queue = engine.queued_tokens, engine.queued_time
        if (filling := engine.filling) is not None:
            left = filling.prompt - filling.computed
            queued_tokens += left
            queue += profile.prefill(left, filling.computed)
        step = profile.step + profile.decode(decoding, engine.context)
        queue += step * queued_tokens // profile.step_tokens
        queue += engine.step_ends(now) - now
        # Half a step on average is lost to rounding up.
        own = engine.work(arrival.prompt, found) + step * own_tokens / profile.step_tokens
        own += step / 2
        crowding = CROWDING * decoding
        return (queue + own * (1 + EXTERNALITY + crowding)) / PICOSECONDS + crowding

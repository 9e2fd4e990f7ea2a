"""Prompts and attempts for the balancers that place requests by what endpoints were sent before."""

import functools
import random

from router.core.balancers.base import Accounting, Balancer, BalancerSpec
from router.core.host import HostState, Lease, Outcome
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest
from router.core.prefix.blocks import BLOCK, checkpoints
from tests.core.world import request


@functools.cache
def prompt(seed: int, blocks: float, shared: int = 0) -> LlmRequest:
    """A request of so many blocks, the first ``shared`` of which are in everybody's."""
    common = random.Random("shared").randbytes(shared * BLOCK)
    own = random.Random(seed).randbytes(int(blocks * BLOCK) - len(common))
    names = checkpoints([common, own], 0)
    return request(
        checkpoints=names, prompt_bytes=len(common) + len(own), prefix_hash=hash((seed, 1))
    )


class Stage:
    """A balancer, the hosts it chooses from, and the attempts in flight."""

    def __init__(self, spec: BalancerSpec, hosts: tuple[HostState, ...], seed: int = 12345) -> None:
        self.hosts = hosts
        self.memory = ClusterMemory.alone(1024)
        self.rng = random.Random(seed)
        self.balancer: Balancer = spec.build(self.rng, self.memory)
        self.now = 0.0
        self.reason = ""

    def pick(self, asked: LlmRequest, *tried: HostState) -> HostState:
        """Where it would go."""
        host, self.reason = self.balancer.pick(
            asked, self.hosts, self.rng, tuple(one.id for one in tried), self.now
        )
        return host

    def send(self, asked: LlmRequest, to: HostState | None = None) -> Lease:
        """Begin an attempt, at ``to`` if the balancer is not to choose."""
        host = to if to is not None else self.pick(asked)
        assert isinstance(self.balancer, Accounting)
        return Lease(host, self.now, self.balancer.accounts.begin(asked, host, self.now))

    def serve(self, asked: LlmRequest, to: HostState | None = None) -> HostState:
        """The same, and it ends at once."""
        lease = self.send(asked, to)
        lease.first_byte(self.now, True)
        lease.release(Outcome.SUCCESS, self.now)
        return lease.host

    def column(self, asked: LlmRequest, name: str) -> list[float | str]:
        """One column of the explanation, in the order of the hosts."""
        scores = self.balancer.explain(asked, self.hosts)  # type: ignore[attr-defined]
        return [scores.hosts[host.id][name] for host in self.hosts]

"""One run of the simulator, described. Frozen, so that another process can be given it."""

import msgspec

from router.core.admission.breaker import CircuitBreaker, QueuePolicy
from router.core.balancers.base import BalancerSpec
from router.core.retry.policy import RetryPolicy
from router.core.routing import Timeouts
from router.sim.incident import Incident
from router.sim.profile import Profile

UNLIMITED = CircuitBreaker(max_connections=1 << 20, max_pending=1 << 20, max_requests=1 << 20)
NO_TIMEOUTS = Timeouts(connect=0.0, first_byte=0.0, idle=0.0, total=0.0, queue=0.0)


class Policy(msgspec.Struct, frozen=True):
    """How endpoints are chosen. ``spec`` None: by the oracle."""

    name: str
    spec: BalancerSpec | None


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds.

    Attributes:
        replicas: the engines there are at the start.
        block: tokens in a block of the prompts' ids.
        routers: each decides on its own; a request comes to any of them.
        gossip: from one router's word until the others have it; None: they tell each other nothing.
        streaming: share of the requests that are answered piece by piece, of those whose trace
            does not say.
        incidents: in any order.
        scrape: between readings of the engines' load; 0: there are none.
        block_bytes: of text in a block; 0: four to a token.
        jump: see ``router.sim.engine``.
    """

    policy: Policy
    replicas: tuple[Profile, ...]
    block: int
    seed: int
    block_bytes: int = 0
    routers: int = 1
    gossip: float | None = None
    streaming: float = 1.0
    incidents: tuple[Incident, ...] = ()
    scrape: float = 1.0
    breaker: CircuitBreaker = UNLIMITED
    queue: QueuePolicy = QueuePolicy()
    timeouts: Timeouts = NO_TIMEOUTS
    retry: RetryPolicy = RetryPolicy()
    jump: bool = True

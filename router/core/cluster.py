"""Frozen description of a cluster: its endpoints and the policies that apply to them."""

from collections.abc import Mapping

import msgspec

from router.core.admission.breaker import HIGH, PENDING, CircuitBreaker, QueuePolicy, Thresholds
from router.core.admission.rate_limit import RateLimit
from router.core.balancers.base import BalancerSpec
from router.core.health.outlier import Outlier
from router.core.health.strain import BackPressure
from router.core.model import Endpoint
from router.core.session.policy import Session


class ActiveHealth(msgspec.Struct, frozen=True, kw_only=True):
    """HTTP health checks. Durations in seconds.

    An endpoint turns unhealthy after ``fall`` failures in a row and healthy after ``rise``
    passes; the first result of a new endpoint decides at once.
    """

    path: str = "/health"
    interval: float = 2.0
    timeout: float = 1.0
    rise: int = 2
    fall: int = 3
    jitter: float = 0.1
    expected: tuple[int, int] = (200, 299)


class Scrape(msgspec.Struct, frozen=True, kw_only=True):
    """Reading of the engines' metrics pages. Durations in seconds.

    A report older than ``stale_after`` counts as unknown, never as zero.
    """

    path: str = "/metrics"
    interval: float = 1.0
    timeout: float = 1.0
    stale_after: float = 5.0


class KvEvents(msgspec.Struct, frozen=True):
    """Where engines tell what their caches hold, at each endpoint's own host.

    ``port`` None: the engine is asked for it and for all else. ``replay_port`` None: what was
    missed is lost. ``most_blocks``: that are known of one engine.
    """

    port: int | None = None
    replay_port: int | None = None
    topic: str = ""
    most_blocks: int = 500_000


class UpstreamTls(msgspec.Struct, frozen=True, kw_only=True):
    """The engines speak TLS. ``server_name`` None: an endpoint's host is its name."""

    server_name: str | None = None


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A named set of endpoints and how to choose among them.

    ``panic_threshold`` (0 to 1): when a smaller share of endpoints is healthy, health is ignored,
    as in Envoy; 0 disables. ``models`` are the names that the cluster declares to serve,
    ``adapters`` its LoRA adapters with the model that each belongs to.
    ``fail_traffic_on_panic``: in panic there is no endpoint at all. ``locality_weights``: a place
    (``region``, ``region/zone`` or ``region/zone/subzone``) and its weight within each priority;
    endpoints elsewhere get nothing. ``limits``: rate limits of all that routes send here.
    ``back_pressure``: how endpoints that push back are spared;
    None: not at all. ``session``: what keeps a client's requests at one endpoint.
    ``asks_load``: requests ask the engines to tell their load in the head of the answer.
    ``kv_events``: where the engines tell what their caches hold; None: they are not listened to.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    balancer: BalancerSpec
    engine: str = "vllm"
    models: tuple[str, ...] = ()
    adapters: Mapping[str, str] = {}
    health: ActiveHealth | None = None
    outlier: Outlier | None = None
    scrape: Scrape | None = None
    breaker: CircuitBreaker = CircuitBreaker()
    queue: QueuePolicy = QueuePolicy()
    panic_threshold: float = 0.5
    fail_traffic_on_panic: bool = False
    locality_weights: tuple[tuple[str, int], ...] = ()
    limits: tuple[RateLimit, ...] = ()
    back_pressure: BackPressure | None = BackPressure()
    session: Session | None = None
    tls: UpstreamTls | None = None
    asks_load: bool = False
    kv_events: KvEvents | None = None
    credential: bytes | None = None
    """A header line that takes the place of the client's credentials."""

    def pools(self) -> tuple[tuple[str, Thresholds], ...]:
        """Name and limits of each set of places; their rows on the board are kept by the name."""
        high = self.breaker.high
        own = (self.name, self.breaker)
        return (own,) if high is None else (own, (self.name + HIGH, high))

    def breaker_of(self, pool: str) -> str:
        """``default`` or ``high``, as the label of metrics."""
        return "default" if pool == self.name else "high"

    def rows(self) -> tuple[str, ...]:
        """What of this cluster has a row on the board, besides its endpoints."""
        return tuple(key for name, _ in self.pools() for key in (name, name + PENDING))

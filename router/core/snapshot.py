"""One generation of the configuration: frozen, built whole, swapped by one assignment."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from router.core.access.claims import Issuer
from router.core.access.tenants import Access
from router.core.admission.estimates import TokenEstimates
from router.core.admission.rate_limit import RateLimit
from router.core.admission.shared_store import SharedStore
from router.core.cluster import Cluster
from router.core.cors import Cors
from router.core.listener import ListenerLimits, ListenerPolicy
from router.core.model import Endpoint
from router.core.routing import RouteTable


@dataclass(frozen=True, kw_only=True, repr=False)
class Snapshot:
    """What the operator asked for. ``generation`` grows by one with each accepted reload.

    ``tenant_limits``: rate limits by tenant, beside those of routes.
    ``access`` is None where nobody needs to say who he is; ``issuers`` are those whose tokens are
    taken.
    ``cors``: for answers that no route has a hand in.
    """

    generation: int
    clusters: Mapping[str, Cluster]
    routes: RouteTable
    limits: ListenerLimits = ListenerLimits()
    tenant_limits: Mapping[str, tuple[RateLimit, ...]] = field(default_factory=dict)
    estimates: TokenEstimates = TokenEstimates()
    shared_store: SharedStore = SharedStore()
    listeners: tuple[ListenerPolicy, ...] = ()
    access: Access | None = None
    issuers: tuple[Issuer, ...] = ()
    cors: Cors | None = None

    def endpoints(self) -> Iterator[Endpoint]:
        for cluster in self.clusters.values():
            yield from cluster.endpoints

    def models(self) -> tuple[str, ...]:
        """Every model name that a route or a cluster declares, in order, each once."""
        names = dict.fromkeys(self.routes.models())
        for cluster in self.clusters.values():
            names.update(dict.fromkeys((*cluster.models, *cluster.adapters)))
        return tuple(names)

    def adapters(self) -> Mapping[str, str]:
        """The LoRA adapters of all clusters, each with its base model."""
        return {
            name: base
            for cluster in self.clusters.values()
            for name, base in cluster.adapters.items()
        }

    def __repr__(self) -> str:
        return (
            f"<Snapshot generation={self.generation} clusters={len(self.clusters)} "
            f"routes={len(self.routes.routes)}>"
        )

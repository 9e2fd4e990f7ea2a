"""A cluster's places and its queue in an explanation."""

from typing import TYPE_CHECKING

from router.core.admission import controller
from router.core.admission.tenancy import cost, tenant
from router.core.exchange import Exchange
from router.core.explanation import QueueSeen
from router.core.traffic import ClusterTraffic

if TYPE_CHECKING:
    from router.core.explain import World


def queue_seen(exchange: Exchange, traffic: ClusterTraffic, world: "World") -> QueueSeen:
    """Let those who wait stand in line before the exchange, and tell how it stands with them."""
    places = exchange.places = traffic.places_for(exchange.request)
    for level, count in world.waiting.get(places.name, {}).items():
        # Whose they are is not known: as if each belonged to somebody else.
        for number in range(min(count, places.queue.limit)):
            places.queue.join(exchange, world.now, key=f"another {number}", level=level)
    policy, request = traffic.cluster.queue, exchange.request
    wait = controller.predicted_wait(exchange, world.now)
    return QueueSeen(
        places=places.name,
        in_flight=places.active,
        waiting=places.queue.waiting,
        limits=places.limits,
        per_endpoint=traffic.limit,
        share_of=tenant(policy, request),
        cost=cost(policy, request),
        position=controller.position(exchange),
        predicted_wait=None if wait is None else round(wait, 3),
        shed_above=policy.shed_above,
    )

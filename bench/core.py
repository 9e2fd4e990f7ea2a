"""What the policy of one request costs: begin, pick, connect, head, complete.

    python -m bench.core

Microseconds of CPU per exchange in this process, best of five runs of 20,000: the figure that a
worker pays on top of relaying bytes.
"""

import gc
import random
import time

from router.core.balancers import REGISTRY
from router.core.balancers.base import BalancerSpec
from router.core.cluster import Cluster
from router.core.director import Director
from router.core.events import COMPLETE, CONNECTED, START, Head
from router.core.fleet import Fleet
from router.core.model import Endpoint, EndpointId, LlmRequest
from router.core.routing import Destination, Matcher, Route, RouteTable, StringMatch
from router.core.snapshot import Snapshot

EXCHANGES = 20_000


def world(spec: BalancerSpec, size: int, routes: int) -> Director:
    endpoints = tuple(
        Endpoint(id=EndpointId(f"c/10.0.0.{i}:8000"), cluster="c", host=f"10.0.0.{i}", port=8000)
        for i in range(size)
    )
    cluster = Cluster(name="c", endpoints=endpoints, balancer=spec)
    gold = (("x-tier", StringMatch("exact", "gold")),)
    table = [
        Route(
            name=f"m{index}-{tier}",
            match=Matcher(model=f"m{index}", headers=headers),
            destinations=(Destination("c"),),
        )
        for index in range(routes)
        for tier, headers in (("gold", gold), ("rest", ()))
    ]
    snapshot = Snapshot(generation=1, clusters={"c": cluster}, routes=RouteTable(table))
    return Director(snapshot, Fleet(), random.Random(1))


def measure(director: Director, conversations: int = 500) -> float:
    """Microseconds of CPU per exchange; half of the endpoints are kept busy meanwhile."""
    headers = tuple((f"x-header-{i}".encode(), b"value") for i in range(10))
    requests = [
        LlmRequest(
            id=str(key),
            method="POST",
            path="/v1/chat/completions",
            headers=headers,
            model=f"m{key % 20}",
            prefix_hash=random.Random(key).getrandbits(64),
        )
        for key in range(conversations)
    ]
    for host in list(director.fleet.hosts.values())[::2]:
        host.in_flight = 3
    head, best = Head(200), float("inf")
    for _ in range(5):
        start = time.process_time()
        for number in range(EXCHANGES):
            exchange = director.begin(requests[number % conversations], 0.0)
            exchange.feed(START, 0.0)
            exchange.feed(CONNECTED, 0.0)
            exchange.feed(head, 0.0)
            exchange.feed(COMPLETE, 0.0)
        best = min(best, (time.process_time() - start) / EXCHANGES * 1e6)
    return best


def main() -> None:
    gc.freeze()
    gc.disable()
    print(f"{'balancer':16} {'8 endpoints':>12} {'64 endpoints':>13}   us per exchange, 40 routes")
    for balancer in REGISTRY:
        spec = balancer.Spec()
        small, large = (measure(world(spec, size, 20)) for size in (8, 64))
        print(f"{spec.__struct_config__.tag!s:16} {small:12.1f} {large:13.1f}")


if __name__ == "__main__":
    main()

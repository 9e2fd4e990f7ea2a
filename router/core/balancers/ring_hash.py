"""Ketama-like consistent hashing, point for point Envoy's RING_HASH.

An endpoint's points are the xxHash64 of ``<address>_<k>``; how many it gets is its share of a
common scale, counted in running sums. A key belongs to the first point at or after it. Once an
endpoint has gone, the others get more points, so a few of their keys move as well.

The ring is built anew whenever the endpoints change, between two requests of the worker's event
loop: about a microsecond a point, which is why rings here are smaller than Envoy's may be.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import msgspec
from xxhash import xxh64_intdigest

from router.core.balancers.base import Balancer, BalancerSpec, Scores
from router.core.clock import Rng
from router.core.hash_key import Combination, HashKey, KeySources, random_key
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import EndpointId, LlmRequest

LARGEST = 65536
"""Points of a ring at most: some 60 ms of building, once for each change of the endpoints."""


class RingHash:
    class Spec(BalancerSpec, frozen=True, kw_only=True, tag="ring_hash"):
        """Consistent hashing on a ring; every key is placed where Envoy places it.

        ``minimum_ring_size``: points that the ring has at least; more points spread keys more
        evenly and take longer to build (1 us each, while no stream of the worker moves).
        ``maximum_ring_size``: points that it has at most, whatever the minimum and the weights
        ask for; Envoy's default is 8388608, so clusters with extreme weights differ from it.
        ``hash_balance_factor``: an endpoint takes at most this percentage of the mean number of
        requests in flight and the ring's next one takes the rest, at least 100; without it, one
        popular key can overload one endpoint.
        """

        key: KeySources = ("prefix",)
        combine: Combination = "all"
        minimum_ring_size: Annotated[int, msgspec.Meta(ge=1, le=LARGEST)] = 1024
        maximum_ring_size: Annotated[int, msgspec.Meta(ge=1, le=LARGEST)] = 16384
        hash_balance_factor: Annotated[int, msgspec.Meta(ge=100, le=1_000_000)] | None = None

        def build(self, rng: Rng, memory: ClusterMemory) -> Balancer:
            return RingHash(self)

    __slots__ = ("_hosts", "_key", "_owners", "_points", "_spec", "_total", "_weights")

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._key = HashKey(spec.key, spec.combine)
        self._hosts: Sequence[HostState] = ()
        self._points: list[int] = []
        self._owners: list[HostState] = []
        self._weights: list[int] = []
        self._total = 0

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
        key = self._key.of(request)
        reason = "hash"
        if key is None:
            key, reason = random_key(rng), "random, no hash key"
        owners = self._owners
        index = bisect_left(self._points, key)
        if index == len(owners):
            index = 0
        host = owners[index]
        bounded = self._spec.hash_balance_factor is not None
        if host.endpoint.id not in tried and (not bounded or self._bears(host)):
            return host, reason
        return self._further(index, tried, bounded, reason)

    def key_of(self, request: LlmRequest) -> int | None:
        return self._key.of(request)

    def explain(self, request: LlmRequest, hosts: Sequence[HostState]) -> Scores:
        """``order``: in which the key's attempts go round, from 1."""
        if hosts is not self._hosts:
            self._follow(hosts)
        points = Counter(host.id for host in self._owners)
        key = self._key.of(request)
        if key is None:
            return Scores(
                notes={"key": "none: any point of the ring"},
                hosts={host.id: {"points": points[host.id]} for host in hosts},
            )
        index = bisect_left(self._points, key)
        turned = dict.fromkeys(host.id for host in self._owners[index:] + self._owners[:index])
        return Scores(
            notes={"key": f"{key:016x}"},
            hosts={
                id_: {"points": points[id_], "order": order}
                for order, id_ in enumerate(turned, start=1)
            },
        )

    def _further(
        self, index: int, tried: tuple[EndpointId, ...], bounded: bool, reason: str
    ) -> tuple[HostState, str]:
        """The next endpoint on the ring that may be used, looking at each endpoint once."""
        owners = self._owners
        first = owners[index]
        fallback = None
        seen: set[HostState] = set()
        for offset in range(len(owners)):
            host = owners[(index + offset) % len(owners)]
            if host in seen:
                continue
            seen.add(host)
            if host.endpoint.id not in tried:
                if not bounded or self._bears(host):
                    return host, f"{reason}, next on the ring"
                fallback = fallback or host
            if len(seen) == len(self._hosts):
                break
        return fallback or first, reason

    def _bears(self, host: HostState) -> bool:
        """Whether one more request keeps the host within the balance factor."""
        active = host.burden
        if not active:
            return True
        assert self._spec.hash_balance_factor is not None
        total = 1 + sum(other.burden for other in self._hosts)
        share = host.weight / self._total
        return active < math.ceil(total * share * self._spec.hash_balance_factor / 100)

    def _follow(self, hosts: Sequence[HostState]) -> None:
        weights = [host.weight for host in hosts]
        changed = weights != self._weights or tuple(hosts) != tuple(self._hosts)
        self._hosts = hosts  # a new tuple may hold what the old one held
        if changed:
            self._weights = weights
            self._total = sum(weights)
            self._build(hosts)

    def _build(self, hosts: Sequence[HostState]) -> None:
        spec = self._spec
        shares = [weight / self._total for weight in self._weights]
        smallest = min(shares)
        # The lightest endpoint gets a whole number of points.
        scale = math.ceil(smallest * spec.minimum_ring_size) / smallest
        scale = min(scale, spec.maximum_ring_size)
        points: list[tuple[int, int]] = []
        wanted = placed = 0.0
        for number, (host, share) in enumerate(zip(hosts, shares, strict=True)):
            wanted += scale * share
            stem = f"{host.endpoint.address}_".encode()
            k = 0
            while placed < wanted:
                points.append((xxh64_intdigest(b"%s%d" % (stem, k)), number))
                k += 1
                placed += 1
        points.sort()
        self._points = [point for point, _ in points]
        self._owners = [hosts[number] for _, number in points]

    def __repr__(self) -> str:
        return f"<RingHash {len(self._points)} points, {len(self._hosts)} hosts>"

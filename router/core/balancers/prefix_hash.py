"""Session affinity: requests of one conversation stay where its prefix is cached.

The key is the hash of the request's prefix, or of a header, a cookie or the ``user`` field. A key
seen before goes to the endpoint that served it; a new one to the least loaded endpoint, equal
loads being decided by rendezvous hashing, so that routers that share nothing still agree. Either
way no endpoint is used beyond ``bound`` times the mean load (consistent hashing with bounded
loads, Mirrokni et al. 2016): affinity must never melt one host.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import xxhash

from router.core.affinity import AffinityTable
from router.core.balancers.base import Balancer, BalancerSpec, Scores
from router.core.balancers.loads import burden_of
from router.core.balancers.weighted import least_loaded
from router.core.clock import Rng
from router.core.hash_key import SOURCE_PATTERN, HashKey
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import EndpointId, LlmRequest


class PrefixHash:
    class Spec(BalancerSpec, frozen=True, kw_only=True, tag="prefix_hash"):
        """Keep a conversation on the endpoint that holds its prefix.

        ``key``: ``prefix``, ``user``, ``source_ip``, ``header:NAME`` or ``cookie:NAME``; requests
        without it go to the least loaded endpoint. ``new_sessions``: ``least_loaded``, or ``hash``
        for pure rendezvous hashing, which needs no memory. ``bound``: an endpoint takes at most
        this many times the mean number of requests in flight, at least 1.
        """

        key: Annotated[str, msgspec.Meta(pattern=SOURCE_PATTERN)] = "prefix"
        new_sessions: Literal["least_loaded", "hash"] = "least_loaded"
        bound: Annotated[float, msgspec.Meta(ge=1)] = 1.25

        def build(self, rng: Rng, memory: ClusterMemory) -> Balancer:
            return PrefixHash(self, memory.affinity)

    __slots__ = (
        "_affinity",
        "_hosts",
        "_key",
        "_seeds",
        "_slots",
        "_spec",
        "_weights",
    )

    def __init__(self, spec: Spec, affinity: AffinityTable) -> None:
        self._spec = spec
        self._affinity = affinity
        self._key = HashKey((spec.key,))
        self._hosts: Sequence[HostState] = ()
        self._slots: dict[int, HostState] = {}
        self._seeds: dict[int, int] = {}
        self._weights = 0

    def pick(
        self,
        request: LlmRequest,
        hosts: Sequence[HostState],
        rng: Rng,
        tried: tuple[EndpointId, ...] = (),
        now: float = 0.0,
    ) -> tuple[HostState, str]:
        key = self._key.of(request)
        if key is None:
            return least_loaded(hosts, rng), "least loaded, no session key"
        if hosts is not self._hosts:
            self._index(hosts)
        if self._spec.new_sessions == "hash":
            return self._by_hash(key, hosts)
        slot = self._affinity.get(key)
        host = None if slot is None else self._slots.get(slot)
        if host is not None and host.id not in tried and self._bears(host, hosts):
            return host, "prefix hit"
        # A retry moves the conversation: the next turn must not begin at the endpoint that failed.
        untried = [other for other in hosts if other.id not in tried] if tried else hosts
        chosen = self._least_loaded(key, untried or hosts)
        self._affinity.put(key, chosen.slot)
        if slot is None:
            return chosen, "new session, least loaded"
        if host is None or host.id in tried:
            return chosen, "moved, endpoint not available"
        return chosen, "moved, endpoint over bound"

    def key_of(self, request: LlmRequest) -> int | None:
        return self._key.of(request)

    def explain(self, request: LlmRequest, hosts: Sequence[HostState]) -> Scores:
        key = self._key.of(request)
        if key is None:
            return Scores(
                notes={"key": f"none: the request has no {self._spec.key}"},
                hosts={host.id: {"active": host.burden} for host in hosts},
            )
        weights = sum(host.weight for host in hosts)
        total = 1 + burden_of(hosts)
        slot = self._affinity.get(key)
        remembered = next((host.id for host in hosts if host.slot == slot), None)
        notes: dict[str, float | str] = {"key": f"{key:016x}"}
        if self._spec.new_sessions == "least_loaded":
            gone = "none" if slot is None else "an endpoint that cannot be used"
            notes["remembered"] = remembered or gone
        return Scores(
            notes=notes,
            hosts={
                host.id: {
                    "bound": math.ceil(self._spec.bound * total * host.weight / weights),
                    "hash": _score(key, _seed(host)) / 2**64,
                }
                for host in hosts
            },
        )

    def _index(self, hosts: Sequence[HostState]) -> None:
        self._hosts = hosts
        self._slots = {host.slot: host for host in hosts}
        self._weights = sum(host.weight for host in hosts)
        self._seeds = {host.slot: _seed(host) for host in hosts}

    def _bears(self, host: HostState, hosts: Sequence[HostState]) -> bool:
        """Whether one more request keeps the host within its bound."""
        active = host.burden
        if not active:
            return True
        total = 1 + burden_of(hosts)
        return active < math.ceil(self._spec.bound * total * host.weight / self._weights)

    def _least_loaded(self, key: int, hosts: Sequence[HostState]) -> HostState:
        def rank(host: HostState) -> tuple[float, float]:
            return host.burden / host.weight, -_share(key, self._seeds[host.slot], host.weight)

        return min(hosts, key=rank)

    def _by_hash(self, key: int, hosts: Sequence[HostState]) -> tuple[HostState, str]:
        ranked = sorted(hosts, key=lambda host: -_share(key, self._seeds[host.slot], host.weight))
        for rank, host in enumerate(ranked):
            if self._bears(host, hosts):
                return host, "hash" if rank == 0 else "hash, first choice over bound"
        return ranked[0], "hash"


def _seed(host: HostState) -> int:
    return xxhash.xxh3_64_intdigest(host.endpoint.address.encode())


def _share(key: int, seed: int, weight: int) -> float:
    """Weighted rendezvous: of all keys, each endpoint has the highest for its share of them."""
    # 52 bits and a half, so that no score becomes 1 by rounding, whose logarithm is 0.
    return -weight / math.log(((_score(key, seed) >> 12) + 0.5) / 2.0**52)


def _score(key: int, seed: int) -> int:
    """Rendezvous score of a key at an endpoint: 64 well mixed bits of both (SplitMix64)."""
    mixed = (key ^ seed) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return mixed ^ mixed >> 31

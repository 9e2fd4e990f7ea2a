"""KubeAI's prefix hashing: consistent hashing with bounded loads (Mirrokni et al. 2016).

Each endpoint has ``replication`` points on a ring, the xxHash64 of its address followed by the
point's number. A key belongs to the first point at or after it. An endpoint may take one request
more if that leaves it with at most ``mean_load_factor`` percent of the mean number in flight;
otherwise the ring's next one is asked, and if none may, it is the first after all. Names and
figures are those of a KubeAI model's ``loadBalancing.prefixHash``.

KubeAI's key is the first 100 characters of the first message of a user, whatever the system prompt
before it. Here it is the hash of the conversation's beginning up to and including that message,
or, with ``depth``, of so many blocks of the whole prompt. As the bound is rounded down, it holds
only where there are at least as many requests as endpoints; ``ring_hash`` with a
``hash_balance_factor`` is Envoy's way, which rounds up.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated

import msgspec
from xxhash import xxh64_intdigest

from router.core.balancers.base import Balancer, BalancerSpec, Scores
from router.core.balancers.weighted import cheapest
from router.core.clock import Rng
from router.core.hash_key import SOURCE_PATTERN, HashKey
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import EndpointId, LlmRequest
from router.core.prefix.blocks import DEPTHS

LARGEST = 65536
"""Points of a ring at most, some 60 ms of building for each change of the endpoints. With more
than 256 endpoints each gets fewer than KubeAI's 256."""


class Chwbl:
    class Spec(BalancerSpec, frozen=True, kw_only=True, tag="chwbl"):
        """Consistent hashing with bounded loads, as KubeAI does it.

        ``key``: ``prefix``, ``user``, ``source_ip``, ``header:NAME`` or ``cookie:NAME``; requests
        without it go to the least loaded endpoint. ``depth``: prompts go by their first so many
        blocks of 512 bytes instead (1 to 8, 10, 12, 14, 16, 20, 24, 28, 32 and on in steps of a
        quarter), shorter ones by the key; whatever all prompts begin with, such as a system
        prompt, should be shorter than this, or they go to one endpoint until it is at its bound.
        ``mean_load_factor``: percent of the mean number of requests in flight that an endpoint
        takes at most. ``replication``: points of the lightest endpoint on the ring; one of twice
        its weight has twice as many.
        """

        key: Annotated[str, msgspec.Meta(pattern=SOURCE_PATTERN)] = "prefix"
        depth: Annotated[int, msgspec.Meta(ge=1)] | None = None
        mean_load_factor: Annotated[int, msgspec.Meta(ge=100, le=1_000_000)] = 125
        replication: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 256

        def __post_init__(self) -> None:
            if self.depth is not None and self.depth not in DEPTHS:
                below = max((depth for depth in DEPTHS if depth < self.depth), default=1)
                raise ValueError(f"depth must be one that prompts are hashed at, such as {below}")

        @property
        def reads_prompt(self) -> bool:
            return self.depth is not None

        def build(self, rng: Rng, memory: ClusterMemory) -> Balancer:
            return Chwbl(self)

    __slots__ = (
        "_factor",
        "_hosts",
        "_key",
        "_most",
        "_owners",
        "_place",
        "_points",
        "_shares",
        "_spec",
        "_weights",
    )

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._key = HashKey((spec.key,))
        self._place = -1 if spec.depth is None else DEPTHS.index(spec.depth)
        self._hosts: Sequence[HostState] = ()
        self._weights: list[int] = []
        self._points: list[int] = []
        self._owners: list[int] = []
        self._shares: list[float] = []
        self._most = 0.0
        self._factor = spec.mean_load_factor / 100

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
        loads = [host.burden for host in hosts]
        key = self.key_of(request)
        if key is None:
            costs = [load / weight for load, weight in zip(loads, self._weights, strict=True)]
            return cheapest(hosts, costs, rng, tried), "least loaded, no hash key"
        first = None
        bounds = self._bounds(loads)
        for owner in self._onward(key):
            host = hosts[owner]
            if tried and host.endpoint.id in tried:
                continue
            if bounds is None:
                return host, "hash"
            if loads[owner] + 1 <= bounds[owner]:
                return host, "hash" if first is None else "hash, next on the ring"
            if first is None:
                first = host
        if first is None:
            return cheapest(hosts, loads, rng), "least loaded, all tried"
        return first, "hash, all over bound"

    def key_of(self, request: LlmRequest) -> int | None:
        names = request.checkpoints
        if 0 <= self._place < len(names):
            return names[self._place]
        return self._key.of(request)

    def explain(self, request: LlmRequest, hosts: Sequence[HostState]) -> Scores:
        """``order``: in which the key's attempts go round, from 1."""
        if hosts is not self._hosts:
            self._follow(hosts)
        loads = [host.burden for host in hosts]
        shares = [self._factor * (sum(loads) + 1) * share for share in self._shares]
        points = Counter(self._owners)
        key = self.key_of(request)
        order = {} if key is None else {o: n for n, o in enumerate(self._onward(key), start=1)}
        return Scores(
            notes={
                "key": "none: by load" if key is None else f"{key:016x}",
                "bound": "none: too few requests" if self._bounds(loads) is None else "holds",
            },
            hosts={
                host.id: {"points": points[n], "active": loads[n], "bound": shares[n]}
                | ({"order": order[n]} if n in order else {})
                for n, host in enumerate(hosts)
            },
        )

    def _bounds(self, loads: Sequence[int]) -> list[float] | None:
        """What each endpoint may have in flight at most; None: everybody may have one more, as
        nothing is in flight, or nobody, as there is less than a whole request for each."""
        total = sum(loads)
        mean = self._factor * (total + 1)
        if not total or mean * self._most < 1:
            return None
        return [mean * share for share in self._shares]

    def _onward(self, key: int) -> Iterator[int]:
        """The owners of points from the key's on, each once."""
        owners = self._owners
        seen: set[int] = set()
        start = bisect_left(self._points, key)
        for point in chain(range(start, len(owners)), range(start)):
            owner = owners[point]
            if owner not in seen:
                seen.add(owner)
                yield owner
                if len(seen) == len(self._hosts):
                    return

    def _follow(self, hosts: Sequence[HostState]) -> None:
        weights = [host.weight for host in hosts]
        changed = weights != self._weights or tuple(hosts) != tuple(self._hosts)
        self._hosts = hosts  # a new tuple may hold what the old one held
        if changed:
            self._weights = weights
            total = sum(weights)
            self._shares = [weight / total for weight in weights]
            self._most = max(self._shares)
            self._build(hosts)

    def _build(self, hosts: Sequence[HostState]) -> None:
        points: list[tuple[int, int]] = []
        size = min(self._spec.replication / min(self._shares), LARGEST)
        for owner, (host, share) in enumerate(zip(hosts, self._shares, strict=True)):
            stem = host.endpoint.address.encode()
            count = max(1, round(size * share))
            points += [(xxh64_intdigest(b"%s%d" % (stem, n)), owner) for n in range(count)]
        points.sort()
        self._points = [point for point, _ in points]
        self._owners = [owner for _, owner in points]

    def __repr__(self) -> str:
        return f"<Chwbl {len(self._points)} points, {len(self._hosts)} hosts>"

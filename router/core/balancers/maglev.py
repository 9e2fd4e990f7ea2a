"""Maglev hashing (Eisenbud et al. 2016), entry for entry Envoy's MAGLEV.

A table of prime size says for each remainder of a key whose it is. Endpoints, in the order of
their addresses, fill it in rounds, each taking the next free entry of its own permutation; a lower
weight takes part in fewer rounds.

Filling 65537 entries takes tens of milliseconds in Python, in which no stream of the worker would
move. So only the very first table is built at once. When the endpoints change, the new one grows by
a step with each request while the old one is still in use, and endpoints that are gone
are passed over; recent tables are kept, for endpoints that come and go. See ADR 7.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from heapq import heapify, heapreplace
from itertools import cycle
from math import exp
from typing import Annotated

import msgspec
from xxhash import xxh64_intdigest

from router.core.balancers.base import Balancer, BalancerSpec, Scores
from router.core.clock import Rng
from router.core.hash_key import Combination, HashKey, KeySources, random_key
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import EndpointId, LlmRequest

LARGEST = 1_048_573
"""The largest prime below 2 ** 20. Envoy goes up to 5000011, which would take seconds here."""

STEP = 2048
"""Entries filled with one request at most: 1 ms, or 3 ms where weights differ."""

PROBES = 24_000
"""Entries looked at with one request, about: 1 ms. With few entries left free, each turn looks at
many that are taken, ``size / left`` on average; so a step may shrink what is left by a factor of
``exp(-PROBES / size)`` only. A table of the usual size takes some 55 requests."""

KEPT = 4
"""Tables kept besides the present one: an endpoint that flaps costs one build, not one a flap."""

RESELECTIONS = 16
"""How often a key is moved on from an endpoint that cannot be used."""

_2_64 = 1 << 64


def is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


class Table:
    """Who owns which entry.

    Args:
        hosts: at least one; taken in the order of their addresses.
        size: a prime, more than there are hosts.
    """

    __slots__ = ("_filling", "complete", "entries", "hosts")

    def __init__(self, hosts: Sequence[HostState], size: int) -> None:
        self.hosts = sorted(hosts, key=lambda host: host.endpoint.address)
        self.entries = array("H" if len(hosts) < 1 << 16 else "I", [0]) * size
        self.complete = False
        self._filling = self._fill()

    def grow(self) -> bool:
        """Go on for a millisecond or two; True once all entries are filled."""
        self.complete = next(self._filling, True)
        return self.complete

    def owner(self, key: int) -> HostState:
        entries = self.entries
        return self.hosts[entries[key % len(entries)]]

    def _fill(self) -> Iterator[bool]:
        entries, size = self.entries, len(self.entries)
        addresses = [host.endpoint.address.encode() for host in self.hosts]
        at = [xxh64_intdigest(address) % size for address in addresses]
        skips = [xxh64_intdigest(address, 1) % (size - 1) + 1 for address in addresses]
        taken = bytearray(size)
        shrink = exp(-PROBES / size)
        left = size
        pause = max(left - STEP, int(left * shrink))
        for index in _turns([host.weight for host in self.hosts]):
            entry, skip = at[index], skips[index]
            while taken[entry]:
                entry += skip
                if entry >= size:
                    entry -= size
            taken[entry] = 1
            entries[entry] = index
            entry += skip
            at[index] = entry - size if entry >= size else entry
            left -= 1
            if not left:
                return
            if left == pause:
                pause = max(left - STEP, int(left * shrink))
                yield False


def _turns(weights: Sequence[int]) -> Iterator[int]:
    """Whose turn it is, without end: by rounds, and by index within a round.

    A host takes part in a round if the round's number times its weight has reached the heaviest
    weight times the turns it has had; the first round is everybody's. A heap, since walking all
    hosts in every round would cost minutes where one of thousands is heavy.
    """
    if len(set(weights)) == 1:
        yield from cycle(range(len(weights)))
    total = sum(weights)
    shares = [weight / total for weight in weights]
    heaviest = max(shares)
    wanted = [0.0] * len(shares)
    due = [(1, index) for index in range(len(shares))]
    heapify(due)
    while True:
        round_, index = due[0]
        yield index
        wanted[index] += heaviest
        share = shares[index]
        following = max(round_ + 1, int(wanted[index] / share))
        while following * share < wanted[index]:
            following += 1
        heapreplace(due, (following, index))


class Maglev:
    class Spec(BalancerSpec, frozen=True, kw_only=True, tag="maglev"):
        """Consistent hashing by table; every key is placed where Envoy places it.

        ``table_size``: entries of the table, a prime of at most 1048573; it should be at least
        100 times the number of endpoints. The very first request waits for the table, and so
        does its worker (40 ms at 65537 entries, 100 ms if weights differ); after a change of
        endpoints the next requests build it, some 55 of them at 1 to 3 ms each.
        """

        key: KeySources = ("prefix",)
        combine: Combination = "all"
        table_size: Annotated[int, msgspec.Meta(ge=2, le=LARGEST)] = 65537

        def __post_init__(self) -> None:
            if not is_prime(self.table_size):
                raise ValueError(f"table_size must be a prime number, not {self.table_size}")

        def build(self, rng: Rng, memory: ClusterMemory) -> Balancer:
            return Maglev(self)

    __slots__ = ("_growing", "_hosts", "_kept", "_key", "_members", "_size", "_table")

    def __init__(self, spec: Spec) -> None:
        self._key = HashKey(spec.key, spec.combine)
        self._size = spec.table_size
        self._hosts: Sequence[HostState] = ()
        self._members: frozenset[HostState] = frozenset()
        self._table: Table | None = None
        self._growing: Table | None = None
        self._kept: dict[tuple[tuple[HostState, int], ...], Table] = {}

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
        if self._growing is not None and self._growing.grow():
            self._table, self._growing = self._growing, None
        table = self._table
        assert table is not None
        key = self._key.of(request)
        reason = "hash"
        if key is None:
            key, reason = random_key(rng), "random, no hash key"
        for attempt in range(RESELECTIONS):
            host = table.owner(key ^ _2_64 - attempt if attempt else key)
            if host.endpoint.id in tried:
                continue
            if self._growing is None or host in self._members:
                return host, reason if not attempt else f"{reason}, moved on"
        return hosts[key % len(hosts)], "hash, moved on"

    def key_of(self, request: LlmRequest) -> int | None:
        return self._key.of(request)

    def explain(self, request: LlmRequest, hosts: Sequence[HostState]) -> Scores:
        """``entries``: of the table in use, which may be the one before the last change."""
        if hosts is not self._hosts:
            self._follow(hosts)
        table = self._table
        assert table is not None
        entries = Counter(table.entries)
        key = self._key.of(request)
        notes: dict[str, float | str] = {"key": "none: any entry of the table"}
        if key is not None:
            notes = {"key": f"{key:016x}", "entry": key % self._size}
        return Scores(
            notes=notes,
            hosts={host.id: {"entries": entries[n]} for n, host in enumerate(table.hosts)},
        )

    def _follow(self, hosts: Sequence[HostState]) -> None:
        """Find or begin the table of these hosts."""
        self._hosts = hosts
        self._members = frozenset(hosts)
        key = tuple((host, host.weight) for host in hosts)
        wanted = self._kept.pop(key, None) or Table(hosts, self._size)
        self._kept[key] = wanted  # the most recent one stands last
        while len(self._kept) > 1 + KEPT:
            del self._kept[next(iter(self._kept))]
        if self._table is None:
            while not wanted.complete:
                wanted.grow()
        self._growing = None if wanted.complete else wanted
        if wanted.complete:
            self._table = wanted

    def __repr__(self) -> str:
        state = "growing" if self._growing is not None else "complete"
        return f"<Maglev {self._size} entries, {len(self._hosts)} hosts, {state}>"

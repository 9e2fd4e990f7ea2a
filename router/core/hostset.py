"""The endpoints of one cluster or subset: which may be used, and in which groups.

A group is what a balancer picks from. Most clusters are one group: their usable endpoints. Where
endpoints have priorities each level is a group, chosen by its share of the load (``levels``); with
locality weights each locality of a level is one (Envoy's locality_weighted_lb_config), chosen in
turns by its weight, lowered as its endpoints fail.

All of it is computed once for each ``Fleet.version``; whoever changes a host's state bumps that. A
group's tuple of hosts stays the same object as long as nothing about its hosts changed, so that
balancers may key their schedules on it.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xxhash import xxh64_intdigest

from router.core.balancers.edf import EdfSchedule
from router.core.clock import Rng
from router.core.cluster import Cluster
from router.core.host import HostState
from router.core.levels import OVERPROVISIONING, Census, Shares, level_at, shares
from router.core.model import AdminState
from router.core.trace import DecisionTrace

if TYPE_CHECKING:
    from router.core.fleet import Fleet

GroupKey = tuple[int, str]
"""Priority, and the locality as it is written in the weights; empty for a whole level."""


class Group:
    """Endpoints that a balancer picks from.

    Attributes:
        weight: of a locality within its level, as its health leaves it.
        label: what the choice of this group adds to a pick's reason.
    """

    __slots__ = ("_marks", "hosts", "key", "label", "weight")

    def __init__(self, key: GroupKey) -> None:
        priority, locality = key
        self.key = key
        self.label = f", priority {priority}" + (f", {locality}" if locality else "")
        self.hosts: tuple[HostState, ...] = ()
        self.weight = 0.0
        self._marks: list[tuple[int, bool, bool]] = []

    def hold(self, hosts: tuple[HostState, ...]) -> None:
        """These are its hosts; the same as before leave the same tuple."""
        marks = [(host.weight, host.healthy, host.ejected) for host in hosts]
        if marks != self._marks or hosts != self.hosts:
            self._marks = marks
            self.hosts = hosts

    def __repr__(self) -> str:
        return f"<Group{self.label} {len(self.hosts)} hosts>"


class Level:
    """The endpoints of one priority.

    Attributes:
        all: every one of them, usable or not.
        census: counted last time.
        load: percent of the cluster's requests.
        panic: too few of its endpoints are healthy, so health is ignored.
        whole: its usable endpoints, over all localities.
        localities: groups with weights; empty without, and while the level is in panic.
    """

    __slots__ = (
        "_by_locality",
        "_turns",
        "_weights",
        "all",
        "census",
        "load",
        "localities",
        "panic",
        "priority",
        "whole",
    )

    def __init__(
        self, priority: int, hosts: Sequence[HostState], weights: Sequence[tuple[str, int]]
    ) -> None:
        self.priority = priority
        self.all = tuple(hosts)
        self.census = Census(0, 0, 0)
        self.load = 0
        self.panic = False
        self.whole = Group((priority, ""))
        self.localities: list[Group] = []
        self._weights = dict(weights)
        self._by_locality = [
            (Group((priority, name)), tuple(h for h in hosts if _place_of(h, weights) == name))
            for name in self._weights
        ]
        self._turns: EdfSchedule[Group] | None = None

    def count(self) -> Census:
        wanted = [host for host in self.all if host.admin is AdminState.READY]
        healthy = [host for host in wanted if host.healthy and not host.ejected]
        free = sum(not host.pushed_until for host in healthy)
        self.census = Census(len(wanted), len(healthy), free)
        return self.census

    def settle(self, load: int, panic: bool, fail_on_panic: bool) -> None:
        """Group the usable hosts."""
        self.load = load
        self.panic = panic
        wanted = tuple(host for host in self.all if host.admin is AdminState.READY)
        if panic:
            self.whole.hold(() if fail_on_panic else unpushed(wanted))
        else:
            self.whole.hold(unpushed(_healthy(wanted)))
        if self._by_locality:
            self._weigh()

    def _weigh(self) -> None:
        """Localities with what their health leaves of their weights."""
        before = [(group.key, group.weight) for group in self.localities]
        self.localities = []
        for group, members in self._by_locality:
            wanted = [host for host in members if host.admin is AdminState.READY]
            free = tuple(host for host in _healthy(wanted) if not host.pushed_until)
            if not free or self.panic:
                continue
            share = min(1.0, OVERPROVISIONING / 100 * len(free) / len(wanted))
            group.weight = self._weights[group.key[1]] * share
            group.hold(free)
            self.localities.append(group)
        if before != [(group.key, group.weight) for group in self.localities]:
            self._turns = None

    def draw(self, key: int | None, rng: Rng) -> Group:
        """The level itself, or one of its localities: by turns, or by a request's hash."""
        found = self.localities
        if not found:
            return self.whole
        if len(found) == 1:
            return found[0]
        if key is not None:
            return max(found, key=lambda group: _rendezvous(key, group))
        if self._turns is None:
            self._turns = EdfSchedule(found, lambda group: group.weight, rng.randrange(64))
        return self._turns.next()

    def __repr__(self) -> str:
        return f"<Level {self.priority} load={self.load} panic={self.panic} {self.census}>"


class HostSet:
    """The hosts of one cluster or subset.

    Attributes:
        all: every host, in the order of the configuration.
        layered: there are several groups to choose from: see :meth:`draw`. Otherwise
            :meth:`usable` is the only group's hosts.
        panic: health is ignored at some level that has load.
    """

    __slots__ = (
        "_cluster",
        "_fleet",
        "_levels",
        "_percent",
        "_usable",
        "_version",
        "all",
        "layered",
        "panic",
    )

    def __init__(self, fleet: "Fleet", hosts: Sequence[HostState], cluster: Cluster) -> None:
        self._fleet = fleet
        self._cluster = cluster
        self._version = -1
        self._usable: tuple[HostState, ...] = ()
        self._percent: tuple[Level, ...] = ()
        self.all = tuple(hosts)
        self.panic = False
        weights = cluster.locality_weights
        priorities = sorted({host.endpoint.priority for host in hosts}) or [0]
        self._levels = [
            Level(one, [h for h in hosts if h.endpoint.priority == one], weights)
            for one in priorities
        ]
        self.layered = len(priorities) > 1 or bool(weights)

    def usable(self) -> tuple[HostState, ...]:
        """Hosts that may take a new request: ready, healthy and free; in panic every ready one.

        The same tuple object is returned until something changed.
        """
        if self._version != self._fleet.version:
            self._count()
        return self._usable

    @property
    def levels(self) -> Sequence[Level]:
        """By priority, as of now."""
        self.usable()
        return self._levels

    def draw(self, key: int | None, rng: Rng) -> Group:
        """Choose a group, which may be empty.

        Args:
            key: 64 bits by which the balancer places the request; the same key gets the same
                group while nothing changes. None: by chance.
        """
        if self._version != self._fleet.version:
            self._count()
        point = int(rng.random() * 100) if key is None else key % 100
        level = self._percent[point]
        return level.draw(key, rng) if level.localities else level.whole

    def groups(self) -> list[Group]:
        """All that a request may be given to now, whatever its key."""
        self.usable()
        return [
            group
            for level in self._levels
            if level.load
            for group in level.localities or [level.whole]
        ]

    def _count(self) -> None:
        cluster, levels = self._cluster, self._levels
        found: Shares = shares([level.count() for level in levels], cluster.panic_threshold * 100)
        for level, load, panic in zip(levels, found.load, found.panic, strict=True):
            level.settle(load, panic, cluster.fail_traffic_on_panic)
        self._percent = tuple(levels[level_at(found.load, point)] for point in range(100))
        self.panic = any(level.panic and level.load for level in levels)
        if len(levels) == 1:
            self._usable = levels[0].whole.hosts
        else:
            self._usable = tuple(host for level in levels for host in level.whole.hosts)
        self._version = self._fleet.version

    def explain(self, trace: DecisionTrace) -> None:
        """Tell the trace why hosts of this set are not among those that get requests."""
        drawn = {host for group in self.groups() for host in group.hosts}
        for level in self.levels:
            for host in level.all:
                if host not in drawn:
                    trace.host_removed(host, _reason(host, level))

    def __repr__(self) -> str:
        return f"<HostSet {len(self.usable())}/{len(self.all)} usable panic={self.panic}>"


def unpushed(hosts: tuple[HostState, ...]) -> tuple[HostState, ...]:
    """Those that did not push back; if all did, the one that wants requests again first."""
    free = tuple(host for host in hosts if not host.pushed_until)
    if free or not hosts:
        return free
    return (min(hosts, key=lambda host: host.pushed_until),)


def fit(host: HostState) -> bool:
    """Whether nothing speaks against giving the host a new request."""
    return (
        host.healthy
        and not host.ejected
        and not host.pushed_until
        and host.admin is AdminState.READY
    )


def _healthy(hosts: Sequence[HostState]) -> tuple[HostState, ...]:
    return tuple(host for host in hosts if host.healthy and not host.ejected)


def _place_of(host: HostState, weights: Sequence[tuple[str, int]]) -> str | None:
    """The most specific of the weighted places that the host is in."""
    place = f"{host.endpoint.locality}/"
    names = [name for name, _ in weights if place.startswith(f"{name}/")]
    return max(names, key=len, default=None)


def _rendezvous(key: int, group: Group) -> float:
    """Weighted rendezvous hashing: a locality that changes its weight moves no key but its own."""
    mixed = (key ^ xxh64_intdigest(group.key[1].encode())) * 0x9E3779B97F4A7C15 & (1 << 64) - 1
    mixed = (mixed ^ mixed >> 32) * 0xD6E8FEB86659FD93 & (1 << 64) - 1
    # 52 bits and a half, so that nothing becomes 1 by rounding, whose logarithm is 0.
    return -group.weight / math.log((((mixed ^ mixed >> 32) >> 12) + 0.5) / 2.0**52)


def _reason(host: HostState, level: Level) -> str:
    """Why a host takes no request."""
    if host.admin is not AdminState.READY:
        return host.admin.name.lower()
    if level.panic:
        return "panic, and traffic fails on panic"
    if not host.healthy:
        return "unhealthy"
    if host.ejected:
        return "ejected"
    if host.pushed_until:
        return "pushed back"
    return "locality without a weight" if level.load else f"priority {level.priority} has no load"

"""Who waits for a place in a cluster, and who of them is next.

Between priorities the order is strict: the higher band first. Inside a band tenants share by
start-time fair queueing (Goyal, Vin and Cheng 1996): whoever is first in a tenant's own line has a
start tag, the smallest tag is next, and being served moves the tenant's tag on by cost / weight.
A tenant that floods only lengthens its own line. Over any time in which two tenants both wait,
what they are given differs by at most one request of each.

Nobody starves: each ``AGED_TURN``-th grant goes to whoever has waited longest in a band, once that
is longer than ``age_after``; bands take these turns in rotation. So a request that has aged, with k
older ones in its band and B bands, is granted within ``AGED_TURN * B * (k + 1)`` grants.

Where only some endpoints are full, requests for the others must not wait behind: a lane is what a
request can be sent to (a subset of the cluster), and one that has no room is passed over.

Joining and being granted cost O(log tenants), leaving O(1): who left is struck out when met.
"""

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import ceil
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from router.core.exchange import Exchange

AGED_TURN = 4
"""At least three of four grants go by priority and share, at most one by age."""
IDLE_FLOWS = 1024
"""Tenants of a band that have nobody waiting and are remembered for what they were given."""
SLACK = 64
"""Struck out entries that a line may hold beyond its own length."""


class Lane(Protocol):
    """What requests that wait can be sent to. Compared by identity."""

    def has_room(self) -> bool: ...


class Ticket:
    """One request's place in the queue. ``waiting`` turns False once, when it leaves."""

    __slots__ = ("cost", "exchange", "flow", "index", "since", "waiting")

    def __init__(
        self, exchange: "Exchange", flow: "_Flow", cost: float, index: int, since: float
    ) -> None:
        self.exchange = exchange
        self.flow = flow
        self.cost = cost
        self.index = index
        self.since = since
        self.waiting = True

    @property
    def level(self) -> int:
        return self.flow.band.level

    @property
    def key(self) -> str:
        """The tenant's."""
        return self.flow.key


class _Flow:
    """One tenant's line in one band and lane. ``start`` is the tag of whoever is first."""

    __slots__ = ("band", "joined", "key", "lane", "line", "start", "waiting", "weight")

    def __init__(self, band: "_Band", lane: Lane | None, key: str, weight: float) -> None:
        self.band = band
        self.lane = lane
        self.key = key
        self.weight = weight
        self.start = band.clock
        self.joined = 0
        self.waiting = 0
        self.line: deque[Ticket] = deque()

    def first(self) -> Ticket:
        """Whoever is first; somebody must be waiting."""
        while not self.line[0].waiting:
            self.line.popleft()
        return self.line[0]

    def last(self) -> Ticket:
        while not self.line[-1].waiting:
            self.line.pop()
        return self.line[-1]


class _Band:
    """The requests of one priority.

    ``clock`` is the start tag that was last served, ``turn`` the last grant by age, ``arrivals``
    each lane's tickets in the order in which they came.
    """

    __slots__ = (
        "_pushed",
        "arrivals",
        "clock",
        "crowds",
        "flows",
        "heaps",
        "level",
        "turn",
        "waiting",
        "weight",
    )

    def __init__(self, level: int) -> None:
        self.level = level
        self.clock = 0.0
        self.waiting = 0
        self.weight = 0.0  # of the flows in which somebody waits
        self.flows: dict[tuple[Lane | None, str], _Flow] = {}
        self.turn = -1
        self.arrivals: dict[Lane | None, deque[Ticket]] = {}
        self.heaps: dict[Lane | None, list[tuple[float, int, _Flow]]] = {}
        # Flows by how many wait in them, so that the longest is found at once.
        self.crowds: list[dict[_Flow, None]] = [{}]
        self._pushed = 0

    def flow(self, lane: Lane | None, key: str, weight: float) -> _Flow:
        """The flow that a newcomer joins."""
        flow = self.flows.get((lane, key))
        if flow is None:
            flow = self.flows[lane, key] = _Flow(self, lane, key, weight)
        if not flow.waiting:
            flow.weight = weight
            flow.start = max(flow.start, self.clock)
        return flow

    def count(self, flow: _Flow, change: int) -> None:
        """One more or one less waits in ``flow``."""
        crowds, size = self.crowds, flow.waiting + change
        if flow.waiting:
            del crowds[flow.waiting][flow]
        else:
            self.weight += flow.weight
        if size == len(crowds):
            crowds.append({})
        if size:
            crowds[size][flow] = None
        else:
            self.weight -= flow.weight
        while len(crowds) > 1 and not crowds[-1]:
            crowds.pop()
        flow.waiting = size
        self.waiting += change

    def longest(self) -> _Flow:
        """The flow in which most wait; somebody must be waiting."""
        return next(iter(self.crowds[-1]))

    def push(self, flow: _Flow) -> None:
        """Let the flow be found by its start tag; among equals the first to come is first."""
        heap = self.heaps.setdefault(flow.lane, [])
        self._pushed += 1
        heappush(heap, (flow.start, self._pushed, flow))
        if len(heap) > 2 * len(self.flows) + SLACK:
            heap[:] = {entry[2]: entry for entry in heap if _holds(entry)}.values()
            heapify(heap)

    def head(self, lane: Lane | None) -> _Flow | None:
        """The lane's flow with the smallest start tag."""
        heap = self.heaps.get(lane)
        while heap:
            if _holds(heap[0]):
                return heap[0][2]
            heappop(heap)
        return None

    def oldest(self, open_to: "Callable[[Lane | None], bool]") -> Ticket | None:
        """Who has waited longest in the lanes that are open."""
        oldest: Ticket | None = None
        for lane, line in self.arrivals.items():
            while line and not line[0].waiting:
                line.popleft()
            if line and (oldest is None or line[0].since < oldest.since) and open_to(lane):
                oldest = line[0]
        return oldest

    def strike_out(self, flow: _Flow) -> None:
        """Somebody left: keep lines near the length of those who wait in them."""
        if len(flow.line) > 2 * flow.waiting + SLACK:
            flow.line = deque(t for t in flow.line if t.waiting)
        line = self.arrivals[flow.lane]
        if len(line) > 2 * self.waiting + SLACK:
            self.arrivals[flow.lane] = deque(t for t in line if t.waiting)

    def forget_idle(self) -> None:
        """Bound what is kept of tenants that have nobody waiting."""
        active = sum(map(len, self.crowds))
        if len(self.flows) > 2 * active + IDLE_FLOWS:
            kept = {k: f for k, f in self.flows.items() if f.waiting or f.start > self.clock}
            if len(kept) > 2 * active + IDLE_FLOWS:
                kept = {k: f for k, f in kept.items() if f.waiting}
            self.flows = kept


def _has_room(lane: Lane | None) -> bool:
    return lane is None or lane.has_room()


def _holds(entry: tuple[float, int, _Flow]) -> bool:
    return entry[2].waiting > 0 and entry[2].start == entry[0]


class FairQueue:
    """The queue of one cluster in one process.

    Attributes:
        limit: how many may wait.
        per_key: how many of one tenant may wait; None: as many as ``limit``.
        age_after: seconds of waiting after which a turn by age may be had.
        waiting: how many do.
    """

    __slots__ = (
        "_bands",
        "_by_key",
        "_granted",
        "age_after",
        "limit",
        "per_key",
        "waiting",
    )

    def __init__(self, limit: int, per_key: int | None = None, age_after: float = 5.0) -> None:
        self.limit = limit
        self.per_key = per_key
        self.age_after = age_after
        self.waiting = 0
        self._granted = 0
        self._bands: dict[int, _Band] = {}
        self._by_key: dict[str, int] = {}

    # --- coming -----------------------------------------------------------------------------

    def join(
        self,
        exchange: "Exchange",
        now: float,
        *,
        key: str = "",
        level: int = 0,
        cost: float = 1.0,
        weight: float = 1.0,
        lane: Lane | None = None,
    ) -> Ticket:
        """Stand in line. Whether that is allowed is for ``bars`` and ``displaces`` to say.

        Args:
            key: the tenant.
            level: the priority; higher first.
            cost: of serving it, in any unit that is the same for all; positive.
            weight: the tenant's share; the one of who waits already counts on.
        """
        band = self._bands.get(level)
        if band is None:
            band = self._bands[level] = _Band(level)
        flow = band.flow(lane, key, weight)
        flow.joined += 1
        ticket = Ticket(exchange, flow, cost, flow.joined, now)
        flow.line.append(ticket)
        band.count(flow, +1)
        if flow.waiting == 1:
            band.push(flow)
        self._by_key[key] = self._by_key.get(key, 0) + 1
        band.arrivals.setdefault(lane, deque()).append(ticket)
        self.waiting += 1
        return ticket

    def bars(self, key: str) -> bool:
        """Whether this tenant has as many waiting as it may."""
        return self.per_key is not None and self._by_key.get(key, 0) >= self.per_key

    def displaced_by(self, key: str, level: int, lane: Lane | None = None) -> Ticket | None:
        """Who gives up its place to this newcomer where the queue is full; None: nobody.

        The newest of the tenant with the longest line in the lowest band; in the newcomer's own
        band only if the newcomer's line is the shorter one even with the newcomer.
        """
        lowest = min((b for b in self._bands.values() if b.waiting), key=_level, default=None)
        if lowest is None or lowest.level > level:
            return None
        longest = lowest.longest()
        if lowest.level == level:
            own = lowest.flows.get((lane, key))
            if longest.waiting <= (0 if own is None else own.waiting) + 1:
                return None
        return longest.last()

    # --- going ------------------------------------------------------------------------------

    def first(
        self, now: float | None = None, room: "Callable[[Lane | None], bool]" = _has_room
    ) -> Ticket | None:
        """Who is next. Asking changes nothing.

        Args:
            now: seconds; without it nobody has aged.
            room: the lanes to look at; those that have room.
        """
        if not self.waiting:
            return None
        known: dict[Lane | None, bool] = {}

        def open_to(lane: Lane | None) -> bool:
            if lane not in known:
                known[lane] = room(lane)
            return known[lane]

        if now is not None and self._granted % AGED_TURN == AGED_TURN - 1:
            for band in sorted(self._bands.values(), key=_turn):
                oldest = band.oldest(open_to)
                if oldest is not None and now - oldest.since > self.age_after:
                    return oldest
        for level in sorted(self._bands, reverse=True):
            band = self._bands[level]
            heads = [band.head(lane) for lane in band.heaps if open_to(lane)]
            if found := [flow for flow in heads if flow is not None]:
                return min(found, key=_start).first()
        return None

    def granted(self, ticket: Ticket) -> None:
        """``first`` was given a place."""
        flow = ticket.flow
        band = flow.band
        if band.head(flow.lane) is flow:  # else it was its turn by age
            band.clock = max(band.clock, flow.start)
        flow.start += ticket.cost / flow.weight
        if self._granted % AGED_TURN == AGED_TURN - 1:
            band.turn = self._granted
        self._granted += 1
        self.leave(ticket)
        if flow.waiting:
            band.push(flow)
        band.forget_idle()

    def leave(self, ticket: Ticket) -> None:
        """It does not wait any more."""
        flow = ticket.flow
        ticket.waiting = False
        flow.band.count(flow, -1)
        flow.band.strike_out(flow)
        left = self._by_key[flow.key] - 1
        if left:
            self._by_key[flow.key] = left
        else:
            del self._by_key[flow.key]
        self.waiting -= 1
        if not self.waiting:
            # What was given to whom is of interest only to those who wait together.
            self._bands.clear()

    # --- looking ----------------------------------------------------------------------------

    def position(self, ticket: Ticket) -> int:
        """About how many are granted until this one is, itself included."""
        flow = ticket.flow
        mine = min(ticket.index - flow.first().index + 1, flow.waiting)
        return self._place(flow.band, mine, flow.weight, flow.band.weight, flow.band.waiting)

    def prospect(self, key: str, level: int, weight: float = 1.0, lane: Lane | None = None) -> int:
        """The position of a newcomer, if it joined."""
        band = self._bands.get(level)
        if band is None:
            band = _Band(level)
        flow = band.flows.get((lane, key))
        mine, shares = 1, band.weight
        if flow is not None and flow.waiting:
            mine, weight = flow.waiting + 1, flow.weight
        else:
            shares += weight
        return self._place(band, mine, weight, shares, band.waiting + 1)

    def _place(self, band: _Band, mine: int, weight: float, shares: float, size: int) -> int:
        # While a tenant is given ``mine``, the others are given as many by their weights.
        higher = sum(other.waiting for other in self._bands.values() if other.level > band.level)
        return higher + min(size, ceil(mine * shares / weight - 1e-9))

    def by_level(self) -> dict[int, int]:
        """How many wait, by priority; only where somebody does."""
        return {band.level: band.waiting for band in self._bands.values() if band.waiting}

    def __repr__(self) -> str:
        return f"<FairQueue waiting={self.waiting}/{self.limit} tenants={len(self._by_key)}>"


def _turn(band: _Band) -> int:
    return band.turn


def _level(band: _Band) -> int:
    return band.level


def _start(flow: _Flow) -> float:
    return flow.start

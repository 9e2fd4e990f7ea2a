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

A lane may hold its requests until there is an endpoint that is not busy (late binding): of its
lines, taken in the order of their tags, whoever can be sent and has the highest response ratio is
next, (wait + own work) / own work: short ones soon, and long ones when they have waited for long.

Joining and being granted cost O(log tenants), leaving O(1): who left is struck out when met.
"""

from collections import deque
from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING

from router.core.admission.band import Band, Lane, Ticket

if TYPE_CHECKING:
    from router.core.exchange import Exchange

AGED_TURN = 4
"""At least three of four grants go by priority and share, at most one by age."""


def _has_room(lane: Lane | None) -> bool:
    return lane is None or lane.has_room()


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
        self._bands: dict[int, Band] = {}
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
        own: float = 0.0,
    ) -> Ticket:
        """Stand in line. Whether that is allowed is for ``bars`` and ``displaces`` to say.

        Args:
            key: the tenant.
            level: the priority; higher first.
            cost: of serving it, in any unit that is the same for all; positive.
            weight: the tenant's share; the one of who waits already counts on.
            own: seconds of its own work, where its lane holds it; 0 if that is not known.
        """
        band = self._bands.get(level)
        if band is None:
            band = self._bands[level] = Band(level)
        flow = band.flow(lane, key, weight)
        flow.joined += 1
        ticket = Ticket(exchange, flow, cost, flow.joined, now, own)
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
                if oldest is None or now - oldest.since <= self.age_after:
                    continue
                lane = oldest.flow.lane
                if lane is None or lane.held_up(oldest.exchange, now) is None:
                    return oldest
        for level in sorted(self._bands, reverse=True):
            band = self._bands[level]
            heads = [band.next(lane, now) for lane in band.heaps if open_to(lane)]
            if found := [ticket for ticket in heads if ticket is not None]:
                return min(found, key=_tag)
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
            band = Band(level)
        flow = band.flows.get((lane, key))
        mine, shares = 1, band.weight
        if flow is not None and flow.waiting:
            mine, weight = flow.waiting + 1, flow.weight
        else:
            shares += weight
        return self._place(band, mine, weight, shares, band.waiting + 1)

    def _place(self, band: Band, mine: int, weight: float, shares: float, size: int) -> int:
        # While a tenant is given ``mine``, the others are given as many by their weights.
        higher = sum(other.waiting for other in self._bands.values() if other.level > band.level)
        return higher + min(size, ceil(mine * shares / weight - 1e-9))

    def by_level(self) -> dict[int, int]:
        """How many wait, by priority; only where somebody does."""
        return {band.level: band.waiting for band in self._bands.values() if band.waiting}

    def __repr__(self) -> str:
        return f"<FairQueue waiting={self.waiting}/{self.limit} tenants={len(self._by_key)}>"


def _turn(band: Band) -> int:
    return band.turn


def _level(band: Band) -> int:
    return band.level


def _tag(ticket: Ticket) -> float:
    return ticket.flow.start

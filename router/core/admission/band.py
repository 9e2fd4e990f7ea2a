"""The lines of one priority: who waits in them, and who of each lane is next.

See ``fair_queue`` for the rules.
"""

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush, nsmallest
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from router.core.exchange import Exchange

IDLE_FLOWS = 1024
"""Tenants of a band that have nobody waiting and are remembered for what they were given."""
LOOK = 24
"""Of those that a lane holds are looked at to find one that can be sent; each look is a pick."""
SLACK = 64
"""Struck out entries that a line may hold beyond its own length."""


class Lane(Protocol):
    """What requests that wait can be sent to. Compared by identity."""

    @property
    def late(self) -> object:
        """Not None: it holds requests until they can be sent."""
        ...

    def has_room(self) -> bool: ...

    def slack(self, now: float) -> bool: ...

    def held_up(self, exchange: "Exchange", now: float) -> float | None: ...


class Ticket:
    """One request's place in the queue. ``waiting`` turns False once, when it leaves."""

    __slots__ = ("cost", "exchange", "flow", "index", "own", "since", "waiting")

    def __init__(
        self, exchange: "Exchange", flow: "Flow", cost: float, index: int, since: float, own: float
    ) -> None:
        self.exchange = exchange
        self.own = own
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


class Flow:
    """One tenant's line in one band and lane. ``start`` is the tag of whoever is first."""

    __slots__ = ("band", "joined", "key", "lane", "line", "start", "waiting", "weight")

    def __init__(self, band: "Band", lane: Lane | None, key: str, weight: float) -> None:
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


class Band:
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
        self.flows: dict[tuple[Lane | None, str], Flow] = {}
        self.turn = -1
        self.arrivals: dict[Lane | None, deque[Ticket]] = {}
        self.heaps: dict[Lane | None, list[tuple[float, int, Flow]]] = {}
        # Flows by how many wait in them, so that the longest is found at once.
        self.crowds: list[dict[Flow, None]] = [{}]
        self._pushed = 0

    def flow(self, lane: Lane | None, key: str, weight: float) -> Flow:
        """The flow that a newcomer joins."""
        flow = self.flows.get((lane, key))
        if flow is None:
            flow = self.flows[lane, key] = Flow(self, lane, key, weight)
        if not flow.waiting:
            flow.weight = weight
            flow.start = max(flow.start, self.clock)
        return flow

    def count(self, flow: Flow, change: int) -> None:
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

    def longest(self) -> Flow:
        """The flow in which most wait; somebody must be waiting."""
        return next(iter(self.crowds[-1]))

    def push(self, flow: Flow) -> None:
        """Let the flow be found by its start tag; among equals the first to come is first."""
        heap = self.heaps.setdefault(flow.lane, [])
        self._pushed += 1
        heappush(heap, (flow.start, self._pushed, flow))
        if len(heap) > 2 * len(self.flows) + SLACK:
            heap[:] = {entry[2]: entry for entry in heap if _holds(entry)}.values()
            heapify(heap)

    def head(self, lane: Lane | None) -> Flow | None:
        """The lane's flow with the smallest start tag."""
        heap = self.heaps.get(lane)
        while heap:
            if _holds(heap[0]):
                return heap[0][2]
            heappop(heap)
        return None

    def next(self, lane: Lane | None, now: float | None) -> Ticket | None:
        """Who of the lane is next."""
        if now is not None and lane is not None and lane.late is not None:
            return self._sendable(lane, now)
        flow = self.head(lane)
        return None if flow is None else flow.first()

    def _sendable(self, lane: Lane, now: float) -> Ticket | None:
        if not lane.slack(now):
            return None
        looks = LOOK
        flows = [flow for (of, _), flow in self.flows.items() if of is lane and flow.waiting]
        for flow in sorted(flows, key=_start):
            waiting = (
                ((t.since - now) / (t.own or 1e-3), t.index, t) for t in flow.line if t.waiting
            )
            chosen = nsmallest(looks, waiting)
            for _, _, ticket in chosen:
                if lane.held_up(ticket.exchange, now) is None:
                    return ticket
            looks -= len(chosen)
            if looks <= 0:
                break
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

    def strike_out(self, flow: Flow) -> None:
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


def _holds(entry: tuple[float, int, Flow]) -> bool:
    return entry[2].waiting > 0 and entry[2].start == entry[0]


def _start(flow: Flow) -> float:
    return flow.start

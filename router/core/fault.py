"""What a route may do to its own requests on purpose, to see how clients take it.

Terms and order are those of Envoy's fault filter: the delay first, then the abort, each drawn for
itself. Streams can be cut or stalled besides, after a number of events. What is drawn is noted in
an ``Injection`` of the exchange; how many requests are held at one time is bounded per route.
"""

from typing import Literal

import msgspec

from router.core.clock import Rng
from router.core.matching import StringMatch
from router.core.model import LlmRequest

Kind = Literal["delay", "abort", "cut", "stall"]
KINDS: tuple[Kind, ...] = ("delay", "abort", "cut", "stall")


class Delay(msgspec.Struct, frozen=True):
    """Hold a request for ``seconds`` before it looks for a place."""

    seconds: float
    percent: float = 100.0


class Abort(msgspec.Struct, frozen=True):
    """Answer with ``status`` instead of asking an endpoint."""

    status: int
    percent: float = 100.0


class Cut(msgspec.Struct, frozen=True):
    """End a stream after ``after`` of its events, as if the endpoint had died."""

    after: int
    percent: float = 100.0


class Stall(msgspec.Struct, frozen=True):
    """Let a stream pause for ``seconds`` after ``after`` of its events."""

    after: int
    seconds: float
    percent: float = 100.0


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A route's faults. Percentages are 0 to 100.

    ``headers``: only requests that meet all these conditions. ``max_active``: requests and streams
    of the route that may be held at one time by one worker; beyond it they go on at once.
    """

    delay: Delay | None = None
    abort: Abort | None = None
    cut: Cut | None = None
    stall: Stall | None = None
    headers: tuple[tuple[str, StringMatch], ...] = ()
    max_active: int = 1024

    def concerns(self, request: LlmRequest) -> bool:
        for name, condition in self.headers:
            raw = request.header(name.encode("latin-1"))
            if not condition.matches(None if raw is None else raw.decode("latin-1")):
                return False
        return True


class FaultState:
    """What one process keeps of one route's faults.

    Attributes:
        active: requests and streams held at present.
        injected: by kind, since the start.
        overflow: holds left out because ``max_active`` was reached.
    """

    __slots__ = ("active", "injected", "overflow")

    def __init__(self) -> None:
        self.active = 0
        self.injected: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self.overflow = 0

    def __repr__(self) -> str:
        return f"<FaultState active={self.active} {self.injected} overflow={self.overflow}>"


class Injection:
    """The faults of one exchange.

    Attributes:
        marks: (events, kind) at which the stream is to be tampered with, the next one first.
        delayed: it was delayed or stalled.
        broken: it was aborted or cut.
    """

    __slots__ = ("_holding", "broken", "delayed", "fault", "marks", "state")

    def __init__(self, fault: Fault, state: FaultState) -> None:
        self.fault = fault
        self.state = state
        self.marks: list[tuple[int, Kind]] = []
        self.delayed = False
        self.broken = False
        self._holding = False

    def hold(self) -> bool:
        """Take one of the route's holds; False, and counted, if there is none left."""
        if self.state.active >= self.fault.max_active:
            self.state.overflow += 1
            return False
        self.state.active += 1
        self._holding = self.delayed = True
        return True

    def let_go(self) -> None:
        """Give the hold back, if there is one."""
        if self._holding:
            self._holding = False
            self.state.active -= 1

    def inject(self, kind: Kind) -> None:
        self.state.injected[kind] += 1
        self.broken = self.broken or kind in ("abort", "cut")

    def ended(self, flag: str) -> str:
        """The exchange is over: nothing is held any more. Returns its flag with DI and FI."""
        self.let_go()
        flags = [name for name in flag.split(",") if name not in ("-", "DI", "FI")]
        flags += ["DI"] * self.delayed + ["FI"] * self.broken
        return ",".join(flags) or "-"

    def __repr__(self) -> str:
        return f"<Injection delayed={self.delayed} broken={self.broken} marks={self.marks}>"


def drawn(percent: float, rng: Rng) -> bool:
    """Whether a fault of this percentage is to happen."""
    return percent >= 100 or rng.random() * 100 < percent

"""One router of the simulated world: a director, and the driver that does as it says."""

import enum
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from router.core import events
from router.core.director import Director
from router.core.events import (
    Connect,
    Effect,
    Finish,
    Head,
    Reject,
    Relay,
    Stage,
    TimedOut,
    Wait,
)
from router.core.exchange import Exchange
from router.core.fleet import Fleet
from router.core.model import EndpointId, LlmRequest
from router.core.snapshot import Snapshot
from router.sim.engine import Job
from router.sim.outcome import End
from router.sim.profile import PICOSECONDS
from router.sim.workload import Arrival

TICK: Final = PICOSECONDS // 40
"""Between two looks at the queue while somebody is in it, as the proxy does."""

_OK: Final = Head(200)
_TOO_LONG: Final = Head(400)


class UnexpectedEffect(RuntimeError):
    """The director asked for what no part of a scenario should lead to."""


class Answer(enum.Enum):
    """What becomes of an attempt to send a request to an engine."""

    TAKEN = enum.auto()
    REFUSED = enum.auto()  # nobody listens
    TOO_LONG = enum.auto()


class Place(Protocol):
    """What a router needs of the world."""

    now: int

    def at(self, when: int, action: Callable[[], None]) -> None:
        """Arrange that ``action`` is called then."""
        ...

    def send(self, flight: "Flight", endpoint: EndpointId) -> Answer:
        """Send the request to an engine."""
        ...

    def ended(self, flight: "Flight", end: End) -> None:
        """The client has been told all that it will be told."""
        ...


class Flight:
    """One request under way.

    Attributes:
        job: at the engine that has it now.
        first: when its first token came, -1 before.
        waits: pauses so far; a timer of an earlier one means nothing.
    """

    __slots__ = (
        "arrival",
        "crowd",
        "exchange",
        "first",
        "job",
        "replica",
        "router",
        "waits",
    )

    def __init__(
        self, arrival: Arrival, router: "Router", exchange: Exchange, crowd: float
    ) -> None:
        self.arrival = arrival
        self.router = router
        self.exchange = exchange
        self.job: Job | None = None
        self.replica = -1
        self.first = -1
        self.waits = 0
        self.crowd = crowd

    def __repr__(self) -> str:
        return f"<Flight {self.arrival.key} replica={self.replica} {self.exchange!r}>"


class Router:
    """Feeds its director what happens, and does what that answers.

    Args:
        seed: of what the director draws.
    """

    def __init__(self, place: Place, snapshot: Snapshot, seed: str) -> None:
        self._place = place
        self.fleet = Fleet()
        self.director = Director(snapshot, self.fleet, random.Random(seed))
        self._flights: dict[int, Flight] = {}
        self._ticking = False
        self._serving = False

    @property
    def seconds(self) -> float:
        return self._place.now / PICOSECONDS

    # --- what happens to a request ------------------------------------------------------------

    def arrive(self, arrival: Arrival, request: LlmRequest, crowd: float) -> None:
        """A client asks."""
        exchange = self.director.begin(request, self.seconds)
        flight = self._flights[exchange.serial] = Flight(arrival, self, exchange, crowd)
        self._feed(flight, events.START)

    def first_token(self, flight: Flight) -> None:
        flight.first = self._place.now
        if flight.exchange.request.stream:
            flight.exchange.first_byte(self.seconds)
            self._serve_queue()

    def complete(self, flight: Flight) -> None:
        exchange = flight.exchange
        if not exchange.request.stream:
            exchange.feed(_OK, self.seconds)
            exchange.first_byte(self.seconds)
        self._feed(flight, events.COMPLETE)
        assert flight.job is not None
        exchange.usage(flight.job.prompt, flight.job.cached)

    def reset(self, flight: Flight) -> None:
        """Its engine is gone."""
        flight.job = None
        flight.first = -1
        self._feed(flight, events.RESET)

    # --- what is done about it ------------------------------------------------------------------

    def _feed(self, flight: Flight, event: events.Event) -> None:
        pending = [event]
        while pending:
            effect = flight.exchange.feed(pending.pop(0), self.seconds)
            if isinstance(effect, Connect):
                pending = list(self._connect(flight, effect))
            else:
                self._carry_out(flight, effect)
        self._serve_queue()

    def _connect(self, flight: Flight, effect: Connect) -> Sequence[events.Event]:
        if effect.race:
            raise UnexpectedEffect(f"{effect!r} for {flight!r}")
        flight.waits += 1
        answer = self._place.send(flight, effect.endpoint.id)
        if answer is Answer.REFUSED:
            return (events.CONNECT_FAILED,)
        if answer is Answer.TOO_LONG:
            return (events.CONNECTED, _TOO_LONG, events.COMPLETE)
        # Engines send the head of a stream at once, that of any other answer with its body.
        return (events.CONNECTED, _OK) if flight.exchange.request.stream else (events.CONNECTED,)

    def _carry_out(self, flight: Flight, effect: Effect) -> None:
        match effect:
            case Wait(timeout=0.0) | Relay(mark=0):
                pass
            case Wait():
                flight.waits += 1
                expired = partial(self._expired, flight, flight.waits, effect.stage)
                self._place.at(self._place.now + round(effect.timeout * PICOSECONDS), expired)
            case Reject():
                self._over(flight, End.REFUSED)
            case Finish():
                well = effect.error is None and flight.exchange.status == _OK.status
                self._over(flight, End.DONE if well else End.FAILED)
            case _:
                raise UnexpectedEffect(f"{effect!r} for {flight!r}")

    def _expired(self, flight: Flight, waits: int, stage: Stage) -> None:
        if flight.waits == waits and not flight.exchange.over:
            self._feed(flight, TimedOut(stage))

    def _over(self, flight: Flight, end: End) -> None:
        del self._flights[flight.exchange.serial]
        self._place.ended(flight, end)

    def _serve_queue(self) -> None:
        """Let in who has a place now, and keep looking while anybody waits."""
        director = self.director
        if self._serving or not director.lines:
            return
        self._serving = True
        while (exchange := director.next_displaced()) is not None:
            self._feed(self._flights[exchange.serial], events.DISPLACED)
        while (exchange := director.next_granted(self.seconds)) is not None:
            self._feed(self._flights[exchange.serial], events.GRANTED)
        self._serving = False
        if director.lines and not self._ticking:
            self._ticking = True
            self._place.at(self._place.now + TICK, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        self._serve_queue()

"""One router's part in what all routers of the same endpoints know together.

    forecasts --news--> herald --take()--> the others          hear() --> peers --> forecasts

Whoever drives it sends what ``take`` gives to all others (or to the one it is for) and feeds what
comes to ``hear``; it may lose, double and delay as it likes. A router that begins says hello: each
of the others tells it what it has under way, and one that remembers more is asked for it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from router.core.forecast.forecast import Forecast
from router.core.forecast.herald import Herald
from router.core.forecast.notes import (
    ROOM,
    Ask,
    Bye,
    Hello,
    Note,
    Roster,
    Sent,
    Unreadable,
    address,
    notes,
    seal,
)
from router.core.forecast.peers import Peers
from router.core.forecast.recollection import recall, recollections
from router.core.model import EndpointId

ROSTER: Final = 2.0
"""Seconds between two rosters: for so long what a lost note would have said is believed."""

JOINING: Final = 15.0
"""Seconds for which a router that has begun looks for somebody to ask."""

PATIENCE: Final = 3.0
"""Seconds in which who was asked must have told all; then another one is asked."""

RICHER: Final = 2
"""Times as many entries as this router must one have that is worth asking: what was heard since
the beginning, both have."""

LISTENERS: Final = 16
"""Routers that are being told what is remembered or under way; others must ask again."""

_SMALL: Final = 24
_SENT: Final = 64
"""Bytes of a note, about, and of one that a request was sent, beside its checkpoints and name."""


class Gossip:
    """One for each process that decides.

    Args:
        origin: of this process, at random, not 0; another one each time that it begins.
        machine: of its machine.
        wake: called when there is something to take where there was nothing.

    Attributes:
        heard: notes that were read.
        sent: notes that were taken.
        unreadable: envelopes that were none.
    """

    def __init__(self, origin: int, machine: int, wake: Callable[[], None]) -> None:
        self.origin = origin
        self.machine = machine
        self.herald = Herald(wake)
        self._wake = wake
        self.peers = Peers(origin)
        self.heard = 0
        self.sent = 0
        self.unreadable = 0
        self._clusters: dict[str, Forecast] = {}
        self._endpoints: dict[EndpointId, Forecast] = {}
        self._number = 0
        self._tales: deque[tuple[int, Iterator[list[Note]]]] = deque()
        self._roster_due = 0.0
        self._joining_until = 0.0
        self._asked: dict[int, float] = {}

    def follow(self, clusters: Mapping[str, tuple[Forecast, Iterable[EndpointId]]]) -> None:
        """The clusters whose requests are told of, and their endpoints."""
        for name, forecast in self._clusters.items():
            if name not in clusters:
                forecast.news = None
                self.herald.leave(forecast)
                self.peers.leave(forecast)
        self._clusters = {name: forecast for name, (forecast, _) in clusters.items()}
        self._endpoints = {id_: one for one, ids in clusters.values() for id_ in ids}
        for forecast in self._clusters.values():
            forecast.news = self.herald
        self.peers.follow(self._endpoints)

    def join(self, now: float) -> None:
        """This router has begun: it knows nothing yet."""
        self._joining_until = now + JOINING
        self.herald.put(Hello())

    def look(self, now: float) -> None:
        """What is due by the clock; to be called every second or so."""
        self.peers.look(now)
        if now >= self._roster_due:
            self._roster_due = now + ROSTER
            echoes = self.peers.echoes(now)
            number = self.peers.rounds.begin(now)
            for roster in self.herald.rosters(self.entries, number, echoes):
                self.herald.put(roster)

    @property
    def entries(self) -> int:
        """Of all mirrors."""
        return sum(forecast.mirror.entries for forecast in self._clusters.values())

    # --- telling ------------------------------------------------------------------------------

    @property
    def talkative(self) -> bool:
        """Whether there is something to take."""
        return bool(self.herald.notes or self._tales)

    def take(self) -> list[tuple[int, bytes]]:
        """Envelopes to send, each with the origin that it is for, 0: everybody.

        What is remembered comes one portion at a time, so that neither end is kept from its work.
        """
        taken: list[tuple[int, bytes]] = []
        for part in _portions(self.herald.take()):
            self._number += 1
            self.sent += len(part)
            taken.append((0, seal(self.machine, self.origin, 0, self._number, part)))
        if self._tales:
            to, tale = self._tales.popleft()
            portion = next(tale, None)
            if portion is not None:
                self._tales.append((to, tale))
                self.sent += len(portion)
                taken.append((to, seal(self.machine, self.origin, to, 0, portion)))
        return taken

    def _tell(self, to: int, tale: Iterator[list[Note]]) -> None:
        if len(self._tales) < LISTENERS:
            self._tales.append((to, tale))
            self._wake()

    # --- hearing ------------------------------------------------------------------------------

    def hear(self, data: bytes, now: float) -> None:
        """Somebody's envelope has come. Whatever is wrong with it is counted, not raised."""
        try:
            envelope = address(data)
            if envelope.origin == self.origin or envelope.to not in (0, self.origin):
                return
            told = notes(envelope)
        except Unreadable:
            self.unreadable += 1
            return
        peer = self.peers.meet(envelope.origin, envelope.number, now)
        if peer is None:
            return
        self.heard += len(told)
        self.peers.take(peer, told, now)
        for note in told:
            if type(note) is Hello:
                self._tell(envelope.origin, self._introduction(now))
            elif type(note) is Ask:
                self._tell(envelope.origin, recollections(dict(self._clusters)))
            elif type(note) is Bye:
                self.peers.forget(envelope.origin, now)
        if now < self._joining_until:
            self._join_in(envelope.origin, told, now)

    def _introduction(self, now: float) -> Iterator[list[Note]]:
        yield from self.herald.under_way(now)
        for roster in self.herald.rosters(self.entries):
            yield [roster]

    def _join_in(self, origin: int, told: Sequence[Note], now: float) -> None:
        """Learn what others remember, once."""
        if recall(told, self._clusters, self._endpoints):
            self._joining_until = 0.0
            return
        most = max((note.entries for note in told if isinstance(note, Roster)), default=0)
        asked_last = max(self._asked.values(), default=now - PATIENCE)
        patient = origin in self._asked or now - asked_last < PATIENCE
        if most > RICHER * self.entries and not patient:
            self._asked[origin] = now
            self._tell(origin, iter([[Ask()]]))

    def __repr__(self) -> str:
        return f"<Gossip {self.origin:x} {self.peers!r} {self.herald!r}>"


def _portions(told: list[Note]) -> Iterator[list[Note]]:
    """As many notes at a time as fit in an envelope."""
    part: list[Note] = []
    size = 0
    for note in told:
        own = _size(note)
        if part and size + own > ROOM:
            yield part
            part, size = [], 0
        part.append(note)
        size += own
    if part:
        yield part


def _size(note: Note) -> int:
    if isinstance(note, Sent):
        return _SENT + len(note.checkpoints) + len(note.endpoint)
    if isinstance(note, Roster):
        return _SMALL + 5 * (len(note.waiting) + len(note.decoding)) + 32 * len(note.echoes)
    return _SMALL

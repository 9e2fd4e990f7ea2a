"""What other routers told, entered in the forecasts of this one.

Each origin's requests are kept by serial until it says that they are over. It may never say so: a
note gets lost, its process is killed, its machine falls. So every origin tells now and then of all
that it has under way, and what is not on that roster is over; an origin of whom no roster comes
any more is gone, and all of its requests with it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from router.core.forecast.forecast import Forecast
from router.core.forecast.notes import (
    Echo,
    Ended,
    FirstToken,
    Note,
    Roster,
    Sent,
    UnderWay,
    unpack,
)
from router.core.forecast.unheard import Rounds, Tally, reckon, suppose
from router.core.forecast.work import PrefillWork
from router.core.host import Outcome
from router.core.model import EndpointId
from router.core.prefix.blocks import BLOCK

SILENCE: Final = 10.0
"""Seconds without a roster after which an origin is gone: five in a row were lost, or its loop
stood still for as long."""

MOST_ORIGINS: Final = 1024
"""A hundred machines of ten workers; others are not listened to."""

MOST_WORKS: Final = 32_768
"""Requests of others that are kept, at about a kilobyte; beyond it an origin's oldest give way."""

_OUTCOMES: Final = {int(outcome): outcome for outcome in Outcome}


class Peer:
    """One origin.

    Attributes:
        number: of its last envelope to everybody; 0 before the first.
        vouched_at: when its last roster came, or it was heard first.
        round: of its last numbered roster, which came at ``round_at``; 0 before the first.
        late: seconds until it is heard, about; 0 while that is not known.
        sent: the prompts that it told of of late.
    """

    __slots__ = ("late", "number", "round", "round_at", "sent", "vouched_at", "works")

    def __init__(self, now: float) -> None:
        self.number = 0
        self.vouched_at = now
        self.round = 0
        self.round_at = now
        self.late = 0.0
        self.sent: dict[Forecast, Tally] = {}
        self.works: dict[int, PrefillWork] = {}

    def __repr__(self) -> str:
        return f"<Peer number={self.number} works={len(self.works)}>"


class Peers:
    """All that were heard of.

    Args:
        origin: of the router that hears them.

    Attributes:
        rounds: this router's own rosters.
        works: of all of them together, that are under way.
        heard: requests that were entered.
        lost: envelopes that never came, by their numbers.
        late: envelopes that came when a later one had come, or a second time.
        unknown: requests to endpoints that are not known here.
        expired: requests of which nobody said that they ended.
        refused: origins beyond ``MOST_ORIGINS``, by envelope.
    """

    __slots__ = (
        "_enter",
        "_forecasts",
        "_looked_at",
        "_peers",
        "expired",
        "heard",
        "late",
        "lost",
        "refused",
        "rounds",
        "unknown",
        "works",
    )

    def __init__(self, origin: int = 0) -> None:
        self.rounds = Rounds(origin)
        self._looked_at = 0.0
        self._forecasts: Mapping[EndpointId, Forecast] = {}
        self._peers: dict[int, Peer] = {}
        self.works = 0
        self.heard = 0
        self.lost = 0
        self.late = 0
        self.unknown = 0
        self.expired = 0
        self.refused = 0
        self._enter: dict[type[Note], Callable[[Peer, Any, float], None]] = {
            Sent: self._sent,
            FirstToken: self._first_token,
            Ended: self._ended,
            Roster: self._roster,
            UnderWay: self._under_way,
        }

    def follow(self, forecasts: Mapping[EndpointId, Forecast]) -> None:
        """Where requests to each endpoint are entered; those to others mean nothing here."""
        self._forecasts = forecasts

    def __len__(self) -> int:
        return len(self._peers)

    def meet(self, origin: int, number: int, now: float) -> Peer | None:
        """Whose envelope this is; None if it is not to be read."""
        peer = self._peers.get(origin)
        if peer is None:
            if len(self._peers) >= MOST_ORIGINS:
                self.refused += 1
                return None
            peer = self._peers[origin] = Peer(now)
        if not number:
            return peer
        if number <= peer.number:
            self.late += 1
            return None
        if peer.number:
            self.lost += number - peer.number - 1
        peer.number = number
        return peer

    def take(self, peer: Peer, notes: Sequence[Note], now: float) -> None:
        """Enter these; notes of other kinds are left to others."""
        for note in notes:
            enter = self._enter.get(type(note))
            if enter is not None:
                enter(peer, note, now)

    # --- what they tell -----------------------------------------------------------------------

    def _sent(self, peer: Peer, note: Sent, now: float) -> None:
        forecast = self._room_for(peer, note, now)
        if forecast is not None:
            work = peer.works[note.serial] = forecast.heard_of(
                EndpointId(note.endpoint),
                note.tokens,
                note.prompt_bytes / BLOCK,
                unpack(note.checkpoints),
                note.conversation,
                note.streamed,
                now,
            )
            tally = peer.sent.get(forecast)
            if tally is None:
                tally = peer.sent[forecast] = Tally()
            tally.add(work.cost)

    def _under_way(self, peer: Peer, note: UnderWay, now: float) -> None:
        forecast = self._room_for(peer, note, now)
        if forecast is not None:
            peer.works[note.serial] = forecast.heard_under_way(
                EndpointId(note.endpoint),
                note.tokens,
                note.cost,
                note.streamed,
                note.decoding,
                now - note.age,
                now,
            )

    def _room_for(self, peer: Peer, note: Sent | UnderWay, now: float) -> Forecast | None:
        """The forecast that a request is to be entered in; None where it is not to be."""
        forecast = self._forecasts.get(EndpointId(note.endpoint))
        if forecast is None:
            self.unknown += 1
            return None
        if note.serial in peer.works:
            return None
        if self.works >= MOST_WORKS:
            if not peer.works:
                return None
            self._expire(peer, next(iter(peer.works)), now)
        self.works += 1
        self.heard += 1
        return forecast

    def _first_token(self, peer: Peer, note: FirstToken, now: float) -> None:
        work = peer.works.get(note.serial)
        if work is not None:
            work.first_token(now, work.streamed)

    def _ended(self, peer: Peer, note: Ended, now: float) -> None:
        work = peer.works.pop(note.serial, None)
        if work is not None:
            self.works -= 1
            work.ended(_OUTCOMES.get(note.outcome, Outcome.ABANDONED), now)

    def _roster(self, peer: Peer, note: Roster, now: float) -> None:
        peer.vouched_at = now
        if note.round:
            peer.round, peer.round_at = note.round, now
        self.rounds.echoed(peer, note.echoes, now)
        decoding, waiting = set(note.decoding), set(note.waiting)
        for serial in [one for one in peer.works if note.first <= one <= note.last]:
            if serial in decoding:
                peer.works[serial].passed(now)
            elif serial not in waiting:
                self._expire(peer, serial, now)

    # --- who is gone --------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Forget whom nothing was heard of for long, and reckon with what others may do unheard."""
        for origin in [one for one, p in self._peers.items() if now - p.vouched_at > SILENCE]:
            self.forget(origin, now)
        since, self._looked_at = max(0.0, now - self._looked_at), now
        forecasts = dict.fromkeys(self._forecasts.values())
        suppose(self.rounds.origin, self._peers, forecasts, since)

    def leave(self, forecast: Forecast) -> None:
        """Nobody tells of this one's requests any more."""
        reckon(forecast, 0.0)
        for peer in self._peers.values():
            peer.sent.pop(forecast, None)

    def delay(self, origin: int) -> float:
        """Seconds until an origin is heard, about; 0 while that is not known."""
        peer = self._peers.get(origin)
        return 0.0 if peer is None else peer.late

    def echoes(self, now: float) -> tuple[Echo, ...]:
        """For the next roster."""
        return self.rounds.echoes(self._peers, now)

    def forget(self, origin: int, now: float) -> None:
        """It is gone, and its engines have noticed."""
        peer = self._peers.pop(origin, None)
        if peer is not None:
            for serial in list(peer.works):
                self._expire(peer, serial, now)

    def _expire(self, peer: Peer, serial: int, now: float) -> None:
        self.works -= 1
        self.expired += 1
        peer.works.pop(serial).ended(Outcome.ABANDONED, now)

    def __repr__(self) -> str:
        return f"<Peers {len(self._peers)} origins, {self.works} works>"

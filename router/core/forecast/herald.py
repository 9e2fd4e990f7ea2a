"""What this router has to tell the others of its own requests."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from router.core.forecast.forecast import Forecast
from router.core.forecast.notes import (
    PORTION,
    Echo,
    Ended,
    FirstToken,
    Note,
    Roster,
    Sent,
    UnderWay,
    pack,
)
from router.core.forecast.work import Phase, PrefillWork
from router.core.host import Outcome
from router.core.prefix.blocks import BLOCK

MOST: Final = 4096
"""Notes that wait to be taken; more are not told."""

_WAITING: Final = Phase.WAITING


class Herald:
    """Implements ``core.forecast.forecast.News``, for all clusters together.

    Args:
        wake: called when there is something to take where there was nothing.

    Attributes:
        open: requests under way by serial, in its order.
        notes: told and not taken yet.
        told: requests of which the others were told.
        kept_back: notes for which there was no room.
    """

    __slots__ = ("_wake", "kept_back", "notes", "open", "told")

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.told = 0
        self.open: dict[int, PrefillWork] = {}
        self.notes: list[Note] = []
        self.kept_back = 0

    def sent(self, work: PrefillWork) -> None:
        self.told += 1
        work.serial = self.told
        self.open[work.serial] = work
        self.put(
            Sent(
                work.serial,
                work.outlook.id,
                work.tokens,
                round(work.blocks * BLOCK),
                work.conversation,
                work.streamed,
                pack(work.checkpoints),
            )
        )

    def first_token(self, work: PrefillWork) -> None:
        if work.serial:
            self.put(FirstToken(work.serial))

    def ended(self, work: PrefillWork, outcome: Outcome) -> None:
        if self.open.pop(work.serial, None) is not None:
            self.put(Ended(work.serial, int(outcome)))

    def put(self, note: Note) -> None:
        if len(self.notes) >= MOST:
            self.kept_back += 1
            return
        self.notes.append(note)
        if len(self.notes) == 1:
            self._wake()

    def leave(self, forecast: Forecast) -> None:
        """Nobody is told of this one's requests any more."""
        self.open = {n: work for n, work in self.open.items() if work.forecast is not forecast}

    def take(self) -> list[Note]:
        notes, self.notes = self.notes, []
        return notes

    def rosters(
        self, entries: int, number: int = 0, echoes: tuple[Echo, ...] = ()
    ) -> Iterator[Roster]:
        """All that is under way, in portions that leave no serial out.

        Args:
            entries: that the mirrors have.
            number: of this roster; with the ``echoes`` it is in the first portion.
        """
        serials = list(self.open)
        first = 0
        for start in range(0, max(1, len(serials)), PORTION):
            part = serials[start : start + PORTION]
            last = self.told if start + PORTION >= len(serials) else part[-1]
            waiting = tuple(one for one in part if self._in_line(one))
            decoding = tuple(one for one in part if not self._in_line(one))
            yield Roster(first, last, waiting, decoding, entries, number, echoes)
            number, echoes = 0, ()
            first = last + 1

    def _in_line(self, serial: int) -> bool:
        # Where there is no stream each router assumes by itself when a prompt is computed.
        work = self.open[serial]
        return work.phase is _WAITING or not work.streamed

    def under_way(self, now: float) -> Iterator[list[Note]]:
        """The same for a router that has just begun, in portions made as they are asked for."""
        seen = 0
        while True:
            later = (work for serial, work in self.open.items() if serial > seen)
            part = list(islice(later, PORTION // 8))
            if not part:
                return
            seen = part[-1].serial
            yield [self._described(work, now) for work in part]

    @staticmethod
    def _described(work: PrefillWork, now: float) -> UnderWay:
        return UnderWay(
            work.serial,
            work.outlook.id,
            work.tokens,
            work.cost,
            max(0.0, now - work.since),
            work.streamed,
            work.phase is not _WAITING,
        )

    def __repr__(self) -> str:
        return f"<Herald {len(self.open)} under way, {len(self.notes)} notes>"

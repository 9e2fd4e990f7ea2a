"""What the forecast keeps of one attempt.

WAITING --first token--> DECODING --end--> OVER --usage--> what the engine really found cached
   |                                        ^
   +------------------- end ----------------+
"""

import enum
from typing import TYPE_CHECKING, Final

from router.core.host import Outcome

if TYPE_CHECKING:
    from router.core.forecast.forecast import Forecast
    from router.core.forecast.outlook import Outlook


class Phase(enum.IntEnum):
    WAITING = 0
    DECODING = 1
    OVER = 2


_WAITING: Final = Phase.WAITING
_DECODING: Final = Phase.DECODING
_OVER: Final = Phase.OVER

_UNREAD: Final = frozenset(
    {Outcome.STATUS_ERROR, Outcome.CONNECT_FAILURE, Outcome.RESET, Outcome.PUSHED_BACK}
)
"""Ends after which the endpoint cannot be thought to have read the prompt."""


class PrefillWork:
    """One prompt at one endpoint; implements ``core.host.Work``.

    Attributes:
        cost: predicted seconds of computing it.
        tokens: of the prompt, estimated; ``blocks`` the same in blocks of bytes.
        expected: blocks of it that the endpoint was expected to hold.
        known: checkpoints of it that the mirror had for the endpoint, whatever their age.
        age: of the last of them.
        since: when it was sent.
        hoped: seconds from then in which its first token was expected; of our own.
        serial: by which other routers are told of it, 0: they are not.
        streamed: its first token will be seen.
        ours: this router sent it; another one told of it otherwise.
        ended_at: when it was over, 0 before.
    """

    __slots__ = (
        "age",
        "blocks",
        "checkpoints",
        "conversation",
        "cost",
        "ended_at",
        "expected",
        "forecast",
        "hoped",
        "known",
        "ours",
        "outlook",
        "phase",
        "serial",
        "since",
        "streamed",
        "tokens",
    )

    def __init__(
        self,
        forecast: "Forecast",
        outlook: "Outlook",
        cost: float,
        tokens: float,
        blocks: float,
        checkpoints: tuple[int, ...],
        conversation: int,
        expected: float,
        known: int,
        age: float,
        since: float,
        streamed: bool,
        ours: bool,
    ) -> None:
        self.forecast = forecast
        self.outlook = outlook
        self.cost = cost
        self.tokens = tokens
        self.blocks = blocks
        self.checkpoints = checkpoints
        self.conversation = conversation
        self.expected = expected
        self.known = known
        self.age = age
        self.since = since
        self.streamed = streamed
        self.ours = ours
        self.ended_at = 0.0
        self.serial = 0
        self.hoped = 0.0
        self.phase = _WAITING

    def first_token(self, now: float, streamed: bool) -> None:
        """Without a stream the first byte is the last one, too: ``ended`` will tell."""
        if self.phase is _WAITING and streamed:
            self.phase = _DECODING
            self.outlook.begun(self, now)
            if self.ours:
                self.forecast.foresight.met(self.hoped, now - self.since)
            self.forecast.tell_first_token(self)

    def passed(self, now: float) -> None:
        """Its first token has come some time ago."""
        if self.phase is _WAITING:
            self.phase = _DECODING
            self.outlook.passed(self, now)

    def assumed(self) -> None:
        """Its first token must have been computed by now."""
        self.phase = _DECODING

    def ended(self, outcome: Outcome, now: float) -> None:
        phase, self.phase = self.phase, _OVER
        self.ended_at = now
        if phase is _WAITING:
            self.outlook.given_up(self, now)
        elif phase is _DECODING:
            self.outlook.done(self)
        if outcome is Outcome.SUCCESS or phase is _DECODING:
            self.forecast.keep(self)
        elif outcome in _UNREAD:
            self.forecast.drop(self)
        self.forecast.tell_ended(self, outcome)

    def usage(self, prompt: int, cached: int | None) -> None:
        self.forecast.counted(self, prompt, cached)

    def prefix_tip(self, block: int, count: int) -> None:
        self.forecast.tell_tip(self, block, count)

    def __repr__(self) -> str:
        return (
            f"<PrefillWork {self.phase.name} cost={self.cost:.3f}s tokens={self.tokens:.0f} "
            f"expected={self.expected:.0f}/{self.blocks:.0f} blocks>"
        )

"""What can happen to an exchange, and what its driver is told to do about it.

Plain classes whose attributes are final: three of them are made for each request, and where the
hot path is compiled (see ADR 14) their attributes are fields of a C struct.
"""

import enum
from typing import Final

from router.core.admission.token_bucket import Verdict
from router.core.errors import RouterError
from router.core.model import Endpoint


class EventKind(enum.IntEnum):
    START = 0
    GRANTED = 1
    CONNECTED = 2
    CONNECT_FAILED = 3
    HEAD = 4
    RESET = 5
    COMPLETE = 6
    TIMED_OUT = 7
    CLIENT_GONE = 8
    CANCEL = 9
    VERDICTS = 10
    MARK = 11
    DISPLACED = 12
    OF_ATTEMPT = 13


class Stage(enum.IntEnum):
    """Which timer ran out."""

    CONNECT = 0
    FIRST_BYTE = 1
    IDLE = 2
    TOTAL = 3
    QUEUE = 4
    BACK_OFF = 5
    HOLD = 6
    HEDGE = 7


class _Value:
    """Two that say the same are equal, so what they say is exact: 17 digits make a float."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


class Event(_Value):
    __slots__ = ("kind",)

    def __init__(self, kind: EventKind) -> None:
        self.kind: Final = kind

    def __repr__(self) -> str:
        return f"<{self.kind.name}>"


# Module names: looking a member up in its enum costs as much as making an event.
_HEAD: Final = EventKind.HEAD
_RESET: Final = EventKind.RESET
_TIMED_OUT: Final = EventKind.TIMED_OUT
_CANCEL: Final = EventKind.CANCEL
_VERDICTS: Final = EventKind.VERDICTS
_OF_ATTEMPT: Final = EventKind.OF_ATTEMPT


class Head(Event):
    """The endpoint's response head has arrived.

    ``retry_after``: seconds after which it says to come again; None where it does not say.
    ``lines``: the status line and the fields, each with its CRLF; for retries that look at them.
    """

    __slots__ = ("lines", "retry_after", "status")

    def __init__(
        self, status: int, *, retry_after: float | None = None, lines: bytes = b""
    ) -> None:
        super().__init__(_HEAD)
        self.status: Final = status
        self.retry_after: Final = retry_after
        self.lines: Final = lines

    def __repr__(self) -> str:
        return f"<Head {self.status} retry_after={self.retry_after} {self.lines!r}>"


class Reset(Event):
    """The endpoint closed or reset before its response was complete.

    ``protocol``: what came was not HTTP. The race between a request on a kept-alive connection
    and the endpoint's idle close is the driver's to mend: the endpoint never saw the request.
    """

    __slots__ = ("protocol",)

    def __init__(self, protocol: bool = False) -> None:
        super().__init__(_RESET)
        self.protocol: Final = protocol

    def __repr__(self) -> str:
        return f"<Reset protocol={self.protocol}>"


class TimedOut(Event):
    __slots__ = ("stage",)

    def __init__(self, stage: Stage) -> None:
        super().__init__(_TIMED_OUT)
        self.stage: Final = stage

    def __repr__(self) -> str:
        return f"<TimedOut {self.stage.name}>"


class Cancel(Event):
    """Whoever runs the router ends the exchange. ``reason`` is one sentence for the client."""

    __slots__ = ("reason",)

    def __init__(self, reason: str = "cancelled by an operator") -> None:
        super().__init__(_CANCEL)
        self.reason: Final = reason

    def __repr__(self) -> str:
        return f"<Cancel {self.reason!r}>"


class Verdicts(Event):
    """The store of limits that all routers share has answered; None: it will not."""

    __slots__ = ("verdicts",)

    def __init__(self, verdicts: tuple[Verdict, ...] | None) -> None:
        super().__init__(_VERDICTS)
        self.verdicts: Final = verdicts

    def __repr__(self) -> str:
        return f"<Verdicts {self.verdicts}>"


START: Final = Event(EventKind.START)
GRANTED: Final = Event(EventKind.GRANTED)
CONNECTED: Final = Event(EventKind.CONNECTED)
CONNECT_FAILED: Final = Event(EventKind.CONNECT_FAILED)
COMPLETE: Final = Event(EventKind.COMPLETE)
CLIENT_GONE: Final = Event(EventKind.CLIENT_GONE)
MARK: Final = Event(EventKind.MARK)
"""As many events of the stream have gone to the client as the ``Relay`` effect named."""

DISPLACED: Final = Event(EventKind.DISPLACED)
CANCEL: Final = Cancel()
RESET: Final = Reset()


class OfAttempt(Event):
    """What happened to one attempt of a race. A Head is fed with the first byte of its body.

    ``attempt``: its number, from the effect that started it.
    """

    __slots__ = ("attempt", "event")

    def __init__(self, attempt: int, event: Event) -> None:
        super().__init__(_OF_ATTEMPT)
        self.attempt: Final = attempt
        self.event: Final = event

    def __repr__(self) -> str:
        return f"<OfAttempt {self.attempt} {self.event!r}>"


# --- effects --------------------------------------------------------------------------------


class Connect(_Value):
    """Drop the previous attempt, if any, and send the request to ``endpoint``.

    ``attempt`` counts from 1. ``connect_timeout`` and ``first_byte_timeout`` in seconds, 0 = none.
    ``race``: from now on what happens to the attempt is an ``OfAttempt``, and after ``hedge_after``
    seconds, unless it is 0, a HEDGE time-out is due.
    """

    __slots__ = (
        "attempt",
        "connect_timeout",
        "endpoint",
        "first_byte_timeout",
        "hedge_after",
        "race",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        attempt: int,
        connect_timeout: float,
        first_byte_timeout: float,
        race: bool = False,
        hedge_after: float = 0.0,
    ) -> None:
        self.endpoint: Final = endpoint
        self.attempt: Final = attempt
        self.connect_timeout: Final = connect_timeout
        self.first_byte_timeout: Final = first_byte_timeout
        self.race: Final = race
        self.hedge_after: Final = hedge_after

    def __repr__(self) -> str:
        return (
            f"<Connect {self.endpoint.id} attempt={self.attempt} "
            f"within={self.connect_timeout:.17g} head={self.first_byte_timeout:.17g} "
            f"race={self.race} hedge={self.hedge_after:.17g}>"
        )


class SendToo(_Value):
    """Send the request to ``endpoint`` as well, and keep what is under way. As ``Connect``."""

    __slots__ = ("attempt", "connect_timeout", "endpoint", "first_byte_timeout", "hedge_after")

    def __init__(
        self,
        endpoint: Endpoint,
        attempt: int,
        connect_timeout: float,
        first_byte_timeout: float,
        hedge_after: float,
    ) -> None:
        self.endpoint: Final = endpoint
        self.attempt: Final = attempt
        self.connect_timeout: Final = connect_timeout
        self.first_byte_timeout: Final = first_byte_timeout
        self.hedge_after: Final = hedge_after

    def __repr__(self) -> str:
        return (
            f"<SendToo {self.endpoint.id} attempt={self.attempt} "
            f"within={self.connect_timeout:.17g} head={self.first_byte_timeout:.17g} "
            f"hedge={self.hedge_after:.17g}>"
        )


class Drop(_Value):
    """Give up these attempts of a race; another goes on."""

    __slots__ = ("attempts",)

    def __init__(self, attempts: tuple[int, ...]) -> None:
        self.attempts: Final = attempts

    def __repr__(self) -> str:
        return f"<Drop {self.attempts}>"


class Wait(_Value):
    """Stand by. ``timeout``: seconds until a time-out of ``stage``, 0 = nothing new to time.

    With a time-out no attempt is under way: the previous one, if any, is to be dropped.
    """

    __slots__ = ("stage", "timeout")

    def __init__(self, timeout: float = 0.0, stage: Stage = Stage.QUEUE) -> None:
        self.timeout: Final = timeout
        self.stage: Final = stage

    def __repr__(self) -> str:
        return f"<Wait {self.timeout:.17g} {self.stage.name}>"


class Hold(_Value):
    """Stand by until a HOLD time-out after ``seconds``, in which no other time-out runs."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds: Final = seconds

    def __repr__(self) -> str:
        return f"<Hold {self.seconds:.17g}>"


class Relay(_Value):
    """Pass the response on. ``idle_timeout`` in seconds, 0 = none.

    ``mark``: a stream's event, counted from 1, after which MARK is to be fed before anything
    further goes to the client; 0 for none.
    """

    __slots__ = ("idle_timeout", "mark")

    def __init__(self, idle_timeout: float, mark: int = 0) -> None:
        self.idle_timeout: Final = idle_timeout
        self.mark: Final = mark

    def __repr__(self) -> str:
        return f"<Relay idle={self.idle_timeout:.17g} mark={self.mark}>"


class Stall(_Value):
    """Pass nothing on, nor read, until a HOLD time-out after ``seconds``; TOTAL still runs."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds: Final = seconds

    def __repr__(self) -> str:
        return f"<Stall {self.seconds:.17g}>"


class Reject(_Value):
    """Answer with this error; no response head has been sent. The exchange is over."""

    __slots__ = ("error",)

    def __init__(self, error: RouterError) -> None:
        self.error: Final = error

    def __repr__(self) -> str:
        return f"<Reject {self.error!r}>"


class Answer(_Value):
    """Answer so, without an endpoint. The exchange is over. ``lines``: header lines, no CRLF."""

    __slots__ = ("body", "lines", "status")

    def __init__(self, status: int, lines: tuple[bytes, ...], body: bytes = b"") -> None:
        self.status: Final = status
        self.lines: Final = lines
        self.body: Final = body

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.lines} {self.body!r}>"


class Finish(_Value):
    """The exchange is over and the upstream connection, if still busy, is to be closed.

    ``error`` is None if all went well or nobody is there to be told; otherwise the head has been
    sent, and the stream must be ended so that the client sees it is not complete.
    """

    __slots__ = ("error",)

    def __init__(self, error: RouterError | None = None) -> None:
        self.error: Final = error

    def __repr__(self) -> str:
        return f"<Finish {self.error!r}>"


STAND_BY: Final = Wait()
FINISHED: Final = Finish()

Effect = Connect | SendToo | Drop | Wait | Hold | Relay | Stall | Reject | Answer | Finish

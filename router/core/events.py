"""What can happen to an exchange, and what its driver is told to do about it."""

import enum

import msgspec

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


class Event(msgspec.Struct, frozen=True, gc=False, tag=False):
    kind: EventKind


class Head(msgspec.Struct, frozen=True, gc=False):
    """The endpoint's response head has arrived.

    ``retry_after``: seconds after which it says to come again; None where it does not say.
    ``lines``: the status line and the fields, each with its CRLF; for retries that look at them.
    """

    status: int
    kind: EventKind = EventKind.HEAD
    retry_after: float | None = None
    lines: bytes = b""


class Reset(msgspec.Struct, frozen=True, gc=False):
    """The endpoint closed or reset before its response was complete.

    ``protocol``: what came was not HTTP. The race between a request on a kept-alive connection
    and the endpoint's idle close is the driver's to mend: the endpoint never saw the request.
    """

    protocol: bool = False
    kind: EventKind = EventKind.RESET


class TimedOut(msgspec.Struct, frozen=True, gc=False):
    stage: Stage
    kind: EventKind = EventKind.TIMED_OUT


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """Whoever runs the router ends the exchange. ``reason`` is one sentence for the client."""

    reason: str = "cancelled by an operator"
    kind: EventKind = EventKind.CANCEL


class Verdicts(msgspec.Struct, frozen=True, gc=False):
    """The store of limits that all routers share has answered; None: it will not."""

    verdicts: tuple[Verdict, ...] | None
    kind: EventKind = EventKind.VERDICTS


START = Event(EventKind.START)
GRANTED = Event(EventKind.GRANTED)
CONNECTED = Event(EventKind.CONNECTED)
CONNECT_FAILED = Event(EventKind.CONNECT_FAILED)
COMPLETE = Event(EventKind.COMPLETE)
CLIENT_GONE = Event(EventKind.CLIENT_GONE)
MARK = Event(EventKind.MARK)
"""As many events of the stream have gone to the client as the ``Relay`` effect named."""

DISPLACED = Event(EventKind.DISPLACED)
CANCEL = Cancel()
RESET = Reset()


class OfAttempt(msgspec.Struct, frozen=True, gc=False):
    """What happened to one attempt of a race. A Head is fed with the first byte of its body.

    ``attempt``: its number, from the effect that started it.
    """

    attempt: int
    event: Event | Head | Reset | TimedOut
    kind: EventKind = EventKind.OF_ATTEMPT


AnyEvent = Event | Head | Reset | TimedOut | Cancel | Verdicts | OfAttempt


# --- effects --------------------------------------------------------------------------------


class Connect(msgspec.Struct, frozen=True, gc=False):
    """Drop the previous attempt, if any, and send the request to ``endpoint``.

    ``attempt`` counts from 1. ``connect_timeout`` and ``first_byte_timeout`` in seconds, 0 = none.
    ``race``: from now on what happens to the attempt is an ``OfAttempt``, and after ``hedge_after``
    seconds, unless it is 0, a HEDGE time-out is due.
    """

    endpoint: Endpoint
    attempt: int
    connect_timeout: float
    first_byte_timeout: float
    race: bool = False
    hedge_after: float = 0.0


class SendToo(msgspec.Struct, frozen=True, gc=False):
    """Send the request to ``endpoint`` as well, and keep what is under way. As ``Connect``."""

    endpoint: Endpoint
    attempt: int
    connect_timeout: float
    first_byte_timeout: float
    hedge_after: float


class Drop(msgspec.Struct, frozen=True, gc=False):
    """Give up these attempts of a race; another goes on."""

    attempts: tuple[int, ...]


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Stand by. ``timeout``: seconds until a time-out of ``stage``, 0 = nothing new to time.

    With a time-out no attempt is under way: the previous one, if any, is to be dropped.
    """

    timeout: float = 0.0
    stage: Stage = Stage.QUEUE


class Hold(msgspec.Struct, frozen=True, gc=False):
    """Stand by until a HOLD time-out after ``seconds``, in which no other time-out runs."""

    seconds: float


class Relay(msgspec.Struct, frozen=True, gc=False):
    """Pass the response on. ``idle_timeout`` in seconds, 0 = none.

    ``mark``: a stream's event, counted from 1, after which MARK is to be fed before anything
    further goes to the client; 0 for none.
    """

    idle_timeout: float
    mark: int = 0


class Stall(msgspec.Struct, frozen=True, gc=False):
    """Pass nothing on, nor read, until a HOLD time-out after ``seconds``; TOTAL still runs."""

    seconds: float


class Reject(msgspec.Struct, frozen=True, gc=False):
    """Answer with this error; no response head has been sent. The exchange is over."""

    error: RouterError


class Answer(msgspec.Struct, frozen=True, gc=False):
    """Answer so, without an endpoint. The exchange is over. ``lines``: header lines, no CRLF."""

    status: int
    lines: tuple[bytes, ...]
    body: bytes = b""


class Finish(msgspec.Struct, frozen=True, gc=False):
    """The exchange is over and the upstream connection, if still busy, is to be closed.

    ``error`` is None if all went well or nobody is there to be told; otherwise the head has been
    sent, and the stream must be ended so that the client sees it is not complete.
    """

    error: RouterError | None = None


STAND_BY = Wait()
FINISHED = Finish()

Effect = Connect | SendToo | Drop | Wait | Hold | Relay | Stall | Reject | Answer | Finish

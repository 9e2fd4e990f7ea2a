"""Where an exchange can be in its life; the way between them is in ``transitions``."""

import enum


class State(enum.IntEnum):
    NEW = 0
    LIMITING = 1  # the store of rate limits that all routers share has been asked
    DELAYED = 2  # the route's fault injection holds it
    QUEUED = 3
    CONNECTING = 4
    WAITING_FIRST_BYTE = 5
    STREAMING = 6
    BACKING_OFF = 7
    DONE = 8
    REJECTED = 9
    ABORTED = 10


class IllegalEvent(RuntimeError):
    """The driver fed an event that cannot happen in this state."""


TERMINAL = frozenset({State.DONE, State.REJECTED, State.ABORTED})

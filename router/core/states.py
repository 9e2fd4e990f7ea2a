"""Where an exchange can be in its life; the way between them is in ``transitions``."""

import enum


class State(enum.IntEnum):
    NEW = 0
    LIMITING = 1  # the store of rate limits that all routers share has been asked
    QUEUED = 2
    CONNECTING = 3
    WAITING_FIRST_BYTE = 4
    STREAMING = 5
    BACKING_OFF = 6
    DONE = 7
    REJECTED = 8
    ABORTED = 9


class IllegalEvent(RuntimeError):
    """The driver fed an event that cannot happen in this state."""


TERMINAL = frozenset({State.DONE, State.REJECTED, State.ABORTED})

"""Where an exchange can be in its life; the way between them is in ``transitions``."""

import enum


class State(enum.IntEnum):
    NEW = 0
    QUEUED = 1
    CONNECTING = 2
    WAITING_FIRST_BYTE = 3
    STREAMING = 4
    BACKING_OFF = 5
    DONE = 6
    REJECTED = 7
    ABORTED = 8


class IllegalEvent(RuntimeError):
    """The driver fed an event that cannot happen in this state."""


TERMINAL = frozenset({State.DONE, State.REJECTED, State.ABORTED})

"""What a client's connection is about; see ``downstream``."""

import enum


class Phase(enum.IntEnum):
    """``HEAD``: between two requests, or in a head. ``BUSY``: a request is being answered.
    ``LINGER``: the last answer is out, and what still comes is dropped."""

    HEAD = 0
    BODY = 1
    BUSY = 2
    LINGER = 3
    CLOSED = 4

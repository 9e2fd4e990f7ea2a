"""What became of one request."""

import enum

import msgspec

from router.sim.workload import Arrival


class End(enum.StrEnum):
    DONE = "done"
    REFUSED = "refused"  # by a router, before any engine gave a byte
    FAILED = "failed"  # by an engine, or with it


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """Times in picoseconds, -1 where it did not come to that.

    ``crowd`` is the most requests at one replica over the mean of all, as it arrived.
    """

    arrival: Arrival
    end: End
    replica: int
    attempts: int
    cached: int
    first: int
    done: int
    crowd: float

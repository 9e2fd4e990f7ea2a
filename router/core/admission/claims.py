"""The parts of a reservation: what was taken of each bucket, and where it is charged."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from router.core.admission.rate_limit import RateLimit
from router.core.admission.token_bucket import BucketSpec, Draw


class Ledger(Protocol):
    """Where buckets are charged: a store of this machine, or one that all routers share."""

    def charge(self, draws: Sequence[Draw], now: float) -> float:
        """Take the amounts, whatever is there; negative ones are given back."""
        ...

    def owe(self, key: int, spec: BucketSpec, amount: float, now: float) -> None:
        """As ``charge`` of one bucket, soon: nobody waits for it."""
        ...


class ReservationError(RuntimeError):
    """A reservation was settled twice: a request was charged twice."""


class Ticket:
    """A question to a store that answers later. ``withdrawn``: nobody waits for the answer any
    more, and what it grants is to be given back. ``ledger``: where that is charged later on."""

    __slots__ = ("draws", "ledger", "serial", "withdrawn")

    def __init__(self, serial: int, draws: tuple[Draw, ...], ledger: Ledger) -> None:
        self.serial = serial
        self.draws = draws
        self.ledger = ledger
        self.withdrawn = False

    def withdraw(self) -> None:
        self.withdrawn = True


Wanted = tuple[tuple[RateLimit, ...], tuple[Draw, ...]]
"""Limits, and what is drawn of each."""


class Claim(msgspec.Struct, gc=False):
    """What was taken of one bucket, by which draw, and what of it is charged now."""

    limit: RateLimit
    draw: Draw
    charged: float
    ledger: Ledger

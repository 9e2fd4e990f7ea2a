"""The parts of a reservation: what was taken of each bucket, and where it is charged."""

from router.core.admission.ledger import Ledger
from router.core.admission.rate_limit import RateLimit
from router.core.admission.token_bucket import Draw


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


class Claim:
    """What was taken of one bucket, by which draw, and what of it is ``charged`` now."""

    __slots__ = ("charged", "draw", "ledger", "limit")

    def __init__(self, limit: RateLimit, draw: Draw, charged: float, ledger: Ledger) -> None:
        self.limit = limit
        self.draw = draw
        self.charged = charged
        self.ledger = ledger

"""What a request holds of its limits' buckets: taken when it starts, settled once when it ends.

The companion of ``core.host.Lease``. A reservation takes what the request may come to; while a
stream runs longer than that, ``debit`` takes what came beyond; ``settle`` gives back what was not
used, or charges what was not reserved, and may be called once.
"""

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


class ReservationError(RuntimeError):
    """A reservation was settled twice: a request was charged twice."""


class Ticket:
    """A question to a store that answers later. ``withdrawn``: nobody waits for the answer any
    more, and what it grants is to be given back."""

    __slots__ = ("draws", "serial", "withdrawn")

    def __init__(self, serial: int, draws: tuple[Draw, ...]) -> None:
        self.serial = serial
        self.draws = draws
        self.withdrawn = False

    def withdraw(self) -> None:
        self.withdrawn = True


class Claim(msgspec.Struct, gc=False):
    """What was taken of one bucket. ``spec``: the bucket's as it was drawn on."""

    limit: RateLimit
    key: int
    spec: BucketSpec
    charged: float
    ledger: Ledger


class Reservation:
    """One request's claims.

    Attributes:
        prompt: tokens that its prompt was guessed to have.
        reached: whether an endpoint was sent the request.
        tokens: whether any claim is on LLM tokens.
        asked: limits whose store has been asked and has not answered.
        ticket: the question to it, if one is open.
    """

    __slots__ = ("asked", "claims", "prompt", "reached", "settled", "ticket", "tokens")

    def __init__(self, prompt: float = 0.0) -> None:
        self.claims: list[Claim] = []
        self.prompt = prompt
        self.reached = False
        self.tokens = False
        self.settled = False
        self.asked: tuple[tuple[RateLimit, Draw], ...] = ()
        self.ticket: Ticket | None = None

    def hold(self, claim: Claim) -> None:
        self.claims.append(claim)
        self.tokens = self.tokens or claim.limit.unit == "tokens"

    def debit(self, used: float, now: float) -> float:
        """Charge the tokens used so far as far as they exceed what was taken.

        Returns:
            the tokens that the bounds of debt forgave.
        """
        return self._adjust(
            [c for c in self.claims if c.limit.unit == "tokens" and used > c.charged], used, now
        )

    def settle(self, used: float, now: float) -> float:
        """Bring every claim to what the request came to.

        Args:
            used: LLM tokens. A request counts for one if it reached an endpoint, else for none.

        Returns:
            the tokens that the bounds of debt forgave.

        Raises:
            ReservationError: on a second call.
        """
        if self.settled:
            raise ReservationError("reservation settled twice")
        self.settled = True
        if not self.reached:
            return self._adjust(self.claims, 0.0, now)
        return self._adjust([c for c in self.claims if c.limit.unit == "tokens"], used, now)

    def _adjust(self, claims: list[Claim], used: float, now: float) -> float:
        due: dict[Ledger, list[Draw]] = {}
        for claim in claims:
            if used != claim.charged:
                draws = due.setdefault(claim.ledger, [])
                draws.append(Draw(claim.key, claim.spec, used - claim.charged))
                claim.charged = used
        return sum(ledger.charge(draws, now) for ledger, draws in due.items())

    def __repr__(self) -> str:
        state = "settled" if self.settled else "held"
        return f"<Reservation {state} {[(c.limit.name, c.charged) for c in self.claims]}>"

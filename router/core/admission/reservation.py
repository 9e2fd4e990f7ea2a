"""What a request holds of its limits' buckets: taken when it starts, settled once when it ends.

The companion of ``core.host.Lease``. A reservation takes what the request may come to; while a
stream runs longer than that, ``debit`` takes what came beyond; ``settle`` gives back what was not
used, or charges what was not reserved, and may be called once.
"""

from router.core.admission.claims import Claim, Ledger, ReservationError, Ticket, Wanted
from router.core.admission.token_bucket import Draw


class Reservation:
    """One request's claims.

    Attributes:
        prompt: tokens that its prompt was guessed to have.
        reached: whether an endpoint was sent the request.
        tokens: whether any claim is on LLM tokens.
        asked: limits whose store has been asked and has not answered, and what of them.
        ticket: the question to it, if one is open.
    """

    __slots__ = ("asked", "claims", "prompt", "reached", "settled", "ticket", "tokens")

    def __init__(self, prompt: float = 0.0, tokens: bool = False) -> None:
        self.claims: list[Claim] = []
        self.prompt = prompt
        self.reached = False
        self.tokens = tokens
        self.settled = False
        self.asked: Wanted | None = None
        self.ticket: Ticket | None = None

    def debit(self, used: float, now: float) -> float:
        """Charge the tokens used so far as far as they exceed what was taken.

        Returns:
            the tokens that the bounds of debt forgave.
        """
        over = [c for c in self.claims if c.limit.unit == "tokens" and used > c.charged]
        return _adjust(over, used, now)

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
            return _adjust(self.claims, 0.0, now)
        if not self.tokens:
            return 0.0
        return _adjust([c for c in self.claims if c.limit.unit == "tokens"], used, now)

    def __repr__(self) -> str:
        state = "settled" if self.settled else "held"
        return f"<Reservation {state} {[(c.limit.name, c.charged) for c in self.claims]}>"


def _adjust(claims: list[Claim], used: float, now: float) -> float:
    """Bring claims to ``used``, of each store in one step; returns what debt's bounds forgave."""
    due: dict[Ledger, list[Draw]] = {}
    for claim in claims:
        if (more := used - claim.charged) != 0:
            claim.charged = used
            draw = Draw(claim.draw.key, claim.draw.spec, more)
            due.setdefault(claim.ledger, []).append(draw)
    forgiven = 0.0
    for ledger, draws in due.items():
        forgiven += ledger.charge(draws, now)
    return forgiven

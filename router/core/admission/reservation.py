"""What a request holds of its limits' buckets: taken when it starts, settled once when it ends.

The companion of ``core.host.Lease``. A reservation takes what the request may come to; while a
stream runs longer than that, ``debit`` takes what came beyond; ``settle`` gives back what was not
used, or charges what was not reserved, and may be called once.
"""

from router.core.admission.claims import Claim, Ticket, Wanted
from router.core.admission.ledger import Ledger
from router.core.admission.token_bucket import Draw
from router.core.errors import ReservationError


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
        due: dict[Ledger, list[Draw]] = {}
        for claim in self.claims:
            if claim.limit.unit == "tokens" and used > claim.charged:
                draw = Draw(claim.draw.key, claim.draw.spec, used - claim.charged)
                claim.charged = used
                due.setdefault(claim.ledger, []).append(draw)
        forgiven = 0.0
        for ledger, draws in due.items():
            forgiven += ledger.charge(draws, now)
        return forgiven

    def settle(self, used: float, now: float) -> None:
        """Bring every claim to what the request came to; their ledgers charge it soon.

        Args:
            used: LLM tokens. A request counts for one if it reached an endpoint, else for none.

        Raises:
            ReservationError: on a second call.
        """
        if self.settled:
            raise ReservationError("reservation settled twice")
        self.settled = True
        reached = self.reached
        if reached and not self.tokens:
            return
        for claim in self.claims:
            if not reached:
                came = 0.0
            elif claim.limit.unit == "tokens":
                came = used
            else:
                continue
            if (more := came - claim.charged) != 0.0:
                claim.charged = came
                draw = claim.draw
                claim.ledger.owe(draw.key, draw.spec, more, now)

    def __repr__(self) -> str:
        state = "settled" if self.settled else "held"
        return f"<Reservation {state} {[(c.limit.name, c.charged) for c in self.claims]}>"
